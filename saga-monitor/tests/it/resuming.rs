//! A resume as operators ask for it: what is asked again of whom, and who had it asked.

use reqwest::Method;
use serde_json::{Value, json};
use test_support::kafka_brokers;

use crate::{
    story::Story,
    watch::{Watch, read, text},
};

async fn resume(watch: &Watch, key: impl std::fmt::Display) -> (u16, Value) {
    let body = json!({"reason": "it stands still"});
    read(watch.ask(Method::POST, &format!("/api/sagas/{key}/resume")).json(&body)).await
}

/// Who asked for what, with what result, the latest first.
async fn audit(watch: &Watch) -> Vec<(String, Value, String, String, Value)> {
    let lines = watch.get("/admin/audit?action=resume").await;
    let line = |line: &Value| {
        let [who, reason, result] = ["who", "reason", "result"].map(|name| text(&line[name]));
        (who, line["subject"].clone(), reason, result, line["detail"].clone())
    };
    lines["items"].as_array().expect("items").iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_asks_the_one_group_that_owes_and_is_written_down_with_its_reason() {
    let watch = Watch::begin_beside(&kafka_brokers()).await;
    let story = Story::of(&["tea"]).created().placed();
    watch.hear_all(&story).await;
    let line = story.id_of("order-line-placed");
    watch.others_say(line, "applied", json!({})).await;
    for time in 1..=2 {
        let (status, resumed) = resume(&watch, story.order).await;
        let asked = json!([
            {"eventId": line, "eventType": "order-line-placed", "group": "product-service", "owes": "stock-deducted"},
        ]);
        assert_eq!((status, &resumed["asked"]), (202, &asked), "{resumed}");
        assert_eq!(watch.count("outbox WHERE topic = 'product-service.replay'").await, time);
    }
    assert_eq!(watch.count("outbox").await, 2, "nobody else is asked");
    let saga = json!({"saga": format!("order:{}", story.order)});
    let acts = audit(&watch).await;
    assert_eq!(acts.len(), 2);
    for (who, subject, reason, result, detail) in acts {
        assert_eq!((&*who, &subject, &*reason, &*result), ("olga", &saga, "it stands still", "DONE"));
        assert_eq!(detail["asked"][0]["eventId"], json!(line));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_written_down_too() {
    let watch = Watch::begin_beside(&kafka_brokers()).await;
    let story = Story::of(&["tea"]).created().placed();
    watch.hear_all(&story).await;
    watch.others_say(story.id_of("order-line-placed"), "parked", json!({})).await;
    let (status, problem) = resume(&watch, story.trace.trace_id).await;
    assert_eq!((status, &problem["code"]), (409, &json!("event-in-ladder")), "{problem}");
    let acts = audit(&watch).await;
    let [(who, _, _, result, detail)] = acts.as_slice() else { panic!("{acts:?}") };
    assert_eq!((&**who, &**result, &detail["code"]), ("olga", "REFUSED", &json!("event-in-ladder")));
    assert_eq!(watch.count("outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_lies_elsewhere_under_the_same_id_is_not_the_one_that_is_sent() {
    let watch = Watch::begin_beside(&kafka_brokers()).await;
    let story = Story::of(&["tea"]).created().placed();
    let line = &story.told[1];
    watch.hear(&[watch.record("stock-deducted", "tea", &line.value, line.at)]).await;
    watch.hear_all(&story).await;
    watch.others_say(line.id, "applied", json!({})).await;
    let (status, resumed) = resume(&watch, story.order).await;
    assert_eq!(status, 202, "{resumed}");
    let client = watch.database.pool.get().await.expect("a connection");
    let row = client.query_one("SELECT key, header_names, header_values FROM outbox", &[]).await.expect("one row");
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(1), row.get(2));
    let origin = names.iter().position(|name| name == "x-origin-topic").expect("it says where it lay");
    assert_eq!(values[origin], b"order-line-placed");
}
