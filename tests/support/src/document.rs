//! A service's `/openapi.json`, held against OpenAPI 3.1, against what the house wants of it, and against what the
//! service answers. Without the network: the schemas of OpenAPI are those of spec.openapis.org (Apache-2.0), kept in
//! `openapi-3.1`.

mod answers;
mod identity;
mod limits;
mod rules;
mod words;

use std::sync::{Arc, LazyLock};

use jsonschema::{Registry, Validator};
use messaging::{admin::Office, delivery::Group};
use serde_json::Value;
use service_runtime::{
    Runtime,
    http::{Routes, document},
};

pub(crate) use answers::{Asked, Described};
pub use limits::{assert_bounds, assert_limit};
pub use words::assert_words;

/// The document's root, and the schemas it is put together of.
const OPENAPI: &str = include_str!("../openapi-3.1/schema-base.json");
const PARTS: [&str; 3] = [
    include_str!("../openapi-3.1/schema.json"),
    include_str!("../openapi-3.1/dialect.json"),
    include_str!("../openapi-3.1/meta.json"),
];

/// OpenAPI 3.1, down to each schema of a document.
static OPENAPI_3_1: LazyLock<Validator> = LazyLock::new(|| {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let parts = PARTS.map(read);
    let registry = parts.iter().fold(Registry::new(), |registry, part| {
        registry.add(part["$id"].as_str().expect("a name"), part).expect("a schema")
    });
    let registry = registry.prepare().expect("all that is referred to");
    jsonschema::options().with_registry(&registry).offline().build(&read(OPENAPI)).expect("a schema")
});

/// Holds the document of a service against OpenAPI 3.1 and the house's rules, and who may call what against what is
/// answered to somebody else. `routes` are its own, beside which the group's operators have theirs.
///
/// # Panics
/// With all that is wrong, line by line.
pub async fn assert_document(runtime: &Runtime, group: &Arc<Group>, routes: &Routes) {
    let operators = Office::of(Arc::clone(group), &runtime.settings).routes();
    let all = routes.clone().and(operators.clone());
    let document = read(runtime, &all);
    let mut faults = faults_of_document(&document);
    faults.extend(rules::names_of_two(&read(runtime, routes), &read(runtime, &operators)));
    faults.extend(identity::faults(&document, runtime, &all).await);
    assert!(
        faults.is_empty(),
        "{} faults in the document of {}:\n  {}",
        faults.len(),
        runtime.service,
        faults.join("\n  ")
    );
}

/// What is wrong with a document by itself, in words.
pub fn faults_of_document(document: &Value) -> Vec<String> {
    let no_openapi = OPENAPI_3_1.iter_errors(document);
    let mut faults: Vec<String> =
        no_openapi.map(|error| format!("no OpenAPI 3.1 at {}: {error}", error.instance_path())).collect();
    faults.extend(rules::faults(document));
    faults
}

fn read(runtime: &Runtime, routes: &Routes) -> Value {
    serde_json::from_slice(&document(runtime, routes).expect("a document")).expect("JSON")
}

/// One call, as a document describes it.
struct Operation<'d> {
    method: &'d str,
    path: &'d str,
    says: &'d Value,
}

fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let items = document["paths"].as_object().into_iter().flatten();
    items.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, says)| Operation { method, path, says })
    })
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.says["parameters"].as_array().into_iter().flatten()
    }

    fn answers(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.says["responses"].as_object().into_iter().flatten()
    }

    /// The schemas of the bodies it takes.
    fn bodies(&self) -> impl Iterator<Item = &Value> {
        let bodies = self.says["requestBody"]["content"].as_object().into_iter().flatten();
        bodies.map(|(_, body)| &body["schema"])
    }
}

/// Visits a value and all that it consists of, each with where it stands.
fn visit(place: &str, value: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(place, value);
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| visit(&format!("{place}/{name}"), field, see)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| visit(&format!("{place}/{at}"), item, see));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
