//! What is no proper event is kept, marked, under a saga of its own or the one its key names; nothing stops.

use chrono::Utc;
use common_events::Service;
use messaging::OwnTopic;
use saga_monitor::{events::recorder::rebuild, store::positions::list_positions};
use serde_json::{Value, json};

use crate::{
    story::{Story, Told},
    watch::Watch,
};

/// The event with something else in it.
pub(crate) fn changed(told: &Told, change: impl FnOnce(&mut Value)) -> Told {
    let mut value: Value = serde_json::from_slice(&told.value).expect("events are JSON");
    change(&mut value);
    Told { value: value.to_string().into_bytes(), ..told.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_trace_or_with_an_invalid_one_belong_to_the_saga_of_their_key_and_are_marked() {
    for (mark, change) in [
        ("no-trace-id", (|value| drop(value.as_object_mut().expect("an object").remove("traceid"))) as fn(&mut Value)),
        ("no-trace-id", |value| value["traceid"] = json!("")),
        ("invalid-trace-id", |value| value["traceid"] = json!("not a trace")),
        ("invalid-trace-id", |value| value["traceid"] = json!("00000000000000000000000000000000")),
        ("invalid-trace-id", |value| value["traceparent"] = json!("00-zz")),
    ] {
        let watch = Watch::begin().await;
        let mut story = Story::of(&["tea"]).created();
        story.told[0] = changed(&story.told[0], change);
        watch.hear_all(&story).await;
        let saga = watch.saga(story.order).await;
        assert_eq!((&saga["marks"], &saga["traceId"]), (&json!([mark]), &Value::Null), "{mark}");
        assert_eq!((&saga["state"], &saga["steps"][0]["marks"]), (&json!("IN_PROGRESS"), &json!([mark])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_a_saga_of_its_own_or_of_its_key() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    let now = story.next_at;
    let told = &story.told[0];
    let unknown_type = changed(told, |value| value["type"] = json!("order-vanished"));
    let later_version = changed(told, |value| value["dataschema"] = json!("urn:commerce:order-created:2"));
    let no_id = changed(told, |value| value["id"] = json!(17));
    for (mark, told) in [("unknown-type", unknown_type), ("unknown-version", later_version), ("unreadable", no_id)] {
        let key = uuid::Uuid::now_v7().to_string();
        watch.hear(&[watch.record_of(&Told { key: key.clone(), ..told })]).await;
        let saga = watch.saga(&key).await;
        assert_eq!(saga["state"], "FAILED", "{mark}");
        assert!(saga["marks"].as_array().expect("marks").contains(&json!(mark)), "{mark}: {saga}");
        assert_eq!(saga["steps"][0]["status"], "FAILED");
    }
    for rubbish in [&b"rubbish"[..], b"", b"\xff\x00\xfe", b"[]", b"{\"id\":", b"null"] {
        let record = watch.record("order-confirmed", "no order's id", rubbish, now);
        let key = format!("order-confirmed:0:{}", record.offset);
        watch.hear(&[record]).await;
        let saga = watch.saga(&key).await;
        assert_eq!((&saga["type"], &saga["state"]), (&json!("order"), &json!("FAILED")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_hold_nothing_up() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    let told = &story.told[0];
    let mut records = Vec::new();
    for time in
        ["9999-12-31T23:59:59Z", "-4713-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "soon", "+262000-01-01T00:00:00Z"]
    {
        records.push(watch.record_of(&changed(told, |value| value["time"] = json!(time))));
    }
    records.push(watch.record_of(&changed(told, |value| value["type"] = json!("a\u{0}b".repeat(10_000)))));
    records.push(watch.record_of(&changed(told, |value| value["data"] = json!({"orderId": "\u{0}"}))));
    let mut far = watch.record_of(told);
    far.timestamp = chrono::DateTime::from_timestamp_millis(8_000_000_000_000_000);
    let mut bare = watch.record("stock-deducted", "", b"", Utc::now());
    (bare.timestamp, bare.key, bare.value) = (None, None, None);
    records.extend([far, bare]);
    let no_origin = watch.record(&OwnTopic::Dlt.name(Service::Order), "x", b"", Utc::now());
    let mut odd_origin = watch.hop(Service::Order, OwnTopic::Dlt, &records[0], 1, Utc::now());
    for (_, value) in &mut odd_origin.headers {
        *value = b"\xff\x00".to_vec();
    }
    records.extend([no_origin, odd_origin]);
    for record in &records {
        watch.hear(std::slice::from_ref(record)).await;
    }
    assert_eq!(watch.count("saga_state_log").await, i64::try_from(records.len()).expect("few"));
    let last: Value = watch.saga(story.order).await["lastProgressAt"].clone();
    let last: chrono::DateTime<Utc> = serde_json::from_value(last).expect("a time");
    assert!(last <= Utc::now() + chrono::TimeDelta::minutes(6), "a time that nobody can have seen isn't believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_trace_stays_with_its_order_and_is_marked() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    let stray = Story { trace: service_runtime::telemetry::root(), ..story.clone() }.placed();
    watch.hear_all(&story).await;
    watch.hear(&[watch.record_of(&stray.told[1])]).await;
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["marks"], &saga["traceId"]), (&json!(["other-trace"]), &json!(story.trace.trace_id)));
    assert_eq!(watch.saga(stray.trace.trace_id).await["key"], json!(story.order), "it is found by either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_nobody_can_have_seen_says_nothing_of_how_far_a_partition_is_read() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    let mut far = watch.record_of(&story.told[0]);
    far.timestamp = chrono::DateTime::from_timestamp_millis(8_000_000_000_000_000);
    watch.hear(&[far]).await;
    let client = watch.database.pool.get().await.expect("a connection");
    let positions = list_positions(&client).await.expect("PostgreSQL answers");
    let read = positions[&("order-created".to_owned(), 0)];
    assert_eq!((read.next_offset, read.last_at), (2, story.last_at()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_length_is_kept_and_holds_nothing_up() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    let mut record = watch.record_of(&story.told[0]);
    // Nothing that could be compressed.
    let key: Vec<u8> = (0..1_000).flat_map(|_| *uuid::Uuid::now_v7().as_bytes()).collect();
    record.key = Some(key.clone());
    watch.hear(&[record]).await;
    watch.hear_all(&story).await;
    let client = watch.database.pool.get().await.expect("a connection");
    let kept = client.query_one("SELECT key FROM saga_state_log ORDER BY id LIMIT 1", &[]).await;
    assert_eq!(kept.expect("a row").get::<_, Vec<u8>>(0), key);
    let found = watch.get(&format!("/api/events?key={}", story.order)).await;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_a_mebibyte_is_kept_whole_and_shown_by_its_size() {
    const MEBIBYTE: usize = 1024 * 1024;
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    for _ in 0..5 {
        let large = watch.record("order-confirmed", &story.order.to_string(), &vec![b'x'; MEBIBYTE], story.next_at);
        watch.hear(&[large]).await;
    }
    let client = watch.database.pool.get().await.expect("a connection");
    let kept = client.query_one("SELECT sum(octet_length(payload)) FROM saga_state_log", &[]).await.expect("a sum");
    assert!(kept.get::<_, i64>(0) > i64::try_from(5 * MEBIBYTE).expect("fits"));
    for path in [format!("/api/sagas/{}", story.order), "/api/events".to_owned()] {
        let shown = watch.get(&path).await;
        let steps = shown["steps"].as_array().or(shown["items"].as_array()).expect("steps");
        assert_eq!(steps.len(), 6);
        assert!(steps[5]["payload"].is_null(), "{path} shows all of it");
        assert_eq!(steps[5]["payloadBytes"], json!(MEBIBYTE));
        assert_eq!((&steps[0]["payload"]["id"], &steps[0]["payloadBytes"]), (&json!(story.told[0].id), &Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_whose_facts_cannot_be_read_holds_up_no_other_and_comes_back_from_the_log() {
    let watch = Watch::begin().await;
    let [broken, newer, well] = [(); 3].map(|()| Story::of(&["tea"]).created());
    for story in [&broken, &newer, &well] {
        watch.hear_all(story).await;
    }
    let client = watch.database.pool.get().await.expect("a connection");
    let of = |story: &Story| format!("order:{}", story.order);
    let damage = "UPDATE sagas SET facts = 'rubbish' WHERE saga = $1";
    assert_eq!(client.execute(damage, &[&of(&broken)]).await.expect("PostgreSQL answers"), 1);
    let shipped = r#"UPDATE sagas SET facts = replace(facts, '{"f":[', '{"f":[["order-shipped",null,{"by":"ship"}],')
                     WHERE saga = $1"#;
    assert_eq!(client.execute(shipped, &[&of(&newer)]).await.expect("PostgreSQL answers"), 1);
    let mut records = Vec::new();
    for story in [broken.clone(), newer.clone(), well.clone()] {
        let more = story.placed();
        records.extend(more.told[1..].iter().map(|told| watch.record_of(told)));
    }
    watch.hear(&records).await;
    let placed =
        |saga: &Value| saga["steps"].as_array().expect("steps").iter().any(|s| s["eventType"] == "order-line-placed");
    for story in [&newer, &well] {
        let saga = watch.saga(story.order).await;
        assert!(placed(&saga), "{saga}");
    }
    let facts: String = client
        .query_one("SELECT facts FROM sagas WHERE saga = $1", &[&of(&newer)])
        .await
        .expect("PostgreSQL answers")
        .get(0);
    assert!(facts.contains(r#"["order-shipped",null,{"by":"ship"}]"#), "{facts}");
    let known = list_positions(&client).await.expect("PostgreSQL answers");
    assert!(records.iter().all(|record| known[&(record.topic.clone(), 0)].next_offset > record.offset), "all is read");
    rebuild(&watch.database.pool).await.expect("it is rebuilt");
    assert!(placed(&watch.saga(broken.order).await));
}
