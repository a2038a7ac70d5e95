//! What `sagactl` asks saga-monitor (docs/contract.md §7): tables for people, the monitor's own JSON for programs;
//! exit code 0 done, 1 failed, 2 usage.

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_json, header, method, path, query_param},
};

use super::{NOBODY, at, err, out, sagactl};

const ORDER: &str = "0190d3a8-5a4e-7000-8000-0000000000aa";
const EVENT: &str = "0190d3a8-5a4e-7000-8000-0000000000bb";
const ALARM: &str = "0190d3a8-5a4e-7000-8000-0000000000cc";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn saga() -> Value {
    json!({
        "sagaId": format!("order:{ORDER}"), "type": "order", "key": ORDER, "traceId": TRACE, "state": "IN_PROGRESS",
        "stuck": true, "mismatched": false, "cause": "ANSWER_LOST",
        "waitingFor": {"event": "stock-deducted", "from": "product-service"},
        "startedAt": "2026-11-21T06:00:00Z", "lastProgressAt": "2026-11-21T06:00:01Z",
    })
}

fn step() -> Value {
    json!({
        "step": "place order", "status": "SUCCESS", "eventId": EVENT, "eventType": "order-created",
        "service": "order-service", "at": "2026-11-21T06:00:00Z", "topic": "order-created", "partition": 2, "offset": 41,
    })
}

fn detail() -> Value {
    let mut detail = saga();
    detail["steps"] = json!([step()]);
    detail["mismatches"] = json!(["done-twice: payment-completed"]);
    detail["zipkinUrl"] = json!(format!("http://127.0.0.1:19411/zipkin/traces/{TRACE}"));
    detail
}

/// What is asked, what is said to it, and what of it people are shown.
fn questions() -> Vec<(Vec<&'static str>, String, Value, Vec<&'static str>)> {
    let alarm = json!({
        "id": ALARM, "kind": "stuck", "state": "OPEN", "cause": "CONSUMER_DEAD", "count": 12, "detail": {},
        "title": "no consumer of product-service is running", "openedAt": "2026-11-21T06:05:00Z",
        "changedAt": "2026-11-21T06:05:00Z",
    });
    let found = json!({
        "eventId": EVENT, "state": "found", "topic": "order-line-placed", "partition": 0, "offset": 7,
        "groups": [{"group": "product-service", "state": "retrying", "tier": "retry-2", "dueAt": "2026-11-21T06:01:00Z"}],
    });
    let consumers = json!({
        "at": "2026-11-21T06:00:00Z",
        "items": [{
            "group": "product-service", "topic": "order-line-placed", "partition": 1, "committedOffset": 5,
            "endOffset": 12, "lag": 7, "publishRate": 2.0, "handleRate": 1.5, "errors": 0, "retries": 0, "duplicates": 0,
            "latency": {"avgMs": 4.0, "p50Ms": 3.5, "p95Ms": 8.0, "p99Ms": 9.5},
        }],
        "services": [
            {"service": "product-service", "up": true, "members": 1, "memoryBytes": 20_000_000, "cpuCores": 0.25},
        ],
    });
    vec![
        (vec!["sagas"], "/api/sagas".into(), json!({"items": [saga()]}), vec![ORDER, "stuck (ANSWER_LOST)"]),
        (
            vec!["saga", "show", ORDER],
            format!("/api/sagas/{ORDER}"),
            detail(),
            vec!["place order", "done-twice", TRACE],
        ),
        (vec!["where", EVENT], format!("/api/where/{EVENT}"), found, vec!["product-service", "retry-2"]),
        (vec!["lag"], "/api/consumers".into(), consumers, vec!["order-line-placed", "20.0", "9.5"]),
        (vec!["alarms"], "/api/alarms".into(), json!({"items": [alarm]}), vec![ALARM, "CONSUMER_DEAD", "12"]),
        (vec!["events"], "/api/events".into(), json!({"items": [step()]}), vec![EVENT, "order-created/2/41"]),
    ]
}

#[tokio::test]
async fn people_are_shown_tables_and_programs_the_monitors_own_json() {
    for (arguments, asked, answer, shown) in questions() {
        let monitor = MockServer::start().await;
        let asked = Mock::given(method("GET")).and(path(asked)).and(header("x-user-id", "olga"));
        let asked = asked.and(header("x-roles", "operator"));
        asked.respond_with(ResponseTemplate::new(200).set_body_json(&answer)).mount(&monitor).await;
        let urls = at(&[("saga-monitor", &monitor.uri())]);
        let table = sagactl(&urls, &arguments).await;
        assert_eq!(table.status.code(), Some(0), "{arguments:?}: {}", err(&table));
        for text in shown {
            assert!(out(&table).contains(text), "{text} is missing: {}", out(&table));
        }
        let listed = sagactl(&urls, &[&arguments[..], &["--json"]].concat()).await;
        assert_eq!(listed.status.code(), Some(0), "{arguments:?}: {}", err(&listed));
        let json: Value = serde_json::from_slice(&listed.stdout).expect("JSON, and nothing else");
        assert_eq!(json, answer);
    }
}

#[tokio::test]
async fn what_is_wanted_is_asked_for_and_there_being_more_is_said() {
    let monitor = MockServer::start().await;
    let page = json!({"items": [saga()], "nextCursor": "behind-it"});
    let asked = Mock::given(method("GET")).and(path("/api/sagas")).and(query_param("state", "IN_PROGRESS"));
    let asked = asked.and(query_param("type", "order")).and(query_param("stuck", "true"));
    let asked = asked.and(query_param("olderThan", "10m")).and(query_param("limit", "5"));
    asked.respond_with(ResponseTemplate::new(200).set_body_json(page)).mount(&monitor).await;
    let urls = at(&[("saga-monitor", &monitor.uri())]);
    let arguments =
        ["sagas", "--state", "IN_PROGRESS", "--type", "order", "--stuck", "--older-than", "10m", "--limit", "5"];
    let listed = sagactl(&urls, &arguments).await;
    assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
    assert!(out(&listed).contains("--cursor behind-it"), "{}", out(&listed));
}

#[tokio::test]
async fn a_resume_says_why_and_what_was_asked_again() {
    let monitor = MockServer::start().await;
    let resumed = json!({
        "sagaId": format!("order:{ORDER}"),
        "asked": [
            {"eventId": EVENT, "eventType": "order-line-placed", "group": "product-service", "owes": "stock-deducted"},
        ],
    });
    let asked = Mock::given(method("POST")).and(path(format!("/api/sagas/{ORDER}/resume")));
    let asked = asked.and(body_json(json!({"reason": "it stands"})));
    asked.respond_with(ResponseTemplate::new(202).set_body_json(resumed)).mount(&monitor).await;
    let urls = at(&[("saga-monitor", &monitor.uri())]);
    let done = sagactl(&urls, &["saga", "resume", ORDER, "--reason", "it stands"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(out(&done).contains("product-service") && out(&done).contains(EVENT), "{}", out(&done));
}

#[tokio::test]
async fn an_alarm_is_taken_on() {
    let monitor = MockServer::start().await;
    let taken = json!({"id": ALARM, "state": "ACKNOWLEDGED", "acknowledgedBy": "olga"});
    let asked = Mock::given(method("POST")).and(path(format!("/api/alarms/{ALARM}/ack")));
    asked.respond_with(ResponseTemplate::new(200).set_body_json(taken)).mount(&monitor).await;
    let done = sagactl(&at(&[("saga-monitor", &monitor.uri())]), &["alarms", "--ack", ALARM]).await;
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(out(&done).contains("olga"), "{}", out(&done));
}

#[tokio::test]
async fn an_id_in_capitals_is_asked_for_in_lower_case() {
    let monitor = MockServer::start().await;
    let taken = json!({"id": ALARM, "state": "ACKNOWLEDGED", "acknowledgedBy": "olga"});
    let asked = Mock::given(method("POST")).and(path(format!("/api/alarms/{ALARM}/ack")));
    asked.respond_with(ResponseTemplate::new(200).set_body_json(taken)).mount(&monitor).await;
    let nowhere = json!({"eventId": EVENT, "state": "nowhere", "groups": []});
    let asked = Mock::given(method("GET")).and(path(format!("/api/where/{EVENT}")));
    asked.respond_with(ResponseTemplate::new(200).set_body_json(nowhere)).mount(&monitor).await;
    let urls = at(&[("saga-monitor", &monitor.uri())]);
    for arguments in [&["alarms", "--ack", &*ALARM.to_uppercase()][..], &["where", &*EVENT.to_uppercase()]] {
        let done = sagactl(&urls, arguments).await;
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", err(&done));
    }
}

#[tokio::test]
async fn a_refusal_and_a_monitor_that_is_away_are_failures_that_say_why() {
    let monitor = MockServer::start().await;
    let refused = json!({"status": 409, "code": "event-dead", "detail": "product-service has it dead"});
    let asked = Mock::given(method("POST")).and(path(format!("/api/sagas/{ORDER}/resume")));
    asked.respond_with(ResponseTemplate::new(409).set_body_json(refused)).mount(&monitor).await;
    let urls = at(&[("saga-monitor", &monitor.uri())]);
    let refused = sagactl(&urls, &["saga", "resume", ORDER, "--reason", "it stands", "--json"]).await;
    assert_eq!((refused.status.code(), &*out(&refused)), (Some(1), ""));
    assert!(err(&refused).contains("event-dead"), "{}", err(&refused));
    let away = sagactl(&at(&[("saga-monitor", NOBODY)]), &["sagas"]).await;
    assert_eq!(away.status.code(), Some(1));
    assert!(err(&away).contains("saga-monitor") && err(&away).contains("is away"), "{}", err(&away));
}

#[tokio::test]
async fn what_makes_no_sense_is_a_question_of_usage() {
    for wrong in [
        &["sagas", "--state", "HAPPY"][..],
        &["sagas", "--type", "parcel"],
        &["sagas", "--limit", "0"],
        &["sagas", "--limit", "201"],
        &["saga", "show"],
        &["saga", "resume", ORDER],
        &["where", "42"],
        &["lag", "--group", "nobody"],
        &["alarms", "--state", "LOUD"],
        &["alarms", "--kind", "fire"],
        &["alarms", "--ack", "42"],
        &["alarms", "--ack", &ALARM.replace('-', "")],
        &["alarms", "--ack", ALARM, "--kind", "stuck"],
        &["events", "--from", "yesterday"],
        &["events", "--trace-id", "xyz"],
        &["whatever"],
    ] {
        let refused = sagactl(&at(&[("saga-monitor", NOBODY)]), wrong).await;
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", err(&refused));
    }
}
