//! The call: its defaults, its limits, and how old an answer may be.

use std::time::Instant;

use actix_web::test::{TestRequest, call_and_read_body_json, call_service, init_service};
use chrono::{DateTime, TimeDelta, Utc};
use common_events::Service;
use ranking_service::http;
use rstest::rstest;
use serde_json::{Value, json};
use service_runtime::http::app;
use test_support::runtime;

use crate::board::{Board, line, payment, text};

#[actix_web::test]
async fn anyone_sees_todays_ten_best_by_pieces_when_nothing_is_said() {
    let board = Board::new().await;
    let names: Vec<String> = (0..12).map(|number| format!("p{number:02}")).collect();
    let lines = (1..).zip(&names).map(|(pieces, name)| line((name, pieces, 10))).collect();
    board.seam.deliver(&board.seam.event(payment(Utc::now(), lines))).await;

    let answer = board.get("").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("content-type").expect("a type"), "application/json");
    assert_eq!(answer.body["window"], "day");
    let time = |field| text(&answer.body, field).parse::<DateTime<Utc>>().expect("a time");
    assert_eq!(time("to") - time("from"), TimeDelta::days(1));
    assert!(text(&answer.body, "from").ends_with("T00:00:00Z"));
    let items = answer.body["items"].as_array().expect("items");
    assert_eq!(items.len(), 10);
    assert_eq!(items[0], json!({"rank": 1, "productId": "p11", "name": "p11", "quantity": 12, "amount": 120}));
    assert_eq!(items[9]["rank"], 10);
    assert_eq!(board.ranking("?limit=100").await.len(), 12);
    assert_eq!(board.ranking("?limit=12").await, board.ranking("?limit=13").await);
    assert_eq!(board.get("?limit=1").await.body["items"].as_array().expect("items"), &items[..1]);
    assert_eq!(board.ranking("?limit=1&by=amount&window=week").await.len(), 1);
}

#[actix_web::test]
async fn a_window_without_sales_is_empty_and_no_error() {
    let board = Board::new().await;
    let answer = board.get("?window=week&at=2027-01-01T12:00:00Z").await;
    let expected = json!({
        "window": "week", "from": "2026-12-28T00:00:00Z", "to": "2027-01-04T00:00:00Z", "items": [],
    });
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[rstest]
#[case("window=month", "window")]
#[case("window=", "window")]
#[case("window=DAY", "window")]
#[case("by=price", "by")]
#[case("limit=0", "limit")]
#[case("limit=-1", "limit")]
#[case("limit=101", "limit")]
#[case("limit=99999999999999999999", "limit")]
#[case("limit=1.5", "limit")]
#[case("limit=ten", "limit")]
#[case("limit=1&limit=2", "limit")]
#[case("at=yesterday", "at")]
#[case("at=1969-12-31T23:59:59Z", "at")]
#[case("at=9999-12-31T00:00:00Z", "at")]
#[case("at=%2B262000-01-01T00:00:00Z", "at")]
#[case("at=-0001-01-01T00:00:00Z", "at")]
#[case("at=-262143-01-01T00:00:00Z", "at")]
#[case("colour=red", "colour")]
#[actix_web::test]
async fn what_cannot_be_asked_is_refused_and_the_parameter_is_named(#[case] query: &str, #[case] field: &str) {
    let answer = Board::new().await.get(&format!("?{query}")).await;
    assert_eq!((answer.status, answer.body["field"].as_str()), (400, Some(field)), "{}", answer.body);
    assert_eq!(answer.headers.get("content-type").expect("a type"), "application/problem+json");
}

/// The table is locked, so whoever reads it waits; who would have to wait for him isn't kept for long.
#[rstest]
#[case::a_past_window("window=week&at=2026-01-01T00:00:00Z", "window=day&at=2025-01-01T00:00:00Z")]
#[case::the_current_one("window=week", "window=week")]
#[actix_web::test]
async fn who_waits_for_somebody_elses_ranking_is_told_to_come_back(#[case] first: &str, #[case] second: &str) {
    let board = Board::new().await;
    let app = app(&runtime(Service::Ranking), &http::routes(board.pool.clone())).expect("an app");
    let app = init_service(app).await;
    let ask = |query: &str| {
        let request = TestRequest::with_uri(&format!("/rankings/products?{query}")).to_request();
        call_service(&app, request)
    };

    let mut client = board.pool.get().await.expect("a connection");
    let locked = client.transaction().await.expect("a transaction");
    locked.execute("LOCK TABLE sales", &[]).await.expect("locked");
    let told_to_come_back = async {
        let answer = ask(second).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers().get("retry-after").expect("how long"), "2");
        locked.rollback().await.expect("the lock is given back");
    };
    let (answer, ()) = futures::join!(ask(first), told_to_come_back);
    assert_eq!(answer.status(), 200);
    assert_eq!(ask(second).await.status(), 200, "and then it is answered");
}

/// One service whose kept answers live as long as it.
#[actix_web::test]
async fn an_answer_is_kept_for_a_moment_and_then_renewed() {
    let board = Board::new().await;
    let app = app(&runtime(Service::Ranking), &http::routes(board.pool.clone())).expect("an app");
    let app = init_service(app).await;
    let pieces = async |limit: u16| {
        let uri = format!("/rankings/products?window=week&limit={limit}");
        let request = TestRequest::with_uri(&uri).to_request();
        let ranking: Value = call_and_read_body_json(&app, request).await;
        ranking["items"][0]["quantity"].as_i64()
    };

    let asked = Instant::now();
    assert_eq!(pieces(10).await, None);
    board.seam.deliver(&board.seam.event(payment(Utc::now(), vec![line(("tea", 3, 100))]))).await;
    let old = pieces(1).await;
    assert!(old.is_none() || asked.elapsed() >= http::MAX_AGE, "kept as long as it may be, however many are asked for");
    let counted = Instant::now();
    loop {
        let began = Instant::now();
        if pieces(10).await == Some(3) {
            break;
        }
        assert!(began - counted < http::MAX_AGE, "an answer that is too old");
    }
}
