//! `x-resume`: what an event caused is published again, byte for byte; never handled again.

use std::slice::from_ref;

use common_events::envelope;
use messaging::{Delivered, Record, X_ORIGIN_TOPIC, X_RESUME};

use crate::toys::{Label, Mood, Sent, Toy, ToyShop, event, record};

fn resume(record: &Record) -> Record {
    let headers = vec![(X_RESUME.to_owned(), b"1".to_vec()), (X_ORIGIN_TOPIC.to_owned(), record.topic.clone().into())];
    Record { topic: "order-service.replay".to_owned(), headers, ..record.clone() }
}

fn without_parent(sent: &Sent) -> Sent {
    Sent { parent_span: None, ..sent.clone() }
}

#[tokio::test]
async fn the_answers_of_an_applied_event_are_published_again_byte_for_byte() {
    let shop = ToyShop::open().await;
    let bears: Vec<Record> = (0..3).map(|n| record(&event(Toy::new("bear", n, Mood::Answers)), n)).collect();
    shop.deliver(&bears).await;
    let before = shop.outbox().await;
    for round in 1..=2 {
        let resumed = shop.deliver(&[resume(&bears[1])]).await;
        assert_eq!(resumed, Delivered { duplicates: 1, resumed: 1, ..Delivered::default() });
        let now = shop.outbox().await;
        assert_eq!(now.len(), 3 + round, "one answer more each time");
        assert_eq!(now[2 + round], without_parent(&before[1]), "payload, key, topic and traceparent; no span again");
    }
    assert_eq!(shop.toys.calls(), 1, "the handler isn't asked");
    assert_eq!(shop.journal().await.len(), 3);
}

#[tokio::test]
async fn several_answers_of_several_events_come_in_their_order() {
    let shop = ToyShop::open().await;
    let toys: Vec<Record> = (0..20).map(|n| record(&event(Toy::new("bear", n, Mood::Answers)), n)).collect();
    shop.deliver(&toys).await;
    let before: Vec<Sent> = shop.outbox().await.iter().map(without_parent).collect();
    let resumes: Vec<Record> = toys.iter().map(resume).collect();
    assert_eq!(shop.deliver(&resumes).await.resumed, 20);
    assert_eq!(shop.outbox().await.split_off(20), before);
}

#[tokio::test]
async fn an_answer_that_was_delivered_before_is_found_out_by_its_id() {
    let shop = ToyShop::open().await;
    let toy = record(&event(Toy::new("bear", 1, Mood::Answers)), 0);
    shop.deliver(from_ref(&toy)).await;
    shop.deliver(&[resume(&toy)]).await;
    let ids: Vec<_> = shop.outbox().await.iter().map(|sent| envelope::peek(&sent.payload).id).collect();
    assert!(ids[0].is_some());
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_unknown_event_is_delivered_for_the_first_time() {
    let shop = ToyShop::open().await;
    let toy = record(&event(Toy::new("bear", 1, Mood::Answers)), 0);
    assert_eq!(shop.deliver(&[resume(&toy)]).await, Delivered { applied: 1, ..Delivered::default() });
    assert_eq!(shop.outbox().await.len(), 1);
    assert_eq!(shop.deliver(&[toy]).await.duplicates, 1, "and its original is a duplicate then");
    assert_eq!(shop.journal().await.len(), 1);
}

#[tokio::test]
async fn a_resume_in_the_batch_of_its_event_publishes_the_answer_once() {
    let shop = ToyShop::open().await;
    let toy = record(&event(Toy::new("bear", 1, Mood::Answers)), 0);
    shop.deliver(&[toy.clone(), resume(&toy)]).await;
    assert_eq!(shop.outbox().await.len(), 1, "it is on its way for the first time anyway");
    assert_eq!(shop.journal().await.len(), 1);
}

#[tokio::test]
async fn a_dead_event_is_not_resumed() {
    let shop = ToyShop::open().await;
    let toy = record(&event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense)), 0);
    assert_eq!(shop.deliver(from_ref(&toy)).await.dead, 1);
    let delivered = shop.deliver(&[resume(&toy)]).await;
    assert_eq!(delivered, Delivered { duplicates: 1, ..Delivered::default() });
    assert!(shop.outbox().await.is_empty());
    assert_eq!(shop.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn an_event_that_caused_nothing_has_nothing_to_say_again() {
    let shop = ToyShop::open().await;
    let toy = record(&event(Toy::fine("bear", 1)), 0);
    shop.deliver(from_ref(&toy)).await;
    assert_eq!(shop.deliver(&[resume(&toy)]).await.resumed, 1);
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn an_event_of_a_compacted_topic_is_handled_again_and_its_answers_are_not_kept() {
    let shop = ToyShop::open().await;
    let label = record(&event(Label { key: "bear".to_owned(), n: 1 }), 0);
    shop.deliver(from_ref(&label)).await;
    assert_eq!(shop.deliver(&[resume(&label)]).await.applied, 1);
    assert_eq!(shop.count("SELECT count(*) FROM kept_answers").await, 0);
}
