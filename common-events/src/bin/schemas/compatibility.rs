//! Whether a schema may take another's place under the same version (docs/contract.md §4): events already on
//! the topics stay readable, and readers of the old schema can read what is written under the new.
//!
//! Both at once leave one change: a new optional field. Whatever narrows the schema locks out old
//! events, whatever widens it locks out old readers, so anything else counts as a difference, also a
//! keyword this file has never heard of. Only how a schema is put down doesn't matter: words for
//! people, references against the same written out, order where it says nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value, json};

#[cfg(test)]
mod tests;

/// How deep schemas may nest; types that contain themselves have no end.
const MAX_DEPTH: usize = 64;

/// What is for people, and what is reached through references.
const SAYS_NOTHING: &[&str] =
    &["title", "description", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$defs"];

/// One incompatible difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where in the event.
    path: String,
    /// What changes there.
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Everything that keeps `new` from taking the place of `old`. Empty when it may.
pub(crate) fn incompatibilities(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    match (normal_form(old, old, 0), normal_form(new, new, 0)) {
        (Ok(old), Ok(new)) => compare("$", &old, &new, &mut found),
        (Err(what), _) | (_, Err(what)) => note("$", what, &mut found),
    }
    found
}

fn note(path: &str, what: impl Into<String>, found: &mut Vec<Difference>) {
    found.push(Difference { path: path.to_owned(), what: what.into() });
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        if old != new {
            note(path, format!("was {}, would be {}", shown(Some(old)), shown(Some(new))), found);
        }
        return;
    };
    compare_fields(path, old, new, found);
    let keywords: BTreeSet<_> = old.keys().chain(new.keys()).map(String::as_str).collect();
    for keyword in keywords {
        match (keyword, old.get(keyword), new.get(keyword)) {
            ("properties" | "required", _, _) => {}
            ("items", Some(old), Some(new)) => compare(&format!("{path}[*]"), old, new, found),
            ("additionalProperties", Some(old), Some(new)) => compare(&format!("{path}.*"), old, new, found),
            ("enum", Some(Value::Array(old)), Some(Value::Array(new))) => compare_values(path, old, new, found),
            ("allOf" | "anyOf" | "oneOf", Some(Value::Array(old)), Some(Value::Array(new))) => {
                compare_branches(&format!("{path}.{keyword}"), old, new, found);
            }
            (_, old, new) if old == new => {}
            (_, old, new) => note(path, format!("{keyword} was {}, would be {}", shown(old), shown(new)), found),
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}

struct Field<'a> {
    required: bool,
    schema: &'a Value,
}

fn fields(object: &Map<String, Value>) -> BTreeMap<&str, Field<'_>> {
    let required: BTreeSet<_> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let described = object.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut fields: BTreeMap<_, _> = described
        .map(|(name, schema)| (name.as_str(), Field { required: required.contains(name.as_str()), schema }))
        .collect();
    for name in required {
        fields.entry(name).or_insert(Field { required: true, schema: &Value::Bool(true) });
    }
    fields
}

fn compare_fields(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<Difference>) {
    let takes_unknown = ["additionalProperties", "unevaluatedProperties"]
        .iter()
        .all(|keyword| old.get(*keyword).is_none_or(|allowed| *allowed == Value::Bool(true)));
    let (before, after) = (fields(old), fields(new));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    for name in names {
        let path = format!("{path}.{name}");
        match (before.get(name), after.get(name)) {
            (Some(_), None) => note(&path, "removed", found),
            (None, Some(Field { required: true, .. })) => {
                note(&path, "new and required: events already on the topic lack it", found);
            }
            (None, Some(_)) if !takes_unknown => {
                note(&path, "new, and readers of the old schema take no unknown field", found);
            }
            (Some(before), Some(after)) => {
                match (before.required, after.required) {
                    (false, true) => {
                        note(&path, "required, was optional: events already on the topic may lack it", found);
                    }
                    (true, false) => note(&path, "optional, was required: readers of the old schema need it", found),
                    (true, true) | (false, false) => {}
                }
                compare(&path, before.schema, after.schema, found);
            }
            (None, _) => {}
        }
    }
}

fn compare_values(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Difference>) {
    for gone in old.iter().filter(|value| !new.contains(value)) {
        note(path, format!("{gone} is no longer a value: events already on the topic may hold it"), found);
    }
    for added in new.iter().filter(|value| !old.contains(value)) {
        note(path, format!("{added} is a new value: readers of the old schema don't know it"), found);
    }
}

/// Branches have no names: each is held against one it agrees with, else against the next that is left.
fn compare_branches(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Difference>) {
    let agree = |old: &Value, new: &Value| {
        let mut differences = Vec::new();
        compare(path, old, new, &mut differences);
        differences.is_empty()
    };
    let mut unmatched: Vec<_> = new.iter().collect();
    let mut changed = Vec::new();
    for (position, branch) in old.iter().enumerate() {
        match unmatched.iter().position(|candidate| agree(branch, candidate)) {
            Some(same) => drop(unmatched.remove(same)),
            None => changed.push((position, branch)),
        }
    }
    let mut unmatched = unmatched.into_iter();
    for (position, branch) in changed {
        let path = format!("{path}[{position}]");
        match unmatched.next() {
            Some(candidate) => compare(&path, branch, candidate, found),
            None => note(&path, "removed: events already on the topic may be so", found),
        }
    }
    for added in unmatched {
        note(path, format!("new: readers of the old schema don't know {added}"), found);
    }
}

/// The schema with references written out, without words for people, and in one way of putting it.
fn normal_form(root: &Value, schema: &Value, depth: usize) -> Result<Value, String> {
    let Value::Object(keywords) = schema else { return Ok(schema.clone()) };
    if depth == MAX_DEPTH {
        return Err(format!("nests deeper than {MAX_DEPTH}: can't be compared"));
    }
    let below = |schema: &Value| normal_form(root, schema, depth + 1);
    let mut normal = Map::new();
    let mut referred = None;
    for (keyword, value) in keywords {
        let value = match (keyword.as_str(), value) {
            (keyword, _) if SAYS_NOTHING.contains(&keyword) => continue,
            ("$ref", reference) => {
                referred = Some(below(target(root, reference)?)?);
                continue;
            }
            ("const", value) => {
                normal.insert("enum".to_owned(), json!([value]));
                continue;
            }
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(named)) => {
                named.iter().map(|(name, schema)| Ok((name.clone(), below(schema)?))).collect::<Result<_, String>>()?
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter().map(below).collect::<Result<_, _>>()?
            }
            (
                "items"
                | "contains"
                | "not"
                | "if"
                | "then"
                | "else"
                | "propertyNames"
                | "additionalProperties"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                schema,
            ) => below(schema)?,
            ("type" | "enum" | "required", Value::Array(values)) => in_order(values),
            (_, value) => value.clone(),
        };
        normal.insert(keyword.clone(), value);
    }
    Ok(with_reference(merge_branches(normal), referred))
}

fn target<'a>(root: &'a Value, reference: &Value) -> Result<&'a Value, String> {
    let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).ok_or_else(|| format!("{reference} leads nowhere"))
}

fn in_order(values: &[Value]) -> Value {
    let mut values = values.to_vec();
    values.sort_by_key(Value::to_string);
    Value::Array(values)
}

fn with_reference(mut normal: Map<String, Value>, referred: Option<Value>) -> Value {
    match referred {
        None => Value::Object(normal),
        Some(referred) if normal.is_empty() => referred,
        Some(referred) => {
            if let Value::Array(all) = normal.entry("allOf").or_insert_with(|| json!([])) {
                all.push(referred);
            }
            Value::Object(normal)
        }
    }
}

/// A choice between constants is an enum, and one between something and null a nullable something:
/// which of the two stands in the schema depends on comments and on newtypes.
fn merge_branches(mut normal: Map<String, Value>) -> Map<String, Value> {
    let merged = match (normal.get("oneOf"), normal.get("anyOf")) {
        (Some(Value::Array(branches)), None) => one_enum(branches),
        (None, Some(Value::Array(branches))) => nullable(branches),
        _ => None,
    };
    if let Some(merged) = merged.filter(|merged| merged.keys().all(|keyword| !normal.contains_key(keyword))) {
        normal.remove("oneOf");
        normal.remove("anyOf");
        normal.extend(merged);
    }
    normal
}

fn one_enum(branches: &[Value]) -> Option<Map<String, Value>> {
    let kind = branches.first()?.get("type")?;
    let mut values = Vec::new();
    for branch in branches {
        let branch = branch.as_object().filter(|branch| branch.len() == 2 && branch.get("type") == Some(kind))?;
        values.extend(branch.get("enum")?.as_array()?.iter().cloned());
    }
    Some(Map::from_iter([("type".to_owned(), kind.clone()), ("enum".to_owned(), in_order(&values))]))
}

fn nullable(branches: &[Value]) -> Option<Map<String, Value>> {
    let null = json!({ "type": "null" });
    let [some, _] = branches else { return None };
    if branches[1] != null {
        return None;
    }
    let mut some = some.as_object().filter(|some| !some.contains_key("enum"))?.clone();
    let kind = some.get("type")?.as_str()?.to_owned();
    some.insert("type".to_owned(), in_order(&[kind.into(), "null".into()]));
    Some(some)
}
