//! `POST /points/charge` and its key.

use common_events::events::PointCharged;
use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::json;

use crate::cashier::{Cashier, ok, problem, won};

async fn charge_with_key(cashier: &Cashier, who: &str, key: &str, amount: i64) -> Response {
    let charge = cashier.call(Method::POST, "/points/charge", who).header("Idempotency-Key", key);
    charge.json(&json!({ "amount": amount })).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_adds_up_and_is_told_in_the_trace_of_its_request() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    let answer = cashier.try_charge("kim", 50).await;
    let trace = answer.headers()["x-trace-id"].to_str().expect("text").to_owned();
    let answer = ok(answer).await;
    assert_eq!((&answer["userId"], &answer["balance"]), (&json!("kim"), &json!(150)));

    let told = &cashier.seam.told::<PointCharged>().await[1];
    assert_eq!((told.data.amount, told.data.balance), (won(50), won(150)));
    assert_eq!(json!(told.data.at), answer["at"]);
    assert_eq!((told.trace.trace_id.to_string(), told.subject.as_str()), (trace, "kim"));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_charges_once_and_answers_the_same() {
    let cashier = Cashier::open().await;
    let first = ok(charge_with_key(&cashier, "kim", "k-1", 100).await).await;
    assert_eq!(ok(charge_with_key(&cashier, "kim", "k-1", 100).await).await, first);
    let reused = charge_with_key(&cashier, "kim", "k-1", 101).await;
    assert_eq!(problem(reused).await, (422, "idempotency-key-reused".to_owned()));
    assert_eq!(cashier.balance("kim").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_key_is_not_ones_own() {
    let cashier = Cashier::open().await;
    ok(charge_with_key(&cashier, "kim", "k-1", 100).await).await;
    ok(charge_with_key(&cashier, "lee", "k-1", 999).await).await;
    assert_eq!((cashier.balance("kim").await, cashier.balance("lee").await), (100, 999));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_eight_times_at_once_charges_once() {
    let cashier = Cashier::open().await;
    let answers = join_all((0..8).map(|_| charge_with_key(&cashier, "kim", "k-1", 100))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert_eq!(cashier.balance("kim").await, 100);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_charge_is_not_remembered() {
    let cashier = Cashier::open().await;
    cashier.account("kim", json!({"state": "CLOSED"})).await;
    assert_eq!(charge_with_key(&cashier, "kim", "k-1", 100).await.status(), 409);
    cashier.account("kim", json!({"state": "OPEN"})).await;
    ok(charge_with_key(&cashier, "kim", "k-1", 100).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_charges_at_once_of_a_new_user_all_count() {
    let cashier = Cashier::open().await;
    let answers = join_all((0..20).map(|_| cashier.try_charge("kim", 5))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(cashier.balance("kim").await, 100);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_never_grows_past_what_an_amount_can_hold() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1).await;
    let client = cashier.pool.get().await.expect("a connection");
    // As after nine thousand charges of the largest amount.
    let rich = "WITH entry AS (INSERT INTO points_ledger (user_id, at, entry_id, kind, delta, balance, trace_id)
                    VALUES ('kim', clock_timestamp(), gen_random_uuid(), 'CHARGED', 9007199254740980, 9007199254740981,
                            repeat('a', 32)) RETURNING at, balance)
                UPDATE points_accounts SET balance = entry.balance, charged = entry.balance, last_at = entry.at
                FROM entry";
    client.execute(rich, &[]).await.expect("a rich user");
    assert_eq!(problem(cashier.try_charge("kim", 11).await).await, (422, "balance-overflow".to_owned()));
    cashier.charge("kim", 10).await;
    assert_eq!(cashier.balance("kim").await, 9_007_199_254_740_991);
}
