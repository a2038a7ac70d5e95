//! What the house wants of a document beyond OpenAPI, so that clients can be generated from it and rely on it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Operation, operations, visit};

const PROBLEM: &str = "#/components/schemas/Problem";
const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong, in words.
pub(super) fn faults(document: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    references(document, &mut faults);
    words(document, &mut faults);
    kinds(document, &mut faults);
    let mut ids = BTreeMap::new();
    for operation in operations(document) {
        let name = operation.name();
        if let Some(other) = ids.insert(operation.says["operationId"].to_string(), name.clone()) {
            faults.push(format!("{name}: its operationId is that of {other}"));
        }
        for wanted in ["operationId", "summary"] {
            if !is_said(&operation.says[wanted]) {
                faults.push(format!("{name}: no {wanted}"));
            }
        }
        if operation.says["tags"].as_array().is_none_or(Vec::is_empty) {
            faults.push(format!("{name}: no tag"));
        }
        answers(document, &operation, &mut faults);
        parameters(&operation, &mut faults);
        security(document, &operation, &mut faults);
    }
    let sent = sent(document);
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        if sent.contains(name) {
            visit(name, schema, &mut |place, schema| limits(place, schema, &mut faults));
        } else {
            visit(name, schema, &mut |place, schema| no_null(place, schema, &mut faults));
        }
        visit(name, schema, &mut |place, schema| times(place, schema, &mut faults));
    }
    faults
}

fn is_said(text: &Value) -> bool {
    text.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Each leads somewhere in the document.
fn references(document: &Value, faults: &mut Vec<String>) {
    visit("", document, &mut |place, value| {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return };
        let leads = reference.strip_prefix('#').is_some_and(|pointer| document.pointer(pointer).is_some());
        if !leads {
            faults.push(format!("{place}: {reference} leads nowhere"));
        }
    });
}

/// Of two types with one name in one document, one takes the place of the other unseen.
pub(super) fn names_of_two(some: &Value, others: &Value) -> Vec<String> {
    let schemas = |document: &Value| document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let others = schemas(others);
    let differ = |(name, schema): &(String, Value)| others.get(name).is_some_and(|other| other != schema);
    schemas(some).into_iter().filter(differ).map(|(name, _)| format!("two types are called {name}")).collect()
}

/// They are spelled as on the wire, which is never as in Rust: `DONE`, `dry-run`.
fn words(document: &Value, faults: &mut Vec<String>) {
    visit("", document, &mut |place, value| {
        for word in value.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let upper = word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let lower = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            if !upper && !lower {
                faults.push(format!("{place}: {word:?} is no word of the wire"));
            }
        }
    });
}

/// What has to fit all of several schemas can: nothing is a text and an object.
fn kinds(document: &Value, faults: &mut Vec<String>) {
    let of = |part: &Value| -> Option<BTreeSet<String>> {
        let meant = part["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#')));
        let kinds: Vec<&Value> = match &meant.unwrap_or(part)["type"] {
            Value::Array(kinds) => kinds.iter().collect(),
            kind => vec![kind],
        };
        // Each integer is a number; and that both may be null helps nobody who has a value.
        let kinds = kinds.into_iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
        let kinds: BTreeSet<String> = kinds.map(|kind| kind.replace("integer", "number")).collect();
        (!kinds.is_empty()).then_some(kinds)
    };
    visit("", document, &mut |place, value| {
        let parts = value.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let common = parts.filter_map(of).reduce(|some, others| &some & &others);
        if common.is_some_and(|common| common.is_empty()) {
            faults.push(format!("{place}: is of two kinds at once"));
        }
    });
}

fn answers(document: &Value, operation: &Operation<'_>, faults: &mut Vec<String>) {
    let name = operation.name();
    for (status, answer) in operation.answers() {
        if !is_said(&answer["description"]) {
            faults.push(format!("{name}: {status} says nothing of itself"));
        }
        if !answer["headers"]["X-Trace-Id"].is_object() {
            faults.push(format!("{name}: {status} has no X-Trace-Id"));
        }
        let bodies: Vec<(&String, &Value)> = answer["content"].as_object().into_iter().flatten().collect();
        let is_problem = !status.starts_with('2');
        let wanted = if is_problem { PROBLEM_JSON } else { "application/json" };
        let [(kind, body)] = bodies[..] else {
            faults.push(format!("{name}: {status} has {} bodies", bodies.len()));
            continue;
        };
        if kind != wanted {
            faults.push(format!("{name}: {status} is {kind}, not {wanted}"));
        }
        if is_problem && !is_a_problem(document, &body["schema"]) {
            faults.push(format!("{name}: {status} is no problem"));
        }
    }
}

/// A problem, or something that is one and more.
fn is_a_problem(document: &Value, schema: &Value) -> bool {
    let Some(reference) = schema["$ref"].as_str() else { return false };
    let meant = document.pointer(reference.trim_start_matches('#'));
    let all_of = meant.and_then(|schema| schema["allOf"].as_array()).into_iter().flatten();
    reference == PROBLEM || all_of.into_iter().any(|part| part["$ref"] == PROBLEM)
}

fn parameters(operation: &Operation<'_>, faults: &mut Vec<String>) {
    let name = operation.name();
    let in_path: BTreeSet<&str> =
        operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    let mut described = BTreeSet::new();
    for parameter in operation.parameters() {
        let (called, schema) = (parameter["name"].as_str().unwrap_or_default(), &parameter["schema"]);
        if parameter["in"] == "path" {
            described.insert(called);
        } else if !is_said(&parameter["description"]) {
            faults.push(format!("{name}: nothing is said of {called}"));
        }
        visit(called, schema, &mut |place, schema| {
            if takes_null(schema) {
                faults.push(format!("{name}: {place} is never null"));
            }
        });
        if is_unbounded_number(schema) {
            faults.push(format!("{name}: {called} has no bounds"));
        }
    }
    if described != in_path {
        faults.push(format!("{name}: the path has {in_path:?}, described are {described:?}"));
    }
}

fn security(document: &Value, operation: &Operation<'_>, faults: &mut Vec<String>) {
    let schemes = &document["components"]["securitySchemes"];
    for requirement in operation.says["security"].as_array().into_iter().flatten().filter_map(Value::as_object) {
        for scheme in requirement.keys().filter(|scheme| !schemes[*scheme].is_object()) {
            faults.push(format!("{}: there is no security scheme {scheme}", operation.name()));
        }
    }
}

/// The names of the schemas that bodies consist of.
fn sent(document: &Value) -> BTreeSet<String> {
    let (mut sent, mut unfollowed) = (BTreeSet::new(), Vec::new());
    let mut follow = |schema: &Value, unfollowed: &mut Vec<String>| {
        visit("", schema, &mut |_, value| {
            let name = value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
            if let Some(name) = name.filter(|name| sent.insert((*name).to_owned())) {
                unfollowed.push(name.to_owned());
            }
        });
    };
    for body in operations(document).collect::<Vec<_>>().iter().flat_map(Operation::bodies) {
        follow(body, &mut unfollowed);
    }
    while let Some(name) = unfollowed.pop() {
        follow(&document["components"]["schemas"][&name], &mut unfollowed);
    }
    sent
}

/// What is asked for says how much of it is taken.
fn limits(place: &str, schema: &Value, faults: &mut Vec<String>) {
    if is_unbounded_number(schema) {
        faults.push(format!("{place}: a number without bounds"));
    }
    if is_of(schema, "array") && schema["maxItems"].is_null() {
        faults.push(format!("{place}: as many as one likes"));
    }
    let bounds = ["enum", "format", "pattern", "maxLength"];
    if is_of(schema, "string") && bounds.iter().all(|bound| schema[*bound].is_null()) {
        faults.push(format!("{place}: a text as long as one likes"));
    }
}

fn is_unbounded_number(schema: &Value) -> bool {
    let is_number = is_of(schema, "integer") || is_of(schema, "number");
    is_number && (schema["minimum"].is_null() || schema["maximum"].is_null())
}

fn is_of(schema: &Value, kind: &str) -> bool {
    let of = &schema["type"];
    of == kind || of.as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

fn takes_null(schema: &Value) -> bool {
    is_of(schema, "null") && schema["required"].is_null()
}

/// What has no value is left out of answers.
fn no_null(place: &str, schema: &Value, faults: &mut Vec<String>) {
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, property) in properties.filter(|(name, _)| !required(name)) {
        let ways = property["oneOf"].as_array().into_iter().flatten();
        if is_of(property, "null") || ways.into_iter().any(|way| is_of(way, "null")) {
            faults.push(format!("{place}/{name}: is left out, and never null"));
        }
    }
}

/// What is called `dueAt` is a time, unless it is a number (`lookedAt`: so many).
fn times(place: &str, schema: &Value, faults: &mut Vec<String>) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let is_number = is_of(property, "integer");
        if name.ends_with("At") && !is_number && property["format"] != "date-time" {
            faults.push(format!("{place}/{name}: is no date-time"));
        }
    }
}
