//! `GET /points`, now and as it was; `GET /payments/{orderId}`.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cashier::{Cashier, ok, order, problem};

fn at(answer: &Value) -> DateTime<Utc> {
    answer["at"].as_str().expect("a time").parse().expect("RFC 3339")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balance_as_it_was_is_the_last_entry_up_to_that_moment() {
    let cashier = Cashier::open().await;
    let before = at(&ok(cashier.get("/points", "kim").await).await);
    let first = at(&cashier.charge("kim", 100).await);
    let second = at(&cashier.charge("kim", 20).await);
    let microsecond = TimeDelta::microseconds(1);
    for (asked, balance) in [
        (before, 0),
        (first - microsecond, 0),
        (first, 100),
        (second - microsecond, 100),
        (second, 120),
        (second + TimeDelta::nanoseconds(900), 120),
    ] {
        let answer = ok(cashier.balance_at("kim", asked).await).await;
        assert_eq!((answer["balance"].as_i64(), at(&answer)), (Some(balance), asked));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_future_is_422_and_an_unknown_user_has_nothing() {
    let cashier = Cashier::open().await;
    let future = cashier.balance_at("kim", Utc::now() + TimeDelta::minutes(1)).await;
    assert_eq!(problem(future).await, (422, "time-in-future".to_owned()));
    let past = ok(cashier.balance_at("nobody", Utc::now() - TimeDelta::days(1)).await).await;
    assert_eq!((&past["userId"], &past["balance"]), (&json!("nobody"), &json!(0)));
    let client = cashier.pool.get().await.expect("a connection");
    let accounts = client.query("SELECT 1 FROM points_accounts", &[]).await.expect("rows");
    assert_eq!(accounts.len(), 0, "asking leaves no account behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_seen_by_its_owner_and_by_operators() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 10).await;
    let event = cashier.reserved(order(), "kim", 10);
    cashier.seam.deliver(&event).await;
    let path = format!("/payments/{}", event.data.order_id);
    let payment = ok(cashier.get(&path, "kim").await).await;
    let paid_at = cashier.completed().await[0].paid_at;
    assert_eq!(
        payment,
        json!({"orderId": event.data.order_id, "userId": "kim", "amount": 10, "discount": 0, "status": "COMPLETED",
               "traceId": event.trace.trace_id.to_string(), "paidAt": paid_at})
    );
    for roles in ["operator", "admin"] {
        let seen = cashier.call(Method::GET, &path, "ops").header("X-Roles", roles).send().await.expect("an answer");
        assert_eq!(ok(seen).await, payment);
    }
    assert_eq!(problem(cashier.get(&path, "lee").await).await.0, 404);
}
