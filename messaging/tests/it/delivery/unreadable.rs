//! Records that are no events, or not ours: set aside with their place, byte for byte; once; and
//! nothing else waits for them.

use common_events::{EventData, Topic};
use messaging::{Delivered, Record, X_ERROR_CLASS, X_ORIGIN_TOPIC};
use serde_json::{Value, json};

use crate::toys::{Coin, Toy, ToyShop, event, record};

/// A good toy's record whose value was changed.
fn with_value(change: impl FnOnce(&mut Value)) -> Record {
    let mut record = record(&event(Toy::fine("bear", 1)), 0);
    let mut value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("JSON");
    change(&mut value);
    record.value = Some(value.to_string().into_bytes());
    record
}

fn with_bytes(value: &[u8]) -> Record {
    Record { value: Some(value.to_vec()), ..record(&event(Toy::fine("bear", 1)), 0) }
}

fn without(attribute: &str) -> Record {
    with_value(|value| {
        value.as_object_mut().expect("an object").remove(attribute);
    })
}

/// Delivers the record between two good ones; it alone must end as a dead letter of this class.
async fn is_set_aside(bad: Record, class: &str) -> crate::toys::DeadLetter {
    let shop = ToyShop::open().await;
    let bad = Record { partition: 2, offset: 41, ..bad };
    let good = |offset| Record { partition: 2, ..record(&event(Toy::fine("duck", offset)), offset) };
    let batch = [good(40), bad.clone(), good(42)];
    assert_eq!(shop.deliver(&batch).await, Delivered { applied: 2, dead: 1, ..Delivered::default() });
    assert_eq!(shop.journal().await, [("duck".to_owned(), 40), ("duck".to_owned(), 42)]);
    shop.deliver(&batch).await;
    assert_eq!(shop.journal().await.len(), 2);

    let mut dead = shop.dead_letters().await;
    assert_eq!(dead.len(), 1, "once, however often it is delivered");
    let dead = dead.remove(0);
    assert_eq!(dead.place, (bad.topic, 2, 41));
    assert_eq!((&dead.key, &dead.payload), (&bad.key, &bad.value), "byte for byte");
    assert_eq!(dead.headers.iter().map(|(_, value)| value).collect::<Vec<_>>(), values(&bad.headers));
    assert_eq!((&*dead.class, dead.attempts), (class, 1), "{}", dead.message);
    dead
}

fn values(headers: &[(String, Vec<u8>)]) -> Vec<&Vec<u8>> {
    headers.iter().map(|(_, value)| value).collect()
}

#[tokio::test]
async fn what_is_not_json() {
    for bytes in [&b"rubbish"[..], b"", b"\xff\x00\xfe", b"[]", b"null", b"{\"id\":", &b"[".repeat(100_000)] {
        is_set_aside(with_bytes(bytes), "undecodable").await;
    }
}

#[tokio::test]
async fn what_has_no_value() {
    is_set_aside(Record { value: None, ..with_bytes(b"") }, "undecodable").await;
}

#[tokio::test]
async fn an_unknown_type() {
    let dead = is_set_aside(with_value(|value| value["type"] = "order-vanished".into()), "undecodable").await;
    assert_eq!(dead.event_type.as_deref(), Some("order-vanished"));
    assert!(dead.event_id.is_some());
}

#[tokio::test]
async fn a_version_that_is_newer_than_its_reader() {
    let newer = |value: &mut Value| {
        value["dataschema"] = "urn:commerce:order-created:9".into();
        value["data"] = json!({});
    };
    let dead = is_set_aside(with_value(newer), "newer-version").await;
    assert!(dead.message.contains("urn:commerce:order-created:9"), "{}", dead.message);
    assert!(dead.event_id.is_some());
}

#[tokio::test]
async fn no_version_at_all() {
    for none in ["urn:commerce:order-created:0", "urn:commerce:order-vanished:1", "1"] {
        let dead = is_set_aside(with_value(|value| value["dataschema"] = none.into()), "undecodable").await;
        assert!(dead.message.contains(none), "{}", dead.message);
    }
}

#[tokio::test]
async fn a_missing_id() {
    let dead = is_set_aside(without("id"), "undecodable").await;
    assert_eq!(dead.event_id, None);
    assert_eq!(dead.event_type.as_deref(), Some("order-created"));
}

#[tokio::test]
async fn a_missing_trace() {
    let dead = is_set_aside(without("traceid"), "undecodable").await;
    assert!(dead.event_id.is_some());
    is_set_aside(without("traceparent"), "undecodable").await;
    let of_another = |value: &mut Value| value["traceid"] = "00000000000000000000000000000001".into();
    is_set_aside(with_value(of_another), "undecodable").await;
}

#[tokio::test]
async fn attributes_of_other_kinds_than_they_should_be() {
    is_set_aside(with_value(|value| value["id"] = json!(17)), "undecodable").await;
    is_set_aside(with_value(|value| value["id"] = "not-a-uuid".into()), "undecodable").await;
    is_set_aside(with_value(|value| value["data"] = json!({"key": 1})), "undecodable").await;
    is_set_aside(with_value(|value| value["type"] = "a\0b".into()), "undecodable").await;
    is_set_aside(with_value(|value| value["time"] = "yesterday".into()), "undecodable").await;
}

#[tokio::test]
async fn a_time_that_the_database_cannot_hold() {
    let long_ago = |value: &mut Value| value["time"] = "-200000-01-01T00:00:00Z".into();
    is_set_aside(with_value(long_ago), "out-of-time").await;
    let timestamp = "-200000-01-01T00:00:00Z".parse().expect("chrono goes that far back");
    is_set_aside(Record { timestamp: Some(timestamp), ..with_bytes(b"rubbish") }, "undecodable").await;
}

#[tokio::test]
async fn hostile_headers() {
    let headers = vec![
        ("x-resume".to_owned(), b"\xff\xfe".to_vec()),
        ("nul\0in the name".to_owned(), b"nul\0in the value".to_vec()),
        (String::new(), Vec::new()),
        ("traceparent".to_owned(), vec![0; 10_000]),
    ];
    let dead = is_set_aside(Record { headers, ..with_bytes(b"rubbish") }, "undecodable").await;
    assert_eq!(dead.headers[1].0, "nul\u{fffd}in the name", "PostgreSQL's text holds no NUL");
}

#[tokio::test]
async fn hostile_headers_do_not_harm_an_event_that_is_well() {
    let shop = ToyShop::open().await;
    let mut toy = record(&event(Toy::fine("bear", 1)), 0);
    toy.headers = vec![("nul\0".to_owned(), vec![0, 255]), ("x-resume".to_owned(), b"\xff".to_vec())];
    assert_eq!(shop.deliver(&[toy]).await, Delivered { applied: 1, ..Delivered::default() });
}

#[tokio::test]
async fn a_key_with_nul_or_no_text_at_all() {
    for key in [&b"nul\0"[..], b"\xff\xfe", b""] {
        let dead = is_set_aside(Record { key: Some(key.to_vec()), ..with_bytes(b"rubbish") }, "undecodable").await;
        assert_eq!(dead.key_text.is_some(), key.is_empty());
    }
    is_set_aside(Record { key: None, ..with_bytes(b"rubbish") }, "undecodable").await;
}

#[tokio::test]
async fn an_event_of_which_the_database_cannot_hold_a_field_climbs_like_any_other() {
    let shop = ToyShop::open().await;
    let nul = event(Toy::fine("nul\0", 1));
    let delivered = shop.deliver(&[record(&nul, 0), record(&event(Toy::fine("bear", 1)), 1)]).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, ..Delivered::default() });
    let [hop] = &*shop.forwarded().await else { panic!("one hop") };
    assert_eq!((hop.key.as_deref(), hop.header(X_ERROR_CLASS)), (Some(&b"nul\0"[..]), Some("database")));
}

#[tokio::test]
async fn a_topic_that_nobody_here_hears() {
    is_set_aside(Record { topic: "payment-failed".to_owned(), ..with_bytes(b"{}") }, "unknown-topic").await;
}

#[tokio::test]
async fn a_header_cannot_make_a_record_of_a_topic_into_one_of_another() {
    let shop = ToyShop::open().await;
    let mut toy = record(&event(Toy::fine("bear", 1)), 0);
    toy.headers = vec![(X_ORIGIN_TOPIC.to_owned(), Coin::TOPIC.name().into())];
    assert_eq!(shop.deliver(&[toy]).await.applied, 1, "a record of {} is one", Topic::OrderCreated);
}

#[tokio::test]
async fn an_origin_that_is_no_topic() {
    // Incompressible, and so too long for an index of the database.
    let noise: String = (0..400).map(|_| uuid::Uuid::now_v7().simple().to_string()).collect();
    for origin in [noise.into_bytes(), b"nul\0".to_vec(), b"\xff".to_vec(), Vec::new()] {
        let headers = vec![(X_ORIGIN_TOPIC.to_owned(), origin)];
        let topic = "order-service.replay".to_owned();
        is_set_aside(Record { topic, headers, ..with_bytes(b"rubbish") }, "unknown-topic").await;
    }
}

#[tokio::test]
async fn a_bad_record_on_the_replay_topic_is_not_taken_for_one_at_the_same_place_of_its_origin() {
    let shop = ToyShop::open().await;
    let bad = with_bytes(b"rubbish");
    let headers = vec![(X_ORIGIN_TOPIC.to_owned(), b"order-created".to_vec())];
    let replayed = Record { topic: "order-service.replay".to_owned(), headers, ..with_bytes(b"other rubbish") };
    shop.deliver(&[bad]).await;
    shop.deliver(&[replayed]).await;
    assert_eq!(shop.dead_letters().await.len(), 2, "neither is lost");
}
