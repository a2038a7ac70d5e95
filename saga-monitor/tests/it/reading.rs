//! A saga reads right from its first to its last step, whatever was heard first and however often.

use messaging::Record;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    story::Story,
    watch::{Watch, read, text},
};

fn steps(saga: &Value) -> Vec<(String, String)> {
    let steps = saga["steps"].as_array().expect("steps");
    steps.iter().map(|step| (text(&step["eventType"]), text(&step["status"]))).collect()
}

fn events(saga: &Value) -> Vec<String> {
    steps(saga).into_iter().map(|(event, _)| event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_reads_from_its_first_step_to_its_last() {
    let watch = Watch::begin().await;
    let story = Story::of_a_confirmed_order();
    watch.hear_all(&story).await;
    let saga = watch.saga(story.order).await;
    assert_eq!(
        (&saga["state"], &saga["type"], &saga["key"]),
        (&json!("COMPLETED"), &json!("order"), &json!(story.order))
    );
    assert_eq!(
        (&saga["stuck"], &saga["mismatched"], &saga["waitingFor"]),
        (&json!(false), &json!(false), &Value::Null)
    );
    assert_eq!(saga["traceId"], json!(story.trace.trace_id));
    assert_eq!(saga["zipkinUrl"], format!("http://127.0.0.1:19411/zipkin/traces/{}", story.trace.trace_id));
    assert_eq!(
        events(&saga),
        [
            "order-created",
            "order-line-placed",
            "order-line-placed",
            "stock-deducted",
            "stock-deducted",
            "order-reserved",
            "point-deducted",
            "payment-completed",
            "order-confirmed",
        ]
    );
    let first = &saga["steps"][0];
    assert_eq!((&first["step"], &first["service"]), (&json!("place order"), &json!("order-service")));
    assert_eq!(
        (&first["topic"], &first["partition"], &first["offset"]),
        (&json!("order-created"), &json!(0), &json!(0))
    );
    assert_eq!(first["eventId"], json!(story.told[0].id));
    assert_eq!(first["payload"]["data"]["orderId"], json!(story.order));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensated_order_shows_each_step_with_its_undo() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order();
    watch.hear_all(&story).await;
    let saga = watch.saga(story.order).await;
    assert_eq!(saga["state"], "COMPENSATED");
    let undos: Vec<(String, String)> = saga["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter(|step| step["compensates"].is_string())
        .map(|step| (text(&step["step"]), text(&step["compensates"])))
        .collect();
    let pair = |undo: &str, done: &str| (undo.to_owned(), done.to_owned());
    assert_eq!(
        undos,
        [
            pair("restore stock", "deduct stock"),
            pair("restore stock", "deduct stock"),
            pair("restore coupon", "use coupon"),
            pair("refund points", "deduct points"),
            pair("refund payment", "complete payment"),
        ]
    );
    let pairs = saga["pairs"].as_array().expect("pairs");
    assert_eq!(pairs.len(), 5, "two lines, the coupon, the points, the payment");
    assert!(pairs.iter().all(|pair| pair["done"] == true && pair["undone"] == true), "{pairs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_failed_step_and_nothing_has_to_be_undone() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).with_coupon().created().placed().deduct_failed().cancelled(2).coupon_use_failed();
    watch.hear_all(&story).await;
    let saga = watch.saga(story.order).await;
    assert_eq!(saga["state"], "COMPENSATED");
    let failed: Vec<String> =
        steps(&saga).into_iter().filter(|(_, status)| status == "FAILED").map(|(event, _)| event).collect();
    assert_eq!(failed, ["stock-deduct-failed", "coupon-use-failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_and_a_rejected_coupon_are_sagas_of_their_requests() {
    let watch = Watch::begin().await;
    for (story, state, last) in [
        (Story::of_a_request().issued(), "COMPLETED", "coupon-issued"),
        (Story::of_a_request().rejected(), "FAILED", "coupon-issue-rejected"),
    ] {
        watch.hear_all(&story).await;
        let saga = watch.saga(story.told[0].id).await;
        assert_eq!((&saga["type"], &saga["state"]), (&json!("coupon-issue"), &json!(state)));
        assert_eq!(events(&saga), ["coupon-issue-requested", last]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_in_which_topics_are_read_changes_nothing() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order();
    let mut records: Vec<Record> = story.told.iter().map(|told| watch.record_of(told)).collect();
    records.reverse();
    for record in &records {
        watch.hear(std::slice::from_ref(record)).await;
    }
    let backwards = watch.saga(story.order).await;
    let other = Watch::begin().await;
    other.hear_all(&story).await;
    assert_eq!(backwards, other.saga(story.order).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_read_again_is_no_second_row_and_an_event_that_lies_twice_is_one_step() {
    let watch = Watch::begin().await;
    let story = Story::of_a_confirmed_order();
    let records = watch.hear_all(&story).await;
    let rows = watch.count("saga_state_log").await;
    watch.hear(&records).await;
    watch.hear(&[records[0].clone(), records[0].clone()]).await;
    assert_eq!(watch.count("saga_state_log").await, rows);
    let told_again = watch.record_of(&story.told[0]);
    watch.hear(&[told_again]).await;
    assert_eq!(watch.count("saga_state_log").await, rows + 1, "it lies there twice, and the log says so");
    let saga = watch.saga(story.order).await;
    assert_eq!((events(&saga).len(), &saga["steps"][0]["copies"]), (9, &json!(2)));
    assert_eq!((&saga["state"], &saga["mismatched"]), (&json!("COMPLETED"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sagas_of_one_trace_are_told_apart_by_their_keys() {
    let watch = Watch::begin().await;
    let one = Story::of(&["tea"]).created();
    let other = Story { trace: one.trace, ..Story::of(&["cup"]) }.created();
    watch.hear_all(&one).await;
    assert_eq!(watch.saga(one.trace.trace_id).await["key"], json!(one.order), "so far it is the only one");
    watch.hear_all(&other).await;
    let (status, problem) = read(watch.ask(Method::GET, &format!("/api/sagas/{}", one.trace.trace_id))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("several-sagas")));
    let mut candidates: Vec<String> =
        problem["candidates"].as_array().expect("candidates").iter().map(|saga| text(&saga["key"])).collect();
    assert!(candidates.iter().all(|key| text(&problem["detail"]).contains(key)), "{problem}");
    candidates.sort();
    let mut expected = [one.order.to_string(), other.order.to_string()];
    expected.sort();
    assert_eq!(candidates, expected);
    assert_eq!(watch.saga(other.order).await["key"], json!(other.order));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_a_step_and_progress_whichever_is_heard_first() {
    use common_events::Service;
    use messaging::{OwnTopic, Rung};
    for hop_first in ["the hop first", "the event first"] {
        let watch = Watch::begin().await;
        let story = Story::of(&["tea"]).created().placed();
        let records: Vec<Record> = story.told.iter().map(|told| watch.record_of(told)).collect();
        let at = story.next_at;
        let hop = watch.hop(Service::Product, OwnTopic::Retry(Rung::First), &records[1], 3, at);
        if hop_first == "the hop first" {
            watch.hear(&[hop]).await;
            watch.hear(&records).await;
        } else {
            watch.hear(&records).await;
            watch.hear(&[hop]).await;
        }
        let saga = watch.saga(story.order).await;
        assert_eq!(saga["lastProgressAt"], json!(at), "{hop_first}");
        let step = &saga["steps"][2];
        assert_eq!((&step["status"], &step["service"]), (&json!("RETRYING"), &json!("product-service")), "{hop_first}");
        assert_eq!(
            (&step["tier"], &step["attempt"], &step["errorClass"]),
            (&json!("retry-1"), &json!(3), &json!("broken"))
        );
        assert_eq!(step["eventId"], json!(story.told[1].id), "of the event it is about");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_answer_keeps_nobody_waiting_for_each_of_its_events() {
    use common_events::Service;
    use messaging::{OwnTopic, Rung};
    let watch = Watch::begin().await;
    let story = Story::of(&["tea", "cup", "pot"]).created().placed();
    let records = watch.hear_all(&story).await;
    for record in &records[1..] {
        watch.hear(&[watch.hop(Service::Product, OwnTopic::Retry(Rung::Third), record, 6, story.next_at)]).await;
    }
    let saga = watch.saga(story.order).await;
    assert_eq!(saga["steps"][4]["status"], "RETRYING", "as it was heard of last");
    assert_eq!(watch.others.received_requests().await.map(|asked| asked.len()), Some(1));
}
