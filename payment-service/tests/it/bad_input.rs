//! What is no request is refused by name, never with a 500.

use reqwest::{Method, Response};
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cashier::{Cashier, order, problem};

async fn charge(cashier: &Cashier, body: impl Into<reqwest::Body>) -> Response {
    let charge = cashier.call(Method::POST, "/points/charge", "kim").header("Idempotency-Key", "k");
    charge.body(body).send().await.expect("an answer")
}

async fn change_account(cashier: &Cashier, who: &str, body: impl Into<reqwest::Body>) -> Response {
    let put = cashier.call(Method::PUT, &format!("/points/accounts/{who}"), "boss").header("X-Roles", "admin");
    put.body(body).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_is_none_is_refused_and_charges_nothing() {
    let cashier = Cashier::open().await;
    for (body, refused) in [
        ("rubbish", (400, "malformed-json")),
        ("", (400, "malformed-json")),
        ("\u{0}", (400, "malformed-json")),
        ("{}", (422, "invalid-field")),
        ("[]", (422, "invalid-field")),
        ("null", (422, "invalid-field")),
        (r#"{"amount":0}"#, (422, "invalid-field")),
        (r#"{"amount":-1}"#, (422, "invalid-field")),
        (r#"{"amount":1000000000001}"#, (422, "invalid-field")),
        (r#"{"amount":9223372036854775807}"#, (422, "invalid-field")),
        (r#"{"amount":99999999999999999999999}"#, (422, "invalid-field")),
        (r#"{"amount":1.5}"#, (422, "invalid-field")),
        (r#"{"amount":"100"}"#, (422, "invalid-field")),
        (r#"{"amount":null}"#, (422, "invalid-field")),
        (r#"{"amount":true}"#, (422, "invalid-field")),
        (r#"{"amount":1,"currency":"KRW"}"#, (422, "invalid-field")),
        (r#"{"amount":1,"amount":2}"#, (422, "invalid-field")),
    ] {
        let (status, code) = problem(charge(&cashier, body).await).await;
        assert_eq!((status, code.as_str()), refused, "{body}");
    }
    assert_eq!(problem(charge(&cashier, vec![b' '; 65 * 1024]).await).await.0, 413);
    assert_eq!(cashier.balance("kim").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_and_the_largest_charge_are_taken() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1).await;
    cashier.charge("kim", 1_000_000_000_000).await;
    assert_eq!(cashier.balance("kim").await, 1_000_000_000_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_field_is_named() {
    let cashier = Cashier::open().await;
    let body: Value = charge(&cashier, r#"{"amount":0}"#).await.json().await.expect("JSON");
    assert_eq!(body["field"], "amount");
    let body: Value =
        change_account(&cashier, "kim", r#"{"state":"OPEN","limitPerPayment":0}"#).await.json().await.expect("JSON");
    assert_eq!(body["field"], "limitPerPayment");
}

#[rstest]
#[case(None, 400)]
#[case(Some(String::new()), 400)]
#[case(Some("a b".to_owned()), 400)]
#[case(Some("k".repeat(256)), 400)]
#[case(Some("k".repeat(255)), 200)]
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_needs_a_key_of_1_to_255_visible_characters(#[case] key: Option<String>, #[case] status: u16) {
    let cashier = Cashier::open().await;
    let mut charge = cashier.call(Method::POST, "/points/charge", "kim").json(&json!({"amount": 1}));
    if let Some(key) = key {
        charge = charge.header("Idempotency-Key", key);
    }
    assert_eq!(charge.send().await.expect("an answer").status(), status);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_missing_gets_401_and_who_may_not_403() {
    let cashier = Cashier::open().await;
    let web = reqwest::Client::new();
    let paths = ["/points", "/points/history", &format!("/payments/{}", order())];
    for path in paths {
        let answer = web.get(format!("{}{path}", cashier.url)).send().await.expect("an answer");
        assert_eq!(problem(answer).await.0, 401, "{path}");
        let malformed = cashier.get(path, "not a user").await;
        assert_eq!(problem(malformed).await.0, 401, "{path}");
    }
    let charge = web.post(format!("{}/points/charge", cashier.url)).header("Idempotency-Key", "k");
    assert_eq!(charge.json(&json!({"amount": 1})).send().await.expect("an answer").status(), 401);
    let charge = cashier.call(Method::POST, "/points/charge", "ops").header("X-Roles", "operator");
    let charge = charge.header("Idempotency-Key", "k").json(&json!({"amount": 1}));
    assert_eq!(charge.send().await.expect("an answer").status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_change_that_is_none_is_refused() {
    let cashier = Cashier::open().await;
    for (body, status) in [
        ("rubbish", 400),
        ("{}", 422),
        (r#"{"state":"open"}"#, 422),
        (r#"{"state":"FROZEN"}"#, 422),
        (r#"{"state":"OPEN","limitPerPayment":0}"#, 422),
        (r#"{"state":"OPEN","limitPerPayment":-5}"#, 422),
        (r#"{"state":"OPEN","limitPerPayment":9007199254740992}"#, 422),
        (r#"{"state":"OPEN","limitPerPayment":"1"}"#, 422),
        (r#"{"state":"OPEN","colour":"red"}"#, 422),
    ] {
        assert_eq!(problem(change_account(&cashier, "kim", body).await).await.0, status, "{body}");
    }
    assert_eq!(problem(change_account(&cashier, "kim", vec![b' '; 65 * 1024]).await).await.0, 413);
    for malformed in ["a%20b", &"x".repeat(129), "%F0%9F%8D%B5"] {
        let answer = change_account(&cashier, malformed, r#"{"state":"OPEN"}"#).await;
        assert_eq!(problem(answer).await.0, 404, "{malformed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_id_that_is_malformed_unknown_or_anothers_is_404_all_alike() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 10).await;
    let id = order();
    cashier.reserve(id, "kim", 10).await;
    let mut seen = Vec::new();
    for path in ["42".to_owned(), "%00".to_owned(), Uuid::now_v7().to_string(), id.to_string()] {
        let answer = cashier.get(&format!("/payments/{path}"), "lee").await;
        seen.push(problem(answer).await);
    }
    assert!(seen.iter().all(|answer| *answer == (404, "not-found".to_owned())), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_none_is_400_and_no_time_makes_it_a_500() {
    let cashier = Cashier::open().await;
    for query in [
        "/points?at=yesterday",
        "/points?at=",
        "/points?colour=red",
        "/points?at=2026-01-01T00:00:00Z&at=2026-01-01T00:00:00Z",
        "/points/history?from=1",
        "/points/history?limit=0",
        "/points/history?limit=201",
        "/points/history?limit=-1",
        "/points/history?cursor=rubbish",
        "/points/history?x=1",
    ] {
        assert_eq!(problem(cashier.get(query, "kim").await).await.0, 400, "{query}");
    }
    for (query, status) in [
        ("/points?at=9999-12-31T23:59:59Z", 422),
        ("/points?at=%2B262142-12-31T23:59:59Z", 422),
        ("/points?at=%2B10000-01-01T00:00:00Z", 422),
        ("/points?at=-262143-01-01T00:00:00Z", 422),
        ("/points?at=-0001-01-01T00:00:00Z", 422),
        ("/points?at=-0001-12-31T23:59:59.999999999Z", 422),
        ("/points?at=0000-01-01T00:00:00Z", 200),
        ("/points?at=1969-12-31T23:59:59.999999999Z", 200),
        ("/points/history?from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", 200),
        ("/points/history?from=-0001-12-31T23:59:59Z", 422),
        ("/points/history?to=%2B262142-12-31T23:59:59Z", 422),
        ("/points/history?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422),
    ] {
        let answer = cashier.get(query, "kim").await;
        assert_eq!(answer.status(), status, "{query}");
        if status != 200 {
            assert!(["time-in-future", "invalid-field"].contains(&&*problem(answer).await.1), "{query}");
        }
    }
    // Cursors of one's own making: "-262143-01-01T00:00:00Z" and "+262142-01-01T00:00:00Z".
    for (cursor, status) in [("Ii0yNjIxNDMtMDEtMDFUMDA6MDA6MDBaIg", 400), ("IisyNjIxNDItMDEtMDFUMDA6MDA6MDBaIg", 200)] {
        let answer = cashier.get(&format!("/points/history?cursor={cursor}"), "kim").await;
        assert_eq!(answer.status(), status, "{cursor}");
    }
}
