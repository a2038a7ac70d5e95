//! The group's own dead-letter topic: what its owner wrote there it knows; what somebody else put there too.

use std::slice::from_ref;

use messaging::{Delivered, Record, X_ERROR_CLASS};

use super::{NONE, SHORT, next_hop};
use crate::toys::{Mood, Toy, ToyShop, event, record};

fn on_the_dlt(record: &Record) -> Record {
    let headers = vec![
        ("x-origin-topic".to_owned(), record.topic.clone().into_bytes()),
        ("x-origin-partition".to_owned(), b"1".to_vec()),
        ("x-origin-offset".to_owned(), b"77".to_vec()),
        (X_ERROR_CLASS.to_owned(), b"by-hand".to_vec()),
    ];
    Record { topic: "order-service.dlt".to_owned(), headers, ..record.clone() }
}

#[tokio::test]
async fn a_notice_of_an_event_that_was_replayed_since_brings_nothing_back() {
    let shop = ToyShop::open_with(SHORT).await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    shop.deliver(&[record(&toy, 0)]).await;
    let notice = shop.relay().await.remove(0);
    let client = shop.pool().get().await.unwrap();
    let replayed = "UPDATE inbox SET state = 'applied'; UPDATE dead_letters SET state = 'REPLAYED'";
    client.batch_execute(replayed).await.unwrap();
    assert_eq!(shop.deliver(&[notice]).await, Delivered { duplicates: 1, ..NONE });
    assert_eq!(shop.dead_letters().await[0].state, "REPLAYED");
    assert_eq!(shop.state(toy.id).await.as_deref(), Some("applied"));
}

/// As when all of the topic is read once more, long after.
#[tokio::test]
async fn a_notice_that_cannot_be_read_any_more_brings_nothing_back() {
    let shop = ToyShop::open_with(SHORT).await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    shop.deliver(&[record(&toy, 0)]).await;
    let mut notice = shop.relay().await.remove(0);
    let text = String::from_utf8(notice.value.take().unwrap()).unwrap();
    notice.value = Some(text.replace("order-created:1", "order-created:9").into_bytes());
    assert_eq!(shop.deliver(&[notice]).await, Delivered { duplicates: 1, ..NONE });
    assert_eq!(shop.dead_letters().await.len(), 1, "one event, one dead letter");
}

#[tokio::test]
async fn what_somebody_put_there_by_hand_becomes_a_dead_letter_once() {
    let shop = ToyShop::open_with(SHORT).await;
    let unknown = event(Toy::fine("bear", 1));
    let by_hand = on_the_dlt(&record(&unknown, 9));
    assert_eq!(shop.deliver(from_ref(&by_hand)).await, Delivered { dead: 1, ..NONE });
    assert_eq!(shop.deliver(from_ref(&by_hand)).await, Delivered { duplicates: 1, ..NONE });
    let [dead] = &*shop.dead_letters().await else { panic!("one row") };
    assert_eq!((&*dead.class, &dead.place), ("by-hand", &("order-created".to_owned(), 1, 77)));
    assert_eq!(shop.state(unknown.id).await.as_deref(), Some("dead"));
    assert!(shop.forwarded().await.is_empty(), "no notice of a notice");
}

#[tokio::test]
async fn rubbish_there_is_one_dead_letter_and_an_applied_event_stays_applied() {
    let shop = ToyShop::open_with(SHORT).await;
    let applied = event(Toy::fine("bear", 1));
    shop.deliver(&[record(&applied, 0)]).await;
    assert_eq!(shop.deliver(&[on_the_dlt(&record(&applied, 0))]).await, Delivered { duplicates: 1, ..NONE });
    assert!(shop.dead_letters().await.is_empty());
    assert_eq!(shop.state(applied.id).await.as_deref(), Some("applied"));

    let rubbish = Record {
        topic: "order-service.dlt".to_owned(),
        value: Some(b"\xff".to_vec()),
        headers: vec![("x-origin-topic".to_owned(), vec![0, 255])],
        ..record(&applied, 3)
    };
    assert_eq!(shop.deliver(&[rubbish.clone(), rubbish]).await, Delivered { dead: 1, duplicates: 1, ..NONE });
    assert_eq!(next_hop(&shop).await, NONE);
}
