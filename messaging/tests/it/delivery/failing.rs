//! What can't be handled stands alone, and the rest goes on.

use std::slice::from_ref;

use common_events::envelope::TRACEPARENT;
use messaging::{Delivered, MAX_EVENT_BYTES, X_ATTEMPT, X_ERROR_CLASS, X_ERROR_MESSAGE};

use crate::toys::{ATTEMPTS, Coin, Mood, Toy, ToyShop, event, record, records};

#[tokio::test]
async fn one_bad_event_among_a_hundred_is_the_only_one_that_is_not_applied() {
    let shop = ToyShop::open().await;
    let mood = |n| if n == 37 { Mood::AnswersAndIsNonsense } else { Mood::Answers };
    let batch = records((0..100).map(|n| Toy::new("bear", n, mood(n))));
    let delivered = shop.deliver(&batch).await;
    assert_eq!(delivered, Delivered { applied: 99, dead: 1, ..Delivered::default() });
    let others: Vec<(String, i64)> = (0..100).filter(|n| *n != 37).map(|n| ("bear".to_owned(), n)).collect();
    assert_eq!(shop.journal().await, others, "in their order");
    assert_eq!(shop.outbox().await.len(), 99, "and what the bad one published is not on its way");
    // 100 = 2^6.6: seven halvings on the way down, and the other half of each.
    assert!(shop.toys.calls() <= 15, "bisected in {} calls", shop.toys.calls());
    assert!(shop.count("SELECT count(DISTINCT transaction) FROM journal").await <= 7, "few transactions");

    let [dead] = &*shop.dead_letters().await else { panic!("one dead letter") };
    assert_eq!(dead.place, ("order-created".to_owned(), 0, 37));
    assert_eq!(dead.payload, batch[37].value);
    assert_eq!((&*dead.state, &*dead.class, dead.attempts), ("DEAD", "unprocessable", 1));
    assert_eq!(dead.message, "a toy that makes no sense");
    assert_eq!(dead.key_text.as_deref(), Some("bear"));

    assert_eq!(shop.deliver(&batch).await, Delivered { duplicates: 100, ..Delivered::default() });
    assert_eq!(shop.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn a_dead_letter_knows_its_event_and_the_inbox_knows_it_is_dead() {
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    let mut lies = record(&toy, 9);
    lies.headers.push((TRACEPARENT.to_owned(), toy.trace.to_string().into_bytes()));
    shop.deliver(from_ref(&lies)).await;
    let [dead] = &*shop.dead_letters().await else { panic!("one dead letter") };
    assert_eq!(dead.event_id, Some(toy.id.uuid()));
    assert_eq!(dead.event_type.as_deref(), Some("order-created"));
    assert_eq!(dead.trace_id, Some(toy.trace.trace_id.to_string()));
    assert_eq!((&dead.key, &dead.headers), (&lies.key, &lies.headers));
    assert_eq!(shop.state(toy.id).await.as_deref(), Some("dead"));
}

#[tokio::test]
async fn a_transient_failure_that_passes_leaves_no_trace() {
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::BreaksOnce));
    let delivered = shop.deliver(&[record(&toy, 0)]).await;
    assert_eq!(delivered, Delivered { applied: 1, ..Delivered::default() });
    assert_eq!(shop.toys.attempts(toy.id), 2);
    assert_eq!(shop.journal().await.len(), 1);
    assert!(shop.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_transient_failure_that_does_not_pass_is_tried_in_place_and_then_sent_up_the_ladder() {
    let shop = ToyShop::open().await;
    let broken = event(Toy::new("bear", 1, Mood::AnswersAndBreaks));
    let batch = [record(&broken, 0), record(&event(Toy::fine("duck", 2)), 1)];
    let delivered = shop.deliver(&batch).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, ..Delivered::default() });
    // Once with its neighbour, then alone.
    assert_eq!(shop.toys.attempts(broken.id), 1 + ATTEMPTS);
    let [hop] = &*shop.forwarded().await else { panic!("one hop") };
    assert_eq!((&*hop.topic, &hop.key, &hop.value), ("order-service.retry-1", &batch[0].key, &batch[0].value));
    assert_eq!((hop.header(X_ERROR_CLASS), hop.header(X_ATTEMPT)), (Some("platform-unavailable"), Some("3")));
    let message = hop.header(X_ERROR_MESSAGE).unwrap();
    assert!(message.contains("the toy platform is away"), "the whole chain: {message}");
    assert_eq!(shop.state(broken.id).await.as_deref(), Some("retrying"));
    assert_eq!(shop.journal().await, [("duck".to_owned(), 2)]);
    assert!(shop.dead_letters().await.is_empty());
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn a_panic_is_a_transient_failure() {
    let shop = ToyShop::open().await;
    let once = event(Toy::new("bear", 1, Mood::PanicsOnce));
    assert_eq!(shop.deliver(&[record(&once, 0)]).await.applied, 1);
    let always = event(Toy::new("bear", 2, Mood::Panics));
    assert_eq!(shop.deliver(&[record(&always, 1)]).await.retrying, 1);
    let [hop] = &*shop.forwarded().await else { panic!("one hop") };
    assert_eq!((hop.header(X_ERROR_CLASS), hop.header(X_ATTEMPT)), (Some("panic"), Some("3")));
    assert!(hop.header(X_ERROR_MESSAGE).unwrap().contains("a toy broke"));
}

#[tokio::test]
async fn a_handler_that_overlooks_a_refused_statement_has_not_handled_the_event() {
    // COMMIT of a transaction in which a statement failed rolls back, and says so only in passing.
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::SwallowsAnError));
    let delivered = shop.deliver(&[record(&toy, 0)]).await;
    assert_eq!(delivered, Delivered { retrying: 1, ..Delivered::default() });
    assert_eq!(shop.state(toy.id).await.as_deref(), Some("retrying"));
    assert!(shop.journal().await.is_empty());
}

#[tokio::test]
async fn an_event_too_large_for_a_topic_is_refused_where_it_is_written() {
    let shop = ToyShop::open().await;
    let greedy = event(Toy::new("bear", 1, Mood::AnswersTooMuch));
    let delivered = shop.deliver(&[record(&greedy, 0), record(&event(Toy::fine("duck", 2)), 1)]).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, ..Delivered::default() });
    let [hop] = &*shop.forwarded().await else { panic!("one hop") };
    assert_eq!(hop.header(X_ERROR_CLASS), Some("oversized-event"));
    assert!(hop.header(X_ERROR_MESSAGE).unwrap().contains(&MAX_EVENT_BYTES.to_string()));
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn what_has_no_inbox_row_is_a_dead_letter_once_by_its_place() {
    let shop = ToyShop::open().await;
    let coin = record(&event(Coin { key: "false".to_owned(), n: 1 }), 5);
    assert_eq!(shop.deliver(from_ref(&coin)).await.dead, 1);
    shop.deliver(&[coin]).await;
    let [dead] = &*shop.dead_letters().await else { panic!("one dead letter") };
    assert_eq!(dead.place, ("point-charged".to_owned(), 0, 5));
}
