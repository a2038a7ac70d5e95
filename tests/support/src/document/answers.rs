//! What a service answers, held against what its document says of the call: the status, the type, the headers, and
//! each field of the body.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use actix_web::http::{Method, header::HeaderMap};
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use service_runtime::{
    Runtime,
    http::{Routes, document},
};

use super::operations;

/// Documents that were read before: the same routes are asked again and again.
static READ: LazyLock<Mutex<HashMap<Vec<u8>, Arc<Described>>>> = LazyLock::new(Mutex::default);

/// The calls of a service as its document describes them.
pub(crate) struct Described {
    document: Value,
    calls: Vec<Call>,
    /// By what they are of: reading a schema takes longer than using it.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

struct Call {
    method: String,
    path: Vec<String>,
    answers: Map<String, Value>,
}

impl Described {
    /// What these routes are said to answer.
    pub(crate) fn of(runtime: &Runtime, routes: &Routes) -> Arc<Self> {
        let text = document(runtime, routes).expect("a document").to_vec();
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(read.entry(text).or_insert_with_key(|text| Arc::new(Self::read(text))))
    }

    fn read(text: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(text).expect("JSON");
        let calls = operations(&document).map(|operation| Call {
            method: operation.method.to_uppercase(),
            path: operation.path.split('/').map(str::to_owned).collect(),
            answers: operation.answers().map(|(status, answer)| (status.clone(), answer.clone())).collect(),
        });
        let calls = calls.collect();
        Self { document, calls, validators: Mutex::default() }
    }

    /// In which way an answer isn't as it is described. Pages, and what no document describes, are as they are.
    pub(crate) fn faults(&self, asked: &Asked, status: u16, headers: &HeaderMap, body: &[u8]) -> Vec<String> {
        let Some(call) = self.call(asked) else { return Vec::new() };
        let Some(answer) = call.answers.get(&status.to_string()) else {
            return vec![format!("{status} is not described")];
        };
        let mut faults = Vec::new();
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for obligatory in ["X-Trace-Id", "Retry-After", "Location"] {
            if answer["headers"][obligatory].is_object() && sent(obligatory).is_empty() {
                faults.push(format!("{status} without {obligatory}"));
            }
        }
        let kind = sent("content-type").split(';').next().unwrap_or_default();
        let Some(content) = answer["content"].get(kind) else {
            faults.push(format!("{status} is not described as {kind:?}"));
            return faults;
        };
        match serde_json::from_slice(body) {
            Ok(body) => {
                let validator = self.validator(&content["schema"]);
                let wrong = validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path()));
                faults.extend(wrong);
            }
            Err(error) => faults.push(format!("no JSON: {error}")),
        }
        faults
    }

    /// The one that is most exactly what was asked: `groups` rather than `{id}`.
    fn call(&self, asked: &Asked) -> Option<&Call> {
        let path: Vec<&str> = asked.path.split('/').collect();
        let is_meant = |call: &&Call| {
            let fits = |(described, asked): (&String, &&str)| described.starts_with('{') || described == asked;
            call.method == asked.method.as_str()
                && call.path.len() == path.len()
                && call.path.iter().zip(&path).all(fits)
        };
        self.calls
            .iter()
            .filter(is_meant)
            .min_by_key(|call| call.path.iter().filter(|part| part.starts_with('{')).count())
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut known = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let build = |_: &String| {
            let schema = json!({ "allOf": [schema], "components": self.document["components"] });
            let validator = jsonschema::options().should_validate_formats(true).offline().build(&schema);
            Arc::new(validator.unwrap_or_else(|error| panic!("no schema: {error}")))
        };
        Arc::clone(known.entry(schema.to_string()).or_insert_with_key(build))
    }
}

/// A call that is made.
pub(crate) struct Asked {
    method: Method,
    path: String,
}

impl Asked {
    /// With a path as it was sent.
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        Self { method: method.clone(), path: path.to_owned() }
    }
}
