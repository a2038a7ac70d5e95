//! Lists, filters, cursors; who may ask; and what bad questions are answered.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch, read, text},
};

fn keys(page: &Value) -> Vec<String> {
    page["items"].as_array().expect("items").iter().map(|saga| text(&saga["key"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_listed_newest_first_and_page_by_page() {
    let watch = Watch::begin().await;
    let mut expected = Vec::new();
    for minutes in 0..7 {
        let mut story = Story::of(&["tea"]);
        story.next_at += TimeDelta::minutes(minutes);
        let story = story.created();
        watch.hear_all(&story).await;
        expected.insert(0, story.order.to_string());
    }
    let (mut found, mut path) = (Vec::new(), "/api/sagas?limit=3".to_owned());
    loop {
        let page = watch.get(&path).await;
        found.extend(keys(&page));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/api/sagas?limit=3&cursor={cursor}");
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_filtered_by_all_that_is_said_of_them() {
    let watch = Watch::begin().await;
    let (done, undone, open) =
        (Story::of_a_confirmed_order(), Story::of_a_compensated_order(), Story::of(&["tea"]).created());
    let request = Story::of_a_request().issued();
    for story in [&done, &undone, &open, &request] {
        watch.hear_all(story).await;
    }
    watch.round_at(open.last_at() + STUCK_AFTER * 2).await;
    let (done, undone, open) = (done.order.to_string(), undone.order.to_string(), open.order.to_string());
    let request = request.told[0].id.to_string();
    for (filter, expected) in [
        ("state=COMPLETED", vec![&done, &request]),
        ("state=COMPLETED&type=order", vec![&done]),
        ("type=coupon-issue", vec![&request]),
        ("state=COMPENSATED", vec![&undone]),
        ("stuck=true", vec![&open]),
        ("stuck=false&type=order", vec![&done, &undone]),
        ("mismatched=true", vec![]),
        ("mismatched=false", vec![&done, &undone, &open, &request]),
        ("olderThan=30m", vec![&done, &undone, &open, &request]),
        ("olderThan=2h", vec![]),
        ("olderThan=2020-01-01T00:00:00Z", vec![]),
    ] {
        let found: BTreeSet<String> = keys(&watch.get(&format!("/api/sagas?{filter}")).await).into_iter().collect();
        assert_eq!(found, expected.into_iter().cloned().collect(), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_time_trace_key_and_type() {
    let watch = Watch::begin().await;
    let (story, other) = (Story::of_a_confirmed_order(), Story::of(&["pot"]).created());
    watch.hear_all(&story).await;
    watch.hear_all(&other).await;
    let events = async |query: &str| {
        let page = watch.get(&format!("/api/events?{query}")).await;
        page["items"].as_array().expect("items").iter().map(|event| text(&event["eventType"])).collect::<Vec<_>>()
    };
    let moment = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let (from, to) = (moment(story.told[5].at), moment(story.told[8].at));
    let between = events(&format!("traceId={}&from={from}&to={to}", story.trace.trace_id)).await;
    assert_eq!(between, ["order-reserved", "point-deducted", "payment-completed"]);
    let of_order = events(&format!("key={}", story.order)).await;
    assert_eq!(of_order, ["order-created", "order-reserved", "payment-completed", "order-confirmed"]);
    assert_eq!(events("type=order-created").await.len(), 2);
    assert_eq!(events(&format!("type=order-created&key={}", other.order)).await.len(), 1);
    let first = watch.get("/api/events?limit=2").await;
    let cursor = text(&first["nextCursor"]);
    let second = watch.get(&format!("/api/events?limit=2&cursor={cursor}")).await;
    assert_ne!(first["items"], second["items"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_asked_for_in_either_case_and_answered_in_lower_case() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    let (order, trace) = (story.order.to_string(), story.trace.trace_id.to_string());
    let event = story.id_of("order-created").to_string();
    for known_by in [&order, &trace, &format!("order:{order}")] {
        let saga = watch.saga(known_by.to_uppercase()).await;
        assert_eq!((&saga["key"], &saga["traceId"]), (&json!(order), &json!(trace)), "{known_by}");
    }
    for query in [format!("key={}", order.to_uppercase()), format!("traceId={}", trace.to_uppercase())] {
        let found = watch.get(&format!("/api/events?{query}")).await;
        assert_eq!(
            (&found["items"][0]["eventId"], &found["items"][0]["key"]),
            (&json!(event), &json!(order)),
            "{query}"
        );
    }
    let whereabouts = watch.get(&format!("/api/where/{}", event.to_uppercase())).await;
    assert_eq!((&whereabouts["eventId"], &whereabouts["topic"]), (&json!(event), &json!("order-created")));
}

/// Who has a UUID in capitals for a user's id finds what happened with it, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_somebody_elses_making_is_found_as_it_was_given() {
    let watch = Watch::begin().await;
    let user = Uuid::now_v7().to_string().to_uppercase();
    let story = Story::of(&["tea"]).created();
    watch.hear(&[watch.record("point-charged", &user, &story.told[0].value, story.last_at())]).await;
    let found = watch.get(&format!("/api/events?key={user}")).await;
    assert_eq!(found["items"][0]["key"], json!(user));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_acknowledged_once_and_by_whom() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let alarm = watch.get("/api/alarms").await["items"][0].clone();
    assert_eq!((&alarm["kind"], &alarm["state"]), (&json!("stuck"), &json!("OPEN")));
    let ack = format!("/api/alarms/{}/ack", text(&alarm["id"]));
    let (status, acknowledged) = read(watch.ask(Method::POST, &ack)).await;
    assert_eq!(
        (status, &acknowledged["state"], &acknowledged["acknowledgedBy"]),
        (200, &json!("ACKNOWLEDGED"), &json!("olga"))
    );
    let again = watch.ask_as_nobody(Method::POST, &ack).header("X-User-Id", "otto").header("X-Roles", "operator");
    assert_eq!(read(again).await.1["acknowledgedBy"], "olga");
    assert_eq!(watch.alarms("stuck").await, [], "somebody looks after it");
    watch.round_at(story.last_at() + STUCK_AFTER * 3).await;
    assert_eq!(watch.get("/api/alarms").await["items"].as_array().map(Vec::len), Some(1));
}

#[rstest]
#[case("/api/sagas?state=HAPPY", "state")]
#[case("/api/sagas?type=parcel", "type")]
#[case("/api/sagas?stuck=perhaps", "stuck")]
#[case("/api/sagas?olderThan=yesterday", "olderThan")]
#[case("/api/sagas?olderThan=-200000-01-01T00:00:00Z", "olderThan")]
#[case("/api/sagas?olderThan=-0001-01-01T00:00:00Z", "olderThan")]
#[case("/api/sagas?olderThan=%2B262142-01-01T00:00:00Z", "olderThan")]
#[case("/api/sagas?limit=0", "limit")]
#[case("/api/sagas?cursor=AAAA", "cursor")]
#[case("/api/sagas?colour=red", "colour")]
#[case("/api/alarms?state=LOUD", "state")]
#[case("/api/alarms?cursor=x", "cursor")]
#[case("/api/events?from=then", "from")]
#[case("/api/events?from=-200000-01-01T00:00:00Z", "from")]
#[case("/api/events?from=%2B10000-01-01T00:00:00Z", "from")]
#[case("/api/events?to=-200000-01-01T00:00:00Z", "to")]
#[case("/api/events?to=-0001-01-01T00:00:00Z", "to")]
#[case("/api/events?to=%2B262142-01-01T00:00:00Z", "to")]
#[case("/api/events?traceId=xyz", "traceId")]
#[case("/api/events?key=%00", "key")]
#[case("/api/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to")]
#[case("/api/consumers?group=nobody", "group")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_is_400_and_names_the_parameter(#[case] path: &str, #[case] field: &str) {
    let watch = Watch::begin().await;
    let (status, problem) = read(watch.ask(Method::GET, path)).await;
    assert_eq!((status, problem["field"].as_str()), (400, Some(field)), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_ones_own_making_is_400_whatever_it_holds() {
    let watch = Watch::begin().await;
    for (list, position) in [
        ("sagas", json!(["-200000-01-01T00:00:00Z", "x"])),
        ("sagas", json!(["2026-01-01T00:00:00Z", "a\u{0}b"])),
        ("sagas", json!([7, {}])),
        ("alarms", json!(["-200000-01-01T00:00:00Z", Uuid::now_v7()])),
        ("events", json!(["-200000-01-01T00:00:00Z", 1])),
        ("events", json!(["2026-01-01T00:00:00Z", 1e30])),
    ] {
        let cursor = BASE64_URL_SAFE_NO_PAD.encode(position.to_string());
        let (status, problem) = read(watch.ask(Method::GET, &format!("/api/{list}?cursor={cursor}"))).await;
        assert_eq!(status, 400, "{list} {position}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let watch = Watch::begin().await;
    let nobody = Uuid::now_v7();
    for path in [
        format!("/api/sagas/{nobody}"),
        "/api/sagas/x".to_owned(),
        "/api/sagas/%00".to_owned(),
        "/api/sagas/4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        "/api/where/42".to_owned(),
        "/api/nothing".to_owned(),
    ] {
        assert_eq!(read(watch.ask(Method::GET, &path)).await.0, 404, "{path}");
    }
    assert_eq!(read(watch.ask(Method::POST, &format!("/api/alarms/{nobody}/ack"))).await.0, 404);
    let resume = watch.ask(Method::POST, &format!("/api/sagas/{nobody}/resume")).json(&json!({"reason": "it stands"}));
    assert_eq!(read(resume).await.0, 404);
    for (body, status) in [(json!({}), 422), (json!({"reason": " "}), 422), (json!({"reason": 7}), 422)] {
        let resume = watch.ask(Method::POST, &format!("/api/sagas/{nobody}/resume")).json(&body);
        assert_eq!(read(resume).await.0, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_are_answered() {
    let watch = Watch::begin().await;
    let id = Uuid::now_v7();
    let calls = [
        (Method::GET, "/api/sagas".to_owned()),
        (Method::GET, format!("/api/sagas/{id}")),
        (Method::POST, format!("/api/sagas/{id}/resume")),
        (Method::GET, "/api/alarms".to_owned()),
        (Method::POST, format!("/api/alarms/{id}/ack")),
        (Method::GET, "/api/events".to_owned()),
        (Method::GET, format!("/api/where/{id}")),
        (Method::GET, "/api/consumers".to_owned()),
    ];
    for (method, path) in calls {
        let body = json!({"reason": "why not"});
        assert_eq!(read(watch.ask_as_nobody(method.clone(), &path).json(&body)).await.0, 401, "{path}");
        assert_eq!(read(watch.ask_as_customer(method, &path).json(&body)).await.0, 403, "{path}");
    }
}
