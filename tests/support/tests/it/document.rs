//! What is held against documents is held: each rule refuses what breaks it, and no service is left out.

use std::{fs, path::Path};

use common_events::Service;
use serde_json::{Value, json};
use test_support::faults_of_document;

/// A document of one call, with which nothing is wrong.
fn right() -> Value {
    let trace_id = json!({ "schema": { "type": "string" } });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "a shop", "version": "1" },
        "paths": { "/mugs/{id}": { "put": {
            "operationId": "change_mug",
            "summary": "Changes a mug.",
            "tags": ["mugs"],
            "security": [{ "token": ["admin"] }],
            "parameters": [
                { "name": "id", "in": "path", "required": true, "schema": { "type": "string" } },
                { "name": "limit", "in": "query", "description": "How many.",
                  "schema": { "type": "integer", "minimum": 1, "maximum": 9 } },
            ],
            "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/NewMug" } } } },
            "responses": {
                "200": { "description": "A mug.", "headers": { "X-Trace-Id": trace_id },
                         "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Mug" } } } },
                "409": { "description": "It is gone.", "headers": { "X-Trace-Id": trace_id },
                         "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } },
            },
        } } },
        "components": {
            "schemas": {
                "Mug": { "type": "object", "required": ["state"], "properties": {
                    "state": { "type": "string", "enum": ["SOLD_OUT", "dry-run"] },
                    "note": { "type": "string" },
                    "soldAt": { "type": "string", "format": "date-time" },
                } },
                "NewMug": { "type": "object", "properties": {
                    "name": { "type": ["string", "null"], "maxLength": 9 },
                    "price": { "type": "integer", "minimum": 0, "maximum": 9 },
                    "sizes": { "type": "array", "maxItems": 9, "items": { "type": "string", "pattern": "^[SML]$" } },
                } },
                "Problem": { "type": "object" },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

#[test]
fn what_clients_can_rely_on_is_refused_where_it_is_missing() {
    assert_eq!(faults_of_document(&right()), [""; 0]);
    let call = "/paths/~1mugs~1{id}/put";
    let schemas = "/components/schemas";
    for (place, wrong, fault) in [
        ("/openapi".to_owned(), json!("2.0"), "no OpenAPI 3.1 at /openapi"),
        (format!("{call}/responses/409/description"), json!(null), "no OpenAPI 3.1 at"),
        (format!("{schemas}/Mug/properties/note/type"), json!("text"), "no OpenAPI 3.1 at /components/schemas/Mug"),
        (format!("{call}/responses/409/description"), json!(""), "409 says nothing of itself"),
        (format!("{call}/responses/409/headers"), json!({}), "409 has no X-Trace-Id"),
        (format!("{call}/responses/409/content"), json!({ "application/json": {} }), "not application/problem+json"),
        (format!("{call}/responses/409/content/application~1problem+json/schema"), json!({}), "409 is no problem"),
        (format!("{call}/responses/200/content"), json!({}), "200 has 0 bodies"),
        (format!("{call}/responses/200/content/application~1json/schema/$ref"), json!("#/nothing"), "leads nowhere"),
        (format!("{call}/operationId"), json!(""), "no operationId"),
        (format!("{call}/tags"), json!([]), "no tag"),
        (format!("{call}/security/0"), json!({ "password": [] }), "there is no security scheme password"),
        (format!("{call}/parameters/0/name"), json!("mugId"), "described are {\"mugId\"}"),
        (format!("{call}/parameters/1/description"), json!(""), "nothing is said of limit"),
        (format!("{call}/parameters/1/schema/maximum"), json!(null), "limit has no bounds"),
        (format!("{call}/parameters/1/schema/type"), json!(["integer", "null"]), "limit is never null"),
        (format!("{schemas}/Mug/properties/state/enum/0"), json!("SoldOut"), "\"SoldOut\" is no word of the wire"),
        (format!("{schemas}/Mug/properties/note/type"), json!(["string", "null"]), "Mug/note: is left out"),
        (format!("{schemas}/Mug/properties/soldAt/format"), json!("date"), "Mug/soldAt: is no date-time"),
        (
            format!("{schemas}/NewMug/properties/name"),
            json!({ "allOf": [{ "type": "string", "maxLength": 9 }, { "type": "object" }] }),
            "NewMug/properties/name: is of two kinds at once",
        ),
        (format!("{schemas}/NewMug/properties/price/minimum"), json!(null), "a number without bounds"),
        (format!("{schemas}/NewMug/properties/name/maxLength"), json!(null), "a text as long as one likes"),
        (format!("{schemas}/NewMug/properties/sizes/maxItems"), json!(null), "as many as one likes"),
    ] {
        let mut document = right();
        let (parent, name) = place.rsplit_once('/').expect("below the root");
        match (document.pointer_mut(parent).expect("is there"), wrong) {
            (Value::Object(fields), Value::Null) => drop(fields.remove(name)),
            (Value::Object(fields), wrong) => drop(fields.insert(name.replace("~1", "/"), wrong)),
            (Value::Array(items), wrong) => items[name.parse::<usize>().expect("a number")] = wrong,
            (other, _) => panic!("{other}"),
        }
        let found = faults_of_document(&document);
        assert!(found.iter().any(|said| said.contains(fault)), "{place}: {fault:?} is not among {found:#?}");
    }
}

/// The relay has no calls of its own, and no operators.
#[test]
fn each_service_has_its_document_held_against_all_that() {
    for service in Service::ALL.iter().filter(|service| **service != Service::OutboxRelay) {
        let test =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(service.name()).join("tests/it/document.rs");
        let calls = fs::read_to_string(&test).unwrap_or_else(|error| panic!("{}: {error}", test.display()));
        assert!(calls.contains("assert_document("), "{}", test.display());
    }
}
