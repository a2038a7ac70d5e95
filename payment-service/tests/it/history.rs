//! `GET /points/history`.

use common_events::CancelReason;
use serde_json::{Value, json};

use crate::cashier::{Cashier, ok, order};

async fn history(cashier: &Cashier, query: &str, who: &str) -> Value {
    ok(cashier.get(&format!("/points/history{query}"), who).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_every_entry_latest_first_with_its_order_reason_and_trace() {
    let cashier = Cashier::open().await;
    let charged = cashier.try_charge("kim", 1_000).await;
    let trace = charged.headers()["x-trace-id"].to_str().expect("text").to_owned();
    let reserved = cashier.reserved(order(), "kim", 300);
    cashier.seam.deliver(&reserved).await;
    let cancelled = cashier.cancelled(reserved.data.order_id, "kim", CancelReason::Operator);
    cashier.seam.deliver(&cancelled).await;

    let page = history(&cashier, "", "kim").await;
    assert_eq!(page.get("nextCursor"), None);
    let mut items = page["items"].as_array().expect("items").clone();
    let times: Vec<String> =
        items.iter_mut().map(|item| item["at"].take().as_str().expect("a time").to_owned()).collect();
    assert!(times.is_sorted_by(|later, earlier| later > earlier), "{times:?}");
    let id = reserved.data.order_id.to_string();
    assert_eq!(
        items,
        [
            json!({"type": "REFUNDED", "delta": 300, "balance": 1_000, "orderId": id, "reason": "OPERATOR",
                   "traceId": cancelled.trace.trace_id.to_string(), "at": null}),
            json!({"type": "DEDUCTED", "delta": -300, "balance": 700, "orderId": id,
                   "traceId": reserved.trace.trace_id.to_string(), "at": null}),
            json!({"type": "CHARGED", "delta": 1_000, "balance": 1_000, "traceId": trace, "at": null}),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_ones_own_and_empty_for_somebody_new() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1).await;
    assert_eq!(history(&cashier, "", "lee").await, json!({"items": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_gap_or_repetition_though_entries_arrive_meanwhile() {
    let cashier = Cashier::open().await;
    for amount in 1..=7 {
        cashier.charge("kim", amount).await;
    }
    let mut deltas = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = history(&cashier, &query, "kim").await;
        deltas.extend(page["items"].as_array().expect("items").iter().map(|item| item["delta"].as_i64().expect("won")));
        cashier.charge("kim", 100).await;
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("?limit=3&cursor={cursor}");
    }
    assert_eq!(deltas, [7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_is_the_first_moment_and_to_the_one_after_the_last() {
    let cashier = Cashier::open().await;
    let mut times = Vec::new();
    for amount in 1..=4 {
        times.push(cashier.charge("kim", amount).await["at"].as_str().expect("a time").to_owned());
    }
    let page = history(&cashier, &format!("?from={}&to={}", times[1], times[3]), "kim").await;
    let deltas: Vec<i64> =
        page["items"].as_array().expect("items").iter().map(|item| item["delta"].as_i64().expect("won")).collect();
    assert_eq!(deltas, [3, 2]);
    let page = history(&cashier, &format!("?from={}&to={}&limit=1", times[1], times[3]), "kim").await;
    let cursor = page["nextCursor"].as_str().expect("there is more");
    let page = history(&cashier, &format!("?from={}&to={}&cursor={cursor}", times[1], times[3]), "kim").await;
    assert_eq!((page["items"].as_array().expect("items").len(), &page["items"][0]["delta"]), (1, &json!(2)));
}
