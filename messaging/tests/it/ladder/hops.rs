//! One hop after another, through the seam. Whatever dies in between, an event is in one place.

use std::{slice::from_ref, time::Duration};

use chrono::{DateTime, Utc};
use common_events::EventId;
use messaging::{
    Delivered, Record, X_ATTEMPT, X_DUE_AT, X_ERROR_CLASS, X_ERROR_MESSAGE, X_FIRST_FAILED_AT, X_GROUP, X_HOP,
    X_ORIGIN_OFFSET, X_ORIGIN_PARTITION, X_ORIGIN_TIMESTAMP, X_ORIGIN_TOPIC,
};
use test_support::eventually;

use super::{NONE, SHORT, headers, next_hop};
use crate::toys::{Coin, Label, Mood, Toy, ToyShop, event, record};

/// A toy that fails each time, with headers of its own.
fn broken() -> (EventId, Record) {
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndBreaks));
    let mut record = record(&toy, 41);
    record.partition = 2;
    record.headers = vec![("traceparent".to_owned(), toy.trace.to_string().into()), ("odd".to_owned(), vec![0, 255])];
    (toy.id, record)
}

fn time(record: &Record, header: &str) -> DateTime<Utc> {
    record.header(header).expect("it is there").parse().expect("RFC 3339")
}

async fn place(shop: &ToyShop, id: EventId) -> (String, Option<String>, i32) {
    let client = shop.pool().get().await.expect("a connection");
    let row = client
        .query_one("SELECT state, tier, hop FROM inbox WHERE event_id = $1", &[&id.uuid()])
        .await
        .expect("its row");
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn an_event_that_fails_each_time_takes_every_rung_and_is_dead_at_the_end() {
    let shop = ToyShop::open_with(SHORT).await;
    let (id, first) = broken();
    assert_eq!(shop.deliver(from_ref(&first)).await, Delivered { retrying: 1, ..NONE });
    for (hop, tier) in (1..).zip(["retry-1", "retry-2", "retry-3"]) {
        assert_eq!(place(&shop, id).await, ("retrying".to_owned(), Some(tier.to_owned()), hop));
        let [on_its_way] = &*shop.forwarded().await else { panic!("one record") };
        assert_eq!(on_its_way.topic, format!("order-service.{tier}"));
        assert_eq!((&on_its_way.key, &on_its_way.value), (&first.key, &first.value), "byte for byte");
        let expected = if tier == "retry-3" { NONE } else { Delivered { retrying: 1, ..NONE } };
        let expected = if tier == "retry-3" { Delivered { parked: 1, ..expected } } else { expected };
        assert_eq!(next_hop(&shop).await, expected);
    }
    assert_eq!(place(&shop, id).await, ("parked".to_owned(), None, 4));
    let [parked] = &*shop.dead_letters().await else { panic!("one row") };
    assert_eq!((&*parked.state, parked.attempts), ("PARKED", 6), "three in place, and one on each rung");
    assert!(shop.forwarded().await.is_empty());

    let tried = shop.group.try_parked().await.expect("the database answers");
    assert_eq!(tried, Delivered { parked: 1, dead: 1, ..NONE }, "one batch after the other");
    assert_eq!(place(&shop, id).await, ("dead".to_owned(), None, 6));
    let [dead] = &*shop.dead_letters().await else { panic!("still one row") };
    assert_eq!((&*dead.state, dead.attempts, &*dead.class), ("DEAD", 8, "platform-unavailable"));
    assert_eq!(dead.place, ("order-created".to_owned(), 2, 41));
    assert_eq!((&dead.key, &dead.payload, &dead.headers), (&first.key, &first.value, &first.headers));
    let [notice] = &*shop.relay().await else { panic!("one notice") };
    assert_eq!((&*notice.topic, &notice.value), ("order-service.dlt", &first.value));
    assert_eq!(shop.deliver(from_ref(notice)).await, Delivered { duplicates: 1, ..NONE }, "its owner has it already");
    assert!(shop.journal().await.is_empty() && shop.outbox().await.is_empty(), "nothing of it ever happened");
}

#[tokio::test]
async fn a_hop_says_where_it_comes_from_and_what_went_wrong() {
    let shop = ToyShop::open_with(SHORT).await;
    let (_, first) = broken();
    let before = Utc::now();
    shop.deliver(from_ref(&first)).await;
    let [one] = &*shop.relay().await else { panic!("one record") };
    let said = [X_ORIGIN_TOPIC, X_ORIGIN_PARTITION, X_ORIGIN_OFFSET, X_ATTEMPT, X_ERROR_CLASS, X_GROUP, X_HOP];
    let expected = ["order-created", "2", "41", "3", "platform-unavailable", "order-service", "1"];
    assert_eq!(headers(one, &said), expected.map(|text| Some(text.to_owned())));
    assert!(one.header(X_ERROR_MESSAGE).unwrap().contains("the toy platform is away"));
    assert_eq!(time(one, X_ORIGIN_TIMESTAMP), first.timestamp.unwrap());
    assert!(time(one, X_FIRST_FAILED_AT) >= before && time(one, X_DUE_AT) > time(one, X_FIRST_FAILED_AT));
    assert_eq!(one.headers[..2], first.headers[..], "its own headers go along");

    shop.deliver(from_ref(one)).await;
    let [two] = &*shop.relay().await else { panic!("one record") };
    let expected = ["order-created", "2", "41", "4", "platform-unavailable", "order-service", "2"];
    assert_eq!(headers(two, &said), expected.map(|text| Some(text.to_owned())));
    assert_eq!(time(two, X_FIRST_FAILED_AT), time(one, X_FIRST_FAILED_AT));
    assert_eq!(two.headers.len(), one.headers.len(), "written anew, not piled up");
}

#[tokio::test]
async fn an_error_message_is_cut_between_characters() {
    let shop = ToyShop::open_with(SHORT).await;
    let mut long = event(Toy::new("bear", 1, Mood::Says));
    long.data.ballast = format!("\0{}", "서".repeat(5_000));
    shop.deliver(&[record(&long, 0)]).await;
    let [hop] = &*shop.forwarded().await else { panic!("one record") };
    let message = hop.header(X_ERROR_MESSAGE).expect("UTF-8");
    assert!((1_990..=2_000).contains(&message.len()) && message.contains("\u{fffd}서"), "{}", message.len());
}

#[tokio::test]
async fn an_event_that_recovers_is_applied_once_on_whichever_rung() {
    for rungs in 0..=4 {
        let shop = ToyShop::open_with(SHORT).await;
        let toy = event(Toy::new("bear", 1, Mood::BreaksUntilFree));
        shop.deliver(&[record(&toy, 0)]).await;
        for _ in 0..rungs.min(3) {
            next_hop(&shop).await;
        }
        if rungs == 4 {
            assert_eq!(shop.dead_letters().await[0].state, "PARKED");
        }
        shop.toys.let_go();
        let applied = if rungs < 3 {
            next_hop(&shop).await
        } else {
            shop.group.try_parked().await.expect("the database answers")
        };
        assert_eq!(applied, Delivered { applied: 1, ..NONE }, "after {rungs} rungs");
        assert_eq!(shop.state(toy.id).await.as_deref(), Some("applied"));
        assert_eq!(shop.journal().await, [("bear".to_owned(), 1)]);
        assert!(shop.dead_letters().await.is_empty(), "a parked one that is applied never was dead");
        assert_eq!(shop.deliver(&[record(&toy, 0)]).await, Delivered { duplicates: 1, ..NONE });
        assert_eq!(shop.count("SELECT count(*) FROM waiting_keys").await, 1, "released, and drained by the next");
        shop.group.drain().await.expect("the database answers");
        assert_eq!(shop.count("SELECT count(*) FROM waiting_keys").await, 0);
    }
}

#[tokio::test]
async fn a_record_of_another_hop_than_the_inbox_knows_is_stale() {
    let shop = ToyShop::open_with(SHORT).await;
    let (id, first) = broken();
    shop.deliver(from_ref(&first)).await;
    let one = shop.relay().await.remove(0);
    shop.deliver(from_ref(&one)).await;
    let two = shop.relay().await.remove(0);
    // The relay died after Kafka's ack and sent the first hop again; somebody made up a later one.
    for stale in [&one, &Record { headers: with(&two, X_HOP, "3"), ..two.clone() }] {
        assert_eq!(shop.deliver(from_ref(stale)).await, Delivered { duplicates: 1, ..NONE });
    }
    assert_eq!(shop.deliver(from_ref(&first)).await, Delivered { duplicates: 1, ..NONE }, "nor is it new again");
    assert_eq!(place(&shop, id).await, ("retrying".to_owned(), Some("retry-2".to_owned()), 2));
    assert!(shop.forwarded().await.is_empty(), "one chain of hops, not two");
    assert_eq!(shop.deliver(&[two.clone(), two]).await, Delivered { retrying: 1, duplicates: 1, ..NONE });
    assert_eq!(shop.forwarded().await.len(), 1);
}

fn with(record: &Record, name: &str, value: &str) -> Vec<(String, Vec<u8>)> {
    let mut headers = record.headers.clone();
    headers.retain(|(header, _)| header != name);
    headers.push((name.to_owned(), value.as_bytes().to_vec()));
    headers
}

/// Dies in the transaction of the hop: the database refuses its last statement.
#[tokio::test]
async fn a_hop_that_is_not_committed_has_not_happened() {
    let shop = ToyShop::open_with(SHORT).await;
    let (id, first) = broken();
    let client = shop.pool().get().await.expect("a connection");
    let refuse = "ALTER TABLE outbox ADD CONSTRAINT dies CHECK (header_names IS NULL) NOT VALID";
    client.batch_execute(refuse).await.unwrap();
    shop.try_to_deliver(from_ref(&first)).await.expect_err("it died before the commit");
    assert_eq!(shop.state(id).await, None, "as if it had never come");
    assert_eq!(shop.count("SELECT count(*) FROM waiting_keys").await, 0);
    client.batch_execute("ALTER TABLE outbox DROP CONSTRAINT dies").await.unwrap();
    assert_eq!(shop.deliver(from_ref(&first)).await, Delivered { retrying: 1, ..NONE });
}

/// Dies after the commit, before the offset: the origin and each hop come again.
#[tokio::test]
async fn a_hop_whose_offset_was_not_committed_comes_again_and_changes_nothing() {
    let shop = ToyShop::open_with(SHORT).await;
    let (_, first) = broken();
    let mut delivered = vec![first];
    for _ in 0..4 {
        for record in &delivered {
            shop.deliver(from_ref(record)).await;
        }
        assert!(shop.forwarded().await.len() <= 1, "never in two places");
        delivered.extend(shop.relay().await);
    }
    assert_eq!(delivered.len(), 4, "the origin and three rungs");
    assert_eq!(shop.dead_letters().await.len(), 1, "parked once");
}

#[tokio::test]
async fn two_members_that_get_the_same_record_make_one_hop_of_it() {
    let shop = ToyShop::open_with(SHORT).await;
    let (_, first) = broken();
    shop.deliver(from_ref(&first)).await;
    let one = shop.relay().await.remove(0);
    let (a, b) = tokio::join!(shop.deliver(from_ref(&one)), shop.deliver(from_ref(&one)));
    assert_eq!((a.retrying + b.retrying, a.duplicates + b.duplicates), (1, 1));
    assert_eq!(shop.forwarded().await.len(), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_dead_at_once_with_a_notice_for_others() {
    let shop = ToyShop::open_with(SHORT).await;
    let nonsense = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    assert_eq!(shop.deliver(&[record(&nonsense, 0)]).await, Delivered { dead: 1, ..NONE });
    assert_eq!(place(&shop, nonsense.id).await, ("dead".to_owned(), None, 1));
    let [notice] = &*shop.forwarded().await else { panic!("one notice") };
    assert_eq!(headers(notice, &[X_ERROR_CLASS, X_ATTEMPT]), [Some("unprocessable".into()), Some("1".into())]);
}

#[tokio::test]
async fn events_without_a_memory_climb_too_and_leave_nothing_behind() {
    let shop = ToyShop::open_with(SHORT).await;
    let false_coin = event(Coin { key: "false".to_owned(), n: 1 });
    assert_eq!(shop.deliver(&[record(&false_coin, 0)]).await.dead, 1);
    assert_eq!(shop.state(false_coin.id).await.as_deref(), Some("dead"));
    assert_eq!(shop.deliver(&[record(&false_coin, 0)]).await, Delivered { duplicates: 1, ..NONE });

    let client = shop.pool().get().await.expect("a connection");
    client.batch_execute("ALTER TABLE journal RENAME TO gone").await.unwrap();
    let label = event(Label { key: "bear".to_owned(), n: 1 });
    let later = event(Label { key: "bear".to_owned(), n: 2 });
    let delivered = shop.deliver(&[record(&label, 0), record(&later, 1)]).await;
    assert_eq!(delivered, Delivered { retrying: 1, waiting: 1, ..NONE });
    client.batch_execute("ALTER TABLE gone RENAME TO journal").await.unwrap();
    let hop = shop.relay().await.remove(1);
    assert_eq!(shop.deliver(from_ref(&hop)).await.applied, 1);
    assert_eq!(shop.group.drain().await.expect("the database answers").applied, 1);
    assert_eq!(shop.journal().await, [("bear".to_owned(), 1), ("bear".to_owned(), 2)]);
    assert_eq!(shop.state(label.id).await, None, "nothing has to be remembered of it");
    assert_eq!(shop.state(later.id).await, None);
    assert_eq!(shop.deliver(from_ref(&hop)).await, Delivered { duplicates: 1, ..NONE });
}

#[tokio::test]
async fn a_dead_letter_too_large_for_a_topic_is_a_row_only() {
    let shop = ToyShop::open_with(SHORT).await;
    let huge = Record { value: Some(vec![b'x'; 3 << 20]), ..broken().1 };
    assert_eq!(shop.deliver(&[huge]).await, Delivered { dead: 1, ..NONE });
    assert!(shop.forwarded().await.is_empty());
    assert_eq!(shop.dead_letters().await[0].payload.as_ref().map(Vec::len), Some(3 << 20));
}

#[tokio::test]
async fn a_batch_dies_and_the_next_goes_on_where_it_stopped() {
    let shop = ToyShop::open_with(SHORT).await;
    let toys: Vec<Record> =
        (0..20).map(|n| record(&event(Toy::new(&format!("key-{n}"), n, Mood::BreaksUntilFree)), n)).collect();
    shop.deliver(&toys).await;
    for _ in 0..3 {
        next_hop(&shop).await;
    }
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters WHERE state = 'PARKED'").await, 20);
    shop.toys.take_for_each_batch(Duration::from_hours(1));
    let calls = shop.toys.calls();
    tokio::select! {
        _ = shop.group.try_parked() => panic!("it takes an hour"),
        () = eventually("its handler runs", || async { (shop.toys.calls() > calls).then_some(()) }) => {}
    }
    let claimed = "SELECT count(*) FROM dead_letters WHERE state = 'PARKED' AND due_at > now() + interval '10 s'";
    assert_eq!(shop.count(claimed).await, 20, "they are its own for a while");
    let client = shop.pool().get().await.expect("a connection");
    client.batch_execute("UPDATE dead_letters SET due_at = now() WHERE state = 'PARKED'").await.unwrap();
    shop.toys.take_for_each_batch(Duration::ZERO);
    shop.toys.let_go();
    assert_eq!(shop.group.try_parked().await.expect("the database answers"), Delivered { applied: 20, ..NONE });
}

#[tokio::test]
async fn an_event_whose_topic_was_renamed_on_the_way_is_one_dead_letter_and_frees_its_key() {
    let shop = ToyShop::open_with(SHORT).await;
    let renamed = |record: &Record| {
        let mut record = record.clone();
        for (name, value) in &mut record.headers {
            if name == X_ORIGIN_TOPIC {
                *value = "order-was-created".into();
            }
        }
        record
    };
    let head = event(Toy::new("bear", 1, Mood::BreaksUntilFree));
    shop.deliver(&[record(&head, 0), record(&event(Toy::fine("bear", 2)), 1)]).await;
    let hop = shop.relay().await.remove(0);
    assert_eq!(shop.deliver(&[renamed(&hop)]).await, Delivered { dead: 1, ..NONE });
    assert_eq!(shop.group.drain().await.expect("the database answers"), Delivered { applied: 1, ..NONE });
    assert_eq!(shop.count("SELECT count(*) FROM inbox WHERE state = 'dead'").await, 1, "in one place");
    let notice = shop.relay().await.into_iter().find(|record| record.topic == "order-service.dlt").expect("a notice");
    assert_eq!(shop.deliver(&[renamed(&notice)]).await, Delivered { duplicates: 1, ..NONE });

    // It died before the topic was renamed, and its notice is read after that.
    shop.deliver(&[record(&event(Toy::new("duck", 1, Mood::AnswersAndIsNonsense)), 2)]).await;
    let notice = shop.relay().await.into_iter().find(|record| record.topic == "order-service.dlt").expect("a notice");
    assert_eq!(shop.deliver(&[renamed(&notice)]).await, Delivered { duplicates: 1, ..NONE });
    assert_eq!(shop.dead_letters().await.len(), 2);
}
