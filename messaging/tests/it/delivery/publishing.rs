//! Events are on their way if and only if their transaction is committed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::SubsecRound;
use common_events::{Service, envelope};
use futures::FutureExt;
use messaging::{Cause, MAX_EVENT_BYTES, Subscriptions, Tx, Unprocessable, delivery::Group, ladder::Ladder};
use service_runtime::telemetry;
use test_support::made_at;

use crate::toys::{Label, Mood, Told, Toy, ToyShop, event, record};

#[tokio::test]
async fn an_answer_stands_in_the_trace_of_its_cause() {
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::Answers));
    shop.deliver(&[record(&toy, 0)]).await;
    let [sent] = &*shop.outbox().await else { panic!("one answer") };
    let answer: envelope::Event<Told> = envelope::decode(&sent.payload).unwrap();
    assert_eq!((&*sent.topic, &*sent.key, &*answer.subject), ("order-reserved", &b"bear"[..], "bear"));
    assert_eq!(answer.trace.trace_id, toy.trace.trace_id);
    assert_eq!(sent.traceparent, Some(answer.trace.to_string()), "the row's span is the event's");
    let parent = sent.parent_span.as_deref().unwrap();
    assert_ne!(parent, answer.trace.span_id.to_string());
    assert_ne!(parent, toy.trace.span_id.to_string(), "its parent is the span of the handling");
}

#[tokio::test]
async fn an_event_is_on_its_way_if_and_only_if_its_transaction_is_committed() {
    let shop = ToyShop::open().await;
    let mut client = shop.pool().get().await.unwrap();
    let cause = Cause::trace(telemetry::root());

    let tx = Tx::begin(&mut client).await.unwrap();
    tx.publish(cause.causes(Toy::fine("bear", 1))).unwrap();
    tx.rollback().await.unwrap();
    let tx = Tx::begin(&mut client).await.unwrap();
    tx.publish(cause.causes(Toy::fine("bear", 2))).unwrap();
    drop(tx);
    assert!(shop.outbox().await.is_empty());

    let tx = Tx::begin(&mut client).await.unwrap();
    let now = tx.now();
    let id = tx.publish(cause.causes(Toy::fine("bear", 3))).unwrap();
    tx.publish(cause.causes(Label { key: "bear".to_owned(), n: 4 })).unwrap();
    tx.commit().await.unwrap();
    let sent = shop.outbox().await;
    let toy: envelope::Event<Toy> = envelope::decode(&sent[0].payload).unwrap();
    assert_eq!((toy.id, toy.time, toy.data.n), (id, now.trunc_subsecs(3), 3));
    assert_eq!(shop.count("SELECT count(*) FROM outbox WHERE compacted AND topic = 'product-catalog'").await, 1);
    assert_eq!(shop.count("SELECT count(*) FROM kept_answers").await, 0, "a request is no event");
}

#[tokio::test]
async fn ids_of_a_transaction_are_of_its_moment_and_in_the_order_in_which_they_were_made() {
    let shop = ToyShop::open().await;
    let (mut client, mut later) = (shop.pool().get().await.unwrap(), shop.pool().get().await.unwrap());
    let tx = Tx::begin(&mut client).await.unwrap();
    tx.query("SELECT pg_sleep(0.02)", &[]).await.unwrap();
    let overtaking = Tx::begin(&mut later).await.unwrap();
    let newer = overtaking.new_id();
    let ids: Vec<_> = (0..1_000).map(|_| tx.new_id()).collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| made_at(*id) == tx.now().trunc_subsecs(3)));
    assert!(*ids.last().unwrap() < newer, "who began later comes later, whoever was first to make an id");
    let event = tx.publish(Cause::trace(telemetry::root()).causes(Toy::fine("bear", 1))).unwrap();
    assert_eq!(made_at(event.uuid()), tx.now().trunc_subsecs(3));
    overtaking.rollback().await.unwrap();
    tx.rollback().await.unwrap();
}

/// The ids of two transactions of one millisecond are told apart by the microseconds.
#[tokio::test]
async fn transactions_that_begin_one_after_the_other_make_ids_in_that_order() {
    let shop = ToyShop::open().await;
    let mut client = shop.pool().get().await.unwrap();
    let mut made = Vec::new();
    for _ in 0..200 {
        let tx = Tx::begin(&mut client).await.unwrap();
        made.push((tx.new_id(), tx.now()));
        tx.rollback().await.unwrap();
    }
    assert!(made.is_sorted(), "{made:?}");
}

#[tokio::test]
async fn an_oversized_event_is_refused_and_the_transaction_can_go_on() {
    let shop = ToyShop::open().await;
    let mut client = shop.pool().get().await.unwrap();
    let tx = Tx::begin(&mut client).await.unwrap();
    let cause = Cause::trace(telemetry::root());
    let greedy = Toy { ballast: "x".repeat(MAX_EVENT_BYTES), ..Toy::fine("bear", 1) };
    assert_eq!(tx.publish(cause.causes(greedy)).unwrap_err().class(), "oversized-event");
    let large = Toy { ballast: "x".repeat(MAX_EVENT_BYTES - 1_000), ..Toy::fine("bear", 2) };
    tx.publish(cause.causes(large)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(shop.outbox().await.len(), 1);
}

#[tokio::test]
async fn a_refused_statement_that_is_overlooked_cannot_be_committed_half() {
    let shop = ToyShop::open().await;
    let mut client = shop.pool().get().await.unwrap();
    let tx = Tx::begin(&mut client).await.unwrap();
    tx.execute("INSERT INTO journal (event_id, key, n) VALUES (gen_random_uuid(), 'bear', 1)", &[]).await.unwrap();
    tx.query("SELECT 1 / 0", &[]).await.unwrap_err();
    tx.commit().await.expect_err("the insert is gone: nobody may believe it is there");
}

#[tokio::test]
async fn nor_can_one_that_others_ran_on_the_same_connection() {
    let shop = ToyShop::open().await;
    for told in [0, 1] {
        let mut client = shop.pool().get().await.unwrap();
        let tx = Tx::begin(&mut client).await.unwrap();
        tx.transaction()
            .batch_execute("INSERT INTO journal (event_id, key, n) VALUES (gen_random_uuid(), 'bear', 1)")
            .await
            .unwrap();
        tx.transaction().batch_execute("SELECT 1 / 0").await.unwrap_err();
        for n in 0..told {
            tx.publish(Cause::trace(telemetry::root()).causes(Toy::fine("bear", n))).unwrap();
        }
        tx.commit().await.expect_err("the insert is gone");
        assert!(shop.journal().await.is_empty() && shop.outbox().await.is_empty());
    }
    let mut client = shop.pool().get().await.unwrap();
    let tx = Tx::begin(&mut client).await.unwrap();
    tx.transaction()
        .batch_execute("INSERT INTO journal (event_id, key, n) VALUES (gen_random_uuid(), 'bear', 1)")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(shop.journal().await.len(), 1, "what went well is there");
}

#[tokio::test]
async fn what_waits_for_the_commit_runs_after_it_and_only_then() {
    let shop = ToyShop::open().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&ran);
    let subscriptions = Subscriptions::of(Service::Order).hear::<Toy, _>(move |tx, events| {
        let ran = Arc::clone(&shared);
        let refused = events.iter().any(|event| event.data.n == 2);
        tx.after_commit(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        let seen = shared.load(Ordering::SeqCst);
        async move {
            assert!(seen <= 2, "not before the commit");
            if refused { Err(Unprocessable::new("no").into()) } else { Ok(()) }
        }
        .boxed()
    });
    let group = Group::new(shop.pool().clone(), subscriptions, Ladder::default());
    for n in [1, 2, 3] {
        group.deliver(&[record(&event(Toy::fine("bear", n)), n)]).await.expect("the database answers");
    }
    assert_eq!(ran.load(Ordering::SeqCst), 2, "not for the one that was refused");

    let mut client = shop.pool().get().await.unwrap();
    let tx = Tx::begin(&mut client).await.unwrap();
    let late = Arc::clone(&ran);
    tx.after_commit(move || {
        late.fetch_add(1, Ordering::SeqCst);
    });
    drop(tx);
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}
