//! What has no value is left out of answers and parameters (docs/contract.md §3), so what may be missing there is
//! never null. In a body that is sent, null says the same as nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const SCHEMAS: &str = "#/components/schemas/";

/// Takes null out of the document wherever nobody sends it.
pub(super) fn leave_out(document: &mut Value) {
    let mut sent = BTreeSet::new();
    for operation in operations(document) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten();
        parameters.filter_map(|parameter| parameter.get_mut("schema")).for_each(not_null);
        let bodies = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
        for schema in
            bodies.into_iter().flat_map(|bodies| bodies.values_mut()).filter_map(|body| body.get_mut("schema"))
        {
            not_null(schema);
            sent.extend(referred(schema));
        }
    }
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else { return };
    let mut unfollowed: Vec<String> = sent.iter().cloned().collect();
    while let Some(name) = unfollowed.pop() {
        let further = schemas.get(&name).map(referred).unwrap_or_default();
        unfollowed.extend(further.into_iter().filter(|name| sent.insert(name.clone())));
    }
    schemas.iter_mut().filter(|(name, _)| !sent.contains(*name)).for_each(|(_, schema)| of_optional(schema));
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut);
    items.flat_map(|item| item.values_mut())
}

/// The names of the schemas that this one refers to.
fn referred(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix(SCHEMAS));
            own.map(str::to_owned).into_iter().chain(fields.values().flat_map(referred)).collect()
        }
        Value::Array(items) => items.iter().flat_map(referred).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Of every property that need not be there, at any depth.
fn of_optional(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let required: Vec<Value> = fields.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            let properties = fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
            let optional = properties.filter(|(name, _)| !required.iter().any(|known| known == *name));
            optional.for_each(|(_, property)| not_null(property));
            fields.values_mut().for_each(of_optional);
        }
        Value::Array(items) => items.iter_mut().for_each(of_optional),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn not_null(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = fields.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = &kinds[..] {
            let kind = kind.clone();
            fields.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(ways)) = fields.get_mut("oneOf") {
        ways.retain(|way| way["type"] != "null");
        if let [Value::Object(way)] = &ways[..] {
            let way: Map<String, Value> = way.clone();
            fields.remove("oneOf");
            fields.extend(way);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_sent_may_be_null() {
        let mug = json!({"properties": {"name": {"type": "string"}, "note": {"type": ["string", "null"]}}, "required": ["name"]});
        let mut document = json!({
            "paths": {"/mugs": {"post": {
                "parameters": [{"name": "limit", "schema": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Limit"}]}}],
                "requestBody": {"content": {"application/json": {"schema": {
                    "oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/NewMugs"}],
                }}}},
            }}},
            "components": {"schemas": {
                "NewMugs": {"properties": {"mugs": {"items": {"$ref": "#/components/schemas/NewMug"}}}},
                "NewMug": mug, "Mug": mug,
                "Owned": {"required": ["owner"], "properties": {
                    "owner": {"type": ["object", "null"]},
                    "mug": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Mug", "description": "His."}]},
                }},
            }},
        });
        leave_out(&mut document);
        let post = &document["paths"]["/mugs"]["post"];
        assert_eq!(post["parameters"][0]["schema"], json!({"$ref": "#/components/schemas/Limit"}));
        let body = &post["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(*body, json!({"$ref": "#/components/schemas/NewMugs"}));
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["NewMug"], mug);
        assert_eq!(schemas["Mug"]["properties"]["note"], json!({"type": "string"}));
        let owned = &schemas["Owned"]["properties"];
        assert_eq!(owned["owner"], json!({"type": ["object", "null"]}));
        assert_eq!(owned["mug"], json!({"$ref": "#/components/schemas/Mug", "description": "His."}));
    }
}
