//! What is added to what handlers say of themselves.

use actix_web::{HttpResponse, get, post};
use common_events::{OrderId, Service, Won};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    CommonSettings, Env, Runtime,
    http::{Paging, Query, Routes},
    idempotency::IdempotencyKey,
};

/// What it says.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Label {
    order_id: OrderId,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Won>,
}

/// A label as it is asked for.
#[derive(Serialize, Deserialize, ToSchema)]
struct NewLabel {
    price: Option<Won>,
}

/// Puts a label on an order.
#[utoipa::path(
    security(("identity" = ["operator"])),
    params(("id" = inline(OrderId), Path), ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header)),
    request_body = Option<NewLabel>,
    responses((status = 201, body = Label), (status = 409, description = "`label-exists`: there is one")),
)]
#[post("/orders/{id}/label")]
async fn label() -> HttpResponse {
    HttpResponse::Created().finish()
}

/// Says what there is.
#[utoipa::path(params(Paging), responses((status = 200, description = "All of them", body = Label)))]
#[get("/labels")]
async fn labels(_: Query<Paging>) -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// Says what is mine.
#[utoipa::path(security(("identity" = [])), responses((status = 200, body = Label)))]
#[get("/labels/mine")]
async fn mine() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// Takes a label off.
#[utoipa::path(request_body = NewLabel, responses((status = 200, body = Label)))]
#[post("/labels/peel")]
async fn peel() -> HttpResponse {
    HttpResponse::Ok().finish()
}

fn document(variables: &[(&str, &str)]) -> Value {
    let env = Env::of(variables.iter().copied());
    let settings = CommonSettings::read(Service::Order, &env).expect("valid");
    let runtime = Runtime::new(Service::Order, env, settings);
    let routes = Routes::new(|config| {
        config.service(label).service(labels).service(mine).service(peel);
    });
    serde_json::from_slice(&crate::http::document(&runtime, &routes).expect("a document")).expect("JSON")
}

fn behind_a_gateway() -> Value {
    document(&[("AUTH_MODE", "header")])
}

#[test]
fn a_call_has_what_follows_from_what_it_takes() {
    let document = behind_a_gateway();
    let answers = &document["paths"]["/orders/{id}/label"]["post"]["responses"];
    let said = |status: &str| answers[status]["description"].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("201"), "What it says.");
    assert_eq!(
        said("409"),
        "`label-exists`: there is one; `idempotency-key-in-use`: the first call with this key still runs"
    );
    for (status, code) in [
        ("400", "malformed-json"),
        ("400", "idempotency-key-invalid"),
        ("401", "unauthorized"),
        ("403", "forbidden"),
        ("404", "not-found"),
        ("413", "body-too-large"),
        ("422", "invalid-field"),
        ("422", "idempotency-key-reused"),
        ("500", "internal"),
        ("503", "database-unavailable"),
    ] {
        assert!(said(status).contains(&format!("`{code}`: ")), "{status} {code}: {}", said(status));
    }
    assert!(!said("400").contains("idempotency-key-missing"), "it may be left out");
    assert!(!said("400").contains("the body is no JSON, or missing"), "it may be left out");
    let of_peeling = document["paths"]["/labels/peel"]["post"]["responses"]["400"]["description"].as_str();
    assert!(of_peeling.is_some_and(|text| text.contains("`malformed-json`: the body is no JSON, or missing")));

    let list = &document["paths"]["/labels"]["get"]["responses"];
    assert!(list["400"]["description"].as_str().is_some_and(|text| text.contains("`invalid-cursor`: ")));
    for never in ["401", "403", "404", "409", "422"] {
        assert!(list[never].is_null(), "{never}");
    }
}

#[test]
fn a_refusal_is_a_problem_and_every_answer_has_its_trace() {
    let document = behind_a_gateway();
    let answers = document["paths"]["/orders/{id}/label"]["post"]["responses"].as_object().expect("answers");
    for (status, answer) in answers {
        let kind = if status == "201" { "application/json" } else { "application/problem+json" };
        let schema = if status == "201" { "Label" } else { "Problem" };
        let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
        assert_eq!(answer["content"], json!({ kind: { "schema": reference } }), "{status}");
        assert!(answer["headers"]["X-Trace-Id"].is_object(), "{status}");
        assert_eq!(answer["headers"]["Retry-After"].is_object(), status == "503");
    }
    assert!(document["components"]["schemas"]["Problem"]["properties"]["code"].is_object());
}

#[test]
fn who_may_call_is_said_in_the_way_in_which_he_shows_it() {
    let document_of = |variables: &[(&str, &str)]| document(variables);
    let of = |document: &Value, path: &str, method: &str| document["paths"][path][method]["security"].clone();
    let gateway = behind_a_gateway();
    assert_eq!(of(&gateway, "/orders/{id}/label", "post"), json!([{"userId": [], "roles": ["operator"]}]));
    assert_eq!(of(&gateway, "/labels/mine", "get"), json!([{"userId": []}, {"userId": [], "roles": []}]));
    assert_eq!(of(&gateway, "/labels", "get"), Value::Null);
    let schemes = &gateway["components"]["securitySchemes"];
    assert_eq!((&schemes["userId"]["name"], &schemes["roles"]["name"]), (&json!("X-User-Id"), &json!("X-Roles")));

    let tokens =
        document_of(&[("AUTH_JWT_SECRET", "0123456789abcdef0123456789abcdef"), ("AUTH_JWT_AUDIENCE", "commerce")]);
    assert_eq!(of(&tokens, "/orders/{id}/label", "post"), json!([{"token": ["operator"]}]));
    let scheme = &tokens["components"]["securitySchemes"]["token"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let refused = &tokens["paths"]["/labels/mine"]["get"]["responses"];
    assert!(refused["401"]["headers"]["WWW-Authenticate"].is_object());
    assert!(refused["503"]["description"].as_str().is_some_and(|text| text.contains("`keys-unavailable`: ")));
}

#[test]
fn null_is_nothing_in_what_is_sent_and_never_answered() {
    let document = behind_a_gateway();
    let schemas = &document["components"]["schemas"];
    let price = json!({"$ref": "#/components/schemas/Won"});
    assert_eq!(schemas["Label"]["properties"]["price"], price);
    let asked = &schemas["NewLabel"]["properties"]["price"]["oneOf"];
    assert!(asked.as_array().is_some_and(|ways| ways.contains(&price) && ways.contains(&json!({"type": "null"}))));
    let call = &document["paths"]["/orders/{id}/label"]["post"];
    assert_eq!(
        call["requestBody"]["content"]["application/json"]["schema"],
        json!({"$ref": "#/components/schemas/NewLabel"})
    );
    assert_eq!(call["parameters"][1]["schema"]["type"], "string");
}
