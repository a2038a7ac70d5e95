//! What strangers put on a group's own topics: each is one dead letter or stale, and nothing waits for it.

use std::slice::from_ref;

use messaging::{
    Delivered, Record, X_ATTEMPT, X_DUE_AT, X_ERROR_CLASS, X_ERROR_MESSAGE, X_FIRST_FAILED_AT, X_HOP,
    X_ORIGIN_TIMESTAMP,
};
use uuid::Uuid;

use super::{NONE, SHORT};
use crate::toys::{Mood, Toy, ToyShop, event, record};

const OWN_TOPICS: [&str; 5] = [
    "order-service.retry-1",
    "order-service.retry-2",
    "order-service.retry-3",
    "order-service.replay",
    "order-service.dlt",
];
/// chrono goes that far back, PostgreSQL doesn't.
const LONG_AGO: &str = "-200000-01-01T00:00:00Z";
/// PostgreSQL goes that far, RFC 3339 doesn't.
const FAR_AHEAD: &str = "+20000-01-01T00:00:00Z";

fn header(name: &str, value: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), value.into())
}

#[tokio::test]
async fn hostile_headers_on_each_own_topic_make_one_dead_letter_and_hold_up_nobody() {
    let hostile = [
        header(X_FIRST_FAILED_AT, LONG_AGO),
        header(X_ORIGIN_TIMESTAMP, LONG_AGO),
        header(X_DUE_AT, LONG_AGO),
        header(X_FIRST_FAILED_AT, FAR_AHEAD),
        header(X_ORIGIN_TIMESTAMP, FAR_AHEAD),
        header(X_ATTEMPT, u32::MAX.to_string()),
        header(X_ATTEMPT, "-1"),
        header(X_HOP, i32::MAX.to_string()),
        header(X_HOP, vec![0xff]),
        header(X_ERROR_CLASS, "nul\0"),
        header(X_ERROR_CLASS, vec![b'x'; 100_000]),
        header(X_ERROR_MESSAGE, "nul\0"),
        header(X_ERROR_MESSAGE, vec![b'x'; 100_000]),
    ];
    let labelled = format!(r#"{{"id":"{}","time":"{LONG_AGO}"}}"#, Uuid::now_v7()).into_bytes();
    let shop = ToyShop::open_with(SHORT).await;
    let (mut offset, mut dead) = (0, 0);
    for topic in OWN_TOPICS {
        for bad in &hostile {
            for value in [&b"\xff rubbish"[..], &labelled] {
                offset += 2;
                let bad = Record {
                    topic: topic.to_owned(),
                    headers: vec![header(X_HOP, "7"), bad.clone()],
                    value: Some(value.to_vec()),
                    ..record(&event(Toy::fine("bear", 1)), offset)
                };
                let good = Record { topic: topic.to_owned(), value: Some(b"{}".to_vec()), ..bad.clone() };
                let batch = [bad, Record { offset: offset + 1, headers: Vec::new(), ..good }];
                let delivered = shop.try_to_deliver(&batch).await;
                let delivered = delivered.unwrap_or_else(|stalled| panic!("{topic} waits: {stalled:?} {batch:?}"));
                assert_eq!(delivered, Delivered { dead: 2, ..NONE }, "{topic} {:?}", batch[0].headers);
                assert_eq!(shop.deliver(&batch).await, Delivered { duplicates: 2, ..NONE }, "once");
                dead += 2;
            }
        }
    }
    assert_eq!(shop.dead_letters().await.len(), dead);
}

#[tokio::test]
async fn a_due_time_that_no_hop_of_ours_has_holds_up_nobody() {
    let shop = ToyShop::open_with(SHORT).await;
    let toy = event(Toy::new("bear", 1, Mood::BreaksUntilFree));
    shop.deliver(&[record(&toy, 0)]).await;
    let hop = shop.relay().await.remove(0);
    let hours_later = (chrono::Utc::now() + chrono::TimeDelta::hours(23)).to_rfc3339();
    let strangers = [
        Record { headers: vec![header(X_DUE_AT, &*hours_later)], ..hop.clone() },
        Record { headers: vec![header(X_DUE_AT, &*hours_later), header(X_HOP, "2")], ..hop.clone() },
        Record { value: None, headers: vec![header(X_DUE_AT, &*hours_later), header(X_HOP, "1")], ..hop.clone() },
    ];
    for stranger in &strangers {
        let due = shop.group.due(&[stranger.clone(), hop.clone()]).await.expect("the database answers");
        assert_eq!(due.now, 2, "{stranger:?}");
    }
    // Our own hop is waited for, also when the ladder was made shorter since.
    let mut long = hop.clone();
    long.headers.retain(|(name, _)| name != X_DUE_AT);
    long.headers.push(header(X_DUE_AT, &*hours_later));
    let due = shop.group.due(from_ref(&long)).await.expect("the database answers");
    assert_eq!(due.now, 0, "never early");
}

#[tokio::test]
async fn a_key_longer_than_an_index_takes_keeps_no_order_and_holds_up_nobody() {
    let shop = ToyShop::open_with(SHORT).await;
    let noise: Vec<u8> = (0..600).flat_map(|_| Uuid::now_v7().into_bytes()).collect();
    let long = |n, mood| Record { key: Some(noise.clone()), ..record(&event(Toy::new("bear", n, mood)), n) };
    let batch = [long(1, Mood::AnswersAndBreaks), long(2, Mood::Fine)];
    let delivered = shop.try_to_deliver(&batch).await.expect("no partition waits for it");
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, ..NONE });
}
