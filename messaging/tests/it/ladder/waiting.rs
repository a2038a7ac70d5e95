//! Order of a key while one of its events is on the ladder: later ones wait, others flow.

use std::{slice::from_ref, sync::Arc, time::Duration};

use common_events::Service;
use futures::FutureExt;
use messaging::{
    Delivered, Event, Handled, Record, Subscriptions, Transient, Tx, X_EVENT_TOPIC, X_ORIGIN_TOPIC, delivery::Group,
};
use test_support::eventually;
use tokio::sync::watch;

use super::{NONE, SHORT, next_hop};
use crate::toys::{self, Mood, Toy, ToyShop, Toys, event, record, records};

fn fine(key: &str, n: i64) -> Record {
    record(&event(Toy::fine(key, n)), n)
}

async fn keys_waiting(shop: &ToyShop) -> i64 {
    shop.count("SELECT count(*) FROM waiting_keys").await
}

async fn events_waiting(shop: &ToyShop) -> i64 {
    shop.count("SELECT count(*) FROM waiting_events").await
}

async fn drain(shop: &ToyShop) -> Delivered {
    shop.group.drain().await.expect("the database answers")
}

#[tokio::test]
async fn later_events_of_the_key_wait_in_their_order_and_others_flow() {
    let shop = ToyShop::open_with(SHORT).await;
    let head = event(Toy::new("bear", 1, Mood::BreaksUntilFree));
    let batch = [record(&head, 0), fine("bear", 2), fine("duck", 1), fine("bear", 3), fine("duck", 2)];
    assert_eq!(shop.deliver(&batch).await, Delivered { applied: 2, retrying: 1, waiting: 2, ..NONE });
    assert_eq!(shop.deliver(&[fine("bear", 4), fine("duck", 3)]).await, Delivered { applied: 1, waiting: 1, ..NONE });
    assert_eq!(shop.journal().await, [("duck".to_owned(), 1), ("duck".to_owned(), 2), ("duck".to_owned(), 3)]);
    assert_eq!(drain(&shop).await, NONE, "not before the head is through");
    assert_eq!(shop.deliver(&batch).await, Delivered { duplicates: 5, ..NONE }, "who waits is known");

    shop.toys.let_go();
    assert_eq!(next_hop(&shop).await, Delivered { applied: 1, ..NONE });
    assert_eq!(shop.deliver(&[fine("bear", 5)]).await, Delivered { waiting: 1, ..NONE }, "the others go first");
    assert_eq!(drain(&shop).await, Delivered { applied: 4, ..NONE });
    let bears: Vec<i64> = toys::journal_by_key(shop.pool()).await.remove("bear").unwrap();
    assert_eq!(bears, [1, 2, 3, 4, 5]);
    assert_eq!((keys_waiting(&shop).await, events_waiting(&shop).await), (0, 0));
    assert_eq!(shop.deliver(&[fine("bear", 6)]).await, Delivered { applied: 1, ..NONE }, "the key is free");
}

#[tokio::test]
async fn who_waits_uses_up_no_attempt_and_starts_the_ladder_anew_when_it_fails() {
    let shop = ToyShop::open_with(SHORT).await;
    let second = event(Toy::new("bear", 2, Mood::BreaksUntilFree));
    let head = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    let blocked = event(Toy::new("bear", 0, Mood::AnswersAndBreaks));
    shop.deliver(&[record(&blocked, 0), record(&head, 1), record(&second, 2), fine("bear", 3)]).await;
    assert_eq!(shop.toys.attempts(second.id), 1, "in the batch that failed together; never since");
    // The head goes up to its end; then the next one makes no sense, and the one after it fails.
    for _ in 0..3 {
        next_hop(&shop).await;
    }
    assert_eq!(shop.group.try_parked().await.expect("the database answers").dead, 1);
    assert_eq!(drain(&shop).await, Delivered { dead: 1, retrying: 1, ..NONE });
    let hop = shop.relay().await.into_iter().find(|record| record.topic.ends_with("retry-1")).unwrap();
    assert_eq!(hop.header(messaging::X_ATTEMPT), Some("3"), "its own three, in place");
    assert_eq!((keys_waiting(&shop).await, events_waiting(&shop).await), (1, 1), "the last waits for the new head");
    assert_eq!(drain(&shop).await, NONE);
    shop.toys.let_go();
    assert_eq!(shop.deliver(from_ref(&hop)).await.applied, 1);
    assert_eq!(drain(&shop).await, Delivered { applied: 1, ..NONE });
    assert_eq!(shop.journal().await, [("bear".to_owned(), 2), ("bear".to_owned(), 3)]);
    assert_eq!(keys_waiting(&shop).await, 0);
}

#[tokio::test]
async fn a_key_without_followers_is_free_after_the_next_drain() {
    let shop = ToyShop::open_with(SHORT).await;
    shop.deliver(&records([Toy::new("bear", 1, Mood::BreaksUntilFree)])).await;
    shop.toys.let_go();
    next_hop(&shop).await;
    assert_eq!((keys_waiting(&shop).await, drain(&shop).await), (1, NONE));
    assert_eq!(keys_waiting(&shop).await, 0);
}

#[tokio::test]
async fn events_without_a_key_hold_up_nobody() {
    let shop = ToyShop::open_with(SHORT).await;
    let keyless = |n, mood| Record { key: None, ..record(&event(Toy::new("bear", n, mood)), n) };
    let batch = [keyless(1, Mood::AnswersAndBreaks), keyless(2, Mood::Fine)];
    assert_eq!(shop.deliver(&batch).await, Delivered { applied: 1, retrying: 1, ..NONE });
    assert_eq!(keys_waiting(&shop).await, 0);
}

#[tokio::test]
async fn a_commutative_handler_goes_on_with_the_key() {
    let database = toys::database().await;
    let subscriptions = Subscriptions::of(Service::Order)
        .hear_in_any_order::<Toy, _>(|tx, events| fails_at_the_first(tx, events).boxed());
    let group = Group::new(database.pool.clone(), subscriptions, SHORT);
    let batch = records((1..=3).map(|n| Toy::fine("bear", n)));
    let delivered = group.deliver(&batch).await.expect("the database answers");
    assert_eq!(delivered, Delivered { applied: 2, retrying: 1, ..NONE });
    assert_eq!(toys::count(&database.pool, "SELECT count(*) FROM waiting_keys").await, 0);
}

#[expect(clippy::unused_async, reason = "a handler, which has nothing to wait for")]
async fn fails_at_the_first(_: &Tx<'_>, events: &[&Event<Toy>]) -> Handled {
    if events.iter().any(|event| event.data.n == 1) {
        return Err(Transient::new("first", "the first one fails").into());
    }
    Ok(())
}

/// Dies in the middle of a drain; a sweep finds what is left.
#[tokio::test]
async fn a_drain_that_dies_is_taken_up_again() {
    let shop = ToyShop::open_with(SHORT).await;
    let followers = (2..=6).map(|n| Toy::new("bear", n, if n == 4 { Mood::Waits } else { Mood::Fine }));
    let batch: Vec<Toy> = [Toy::new("bear", 1, Mood::BreaksOnce)].into_iter().chain(followers).collect();
    let mut batch = records(batch);
    // Fails in place, too: its first hop succeeds.
    let stubborn = event(Toy::new("bear", 1, Mood::BreaksUntilFree));
    batch[0] = record(&stubborn, 0);
    shop.deliver(&batch).await;
    shop.toys.let_go();
    next_hop(&shop).await;
    shop.toys.hold();
    let calls = shop.toys.calls();
    tokio::select! {
        _ = shop.group.drain() => panic!("one of them waits"),
        () = eventually("they are at work", || async { (shop.toys.calls() > calls).then_some(()) }) => {}
    }
    assert_eq!(events_waiting(&shop).await, 5, "nothing half done");
    assert_eq!(drain(&shop).await, NONE, "the one that died has them for a while");
    let client = shop.pool().get().await.unwrap();
    client.batch_execute("UPDATE waiting_keys SET drain_after = now()").await.unwrap();
    shop.toys.let_go();
    assert_eq!(drain(&shop).await, Delivered { applied: 5, ..NONE });
    assert_eq!(toys::journal_by_key(shop.pool()).await["bear"], [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn two_members_drain_a_key_and_each_follower_is_applied_once_in_order() {
    let shop = ToyShop::open_with(SHORT).await;
    shop.deliver(&records([Toy::new("bear", 1, Mood::BreaksUntilFree)])).await;
    let followers: Vec<Record> = (2..=1_200).map(|n| fine("bear", n)).collect();
    assert_eq!(shop.deliver(&followers).await.waiting, 1_199);
    shop.toys.let_go();
    next_hop(&shop).await;
    let client = shop.pool().get().await.unwrap();
    let other = Arc::clone(&shop.group);
    let late = tokio::spawn(async move { other.drain().await.expect("the database answers") });
    // Whoever lost its claim meanwhile works on beside the other.
    client.batch_execute("UPDATE waiting_keys SET drain_after = now()").await.unwrap();
    drain(&shop).await;
    late.await.unwrap();
    eventually("all are drained", || async {
        drain(&shop).await;
        (events_waiting(&shop).await == 0).then_some(())
    })
    .await;
    assert_eq!(toys::journal_by_key(shop.pool()).await["bear"], (1..=1_200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drain_takes_from_each_of_its_keys_however_many_wait_behind_the_first() {
    let shop = ToyShop::open_with(SHORT).await;
    shop.deliver(&records(["bear", "duck"].map(|key| Toy::new(key, 1, Mood::BreaksUntilFree)))).await;
    let bears: Vec<Record> = (2..=700).map(|n| fine("bear", n)).collect();
    assert_eq!(shop.deliver(&bears).await.waiting, 699);
    assert_eq!(shop.deliver(&[fine("duck", 2)]).await.waiting, 1);
    shop.toys.let_go();
    next_hop(&shop).await;
    assert_eq!(drain(&shop).await.applied, 700);
    assert_eq!((keys_waiting(&shop).await, events_waiting(&shop).await), (0, 0));
}

#[tokio::test]
async fn a_key_whose_last_follower_is_dead_is_free_after_the_drain() {
    let shop = ToyShop::open_with(SHORT).await;
    shop.deliver(&records([Toy::new("bear", 1, Mood::BreaksUntilFree)])).await;
    shop.deliver(&[record(&event(Toy::new("bear", 2, Mood::AnswersAndIsNonsense)), 2)]).await;
    shop.toys.let_go();
    next_hop(&shop).await;
    assert_eq!(drain(&shop).await, Delivered { dead: 1, ..NONE });
    assert_eq!(shop.deliver(&[fine("bear", 3)]).await, Delivered { applied: 1, ..NONE }, "behind nobody");
}

/// How soon all goes on when what was away is back.
const SOON: Duration = Duration::from_secs(10);

/// A shop that stands on something which can be taken away.
async fn shop_on_ice() -> (ToyShop, watch::Sender<bool>) {
    let (database, toys, ice) = (toys::database().await, Toys::new(), watch::Sender::new(true));
    let is_there = ice.subscribe();
    let answers = move || {
        let there = *is_there.borrow();
        std::future::ready(there)
    };
    let subscriptions = toys.subscriptions(Service::Order).stand_on("ice", answers);
    let group = Arc::new(Group::new(database.pool.clone(), subscriptions, SHORT));
    (ToyShop { group, toys, database }, ice)
}

/// What was away is back after it was missed.
async fn is_missed_and_comes_back(shop: &ToyShop, ice: &watch::Sender<bool>) {
    let calls = shop.toys.calls();
    eventually("it is missed", || async { (shop.toys.calls() > calls).then_some(()) }).await;
    shop.toys.let_go();
    ice.send_replace(true);
}

#[tokio::test]
async fn followers_whose_drain_stood_still_go_on_when_all_is_there_again() {
    let (shop, ice) = shop_on_ice().await;
    shop.deliver(&records([Toy::new("bear", 1, Mood::BreaksUntilFree)])).await;
    shop.deliver(&[record(&event(Toy::new("bear", 2, Mood::BreaksUntilFree)), 1)]).await;
    shop.toys.let_go();
    next_hop(&shop).await;
    shop.toys.hold();
    ice.send_replace(false);
    let draining = eventually("it is drained", || async {
        let _ = shop.group.drain().await;
        (events_waiting(&shop).await == 0).then_some(())
    });
    let drained = async { tokio::join!(draining, is_missed_and_comes_back(&shop, &ice)) };
    tokio::time::timeout(SOON, drained).await.expect("within seconds");
    assert_eq!(toys::journal_by_key(shop.pool()).await["bear"], [1, 2]);
}

#[tokio::test]
async fn parked_events_whose_batch_stood_still_go_on_when_all_is_there_again() {
    let (shop, ice) = shop_on_ice().await;
    shop.deliver(&records([Toy::new("bear", 1, Mood::BreaksUntilFree)])).await;
    for _ in 0..3 {
        next_hop(&shop).await;
    }
    let parked = "SELECT count(*) FROM dead_letters WHERE state = 'PARKED'";
    assert_eq!(shop.count(parked).await, 1);
    ice.send_replace(false);
    let trying = eventually("it is tried", || async {
        let _ = shop.group.try_parked().await;
        (shop.count(parked).await == 0).then_some(())
    });
    let tried = async { tokio::join!(trying, is_missed_and_comes_back(&shop, &ice)) };
    tokio::time::timeout(SOON, tried).await.expect("within seconds");
    assert_eq!(shop.journal().await, [("bear".to_owned(), 1)], "it used up no attempt");
}

/// An old owner of the partition blocks the key while the new one has the next events in its hands.
#[tokio::test]
async fn events_that_come_while_their_key_is_being_drained_go_behind() {
    let shop = ToyShop::open_with(SHORT).await;
    shop.deliver(&records([Toy::new("bear", 0, Mood::BreaksUntilFree)])).await;
    shop.deliver(&[fine("bear", 1)]).await;
    shop.toys.let_go();
    next_hop(&shop).await;
    let coming = async {
        for n in 2..60 {
            shop.deliver(&[fine("bear", n)]).await;
        }
    };
    let draining = async {
        for _ in 0..30 {
            drain(&shop).await;
        }
    };
    tokio::join!(coming, draining);
    drain(&shop).await;
    assert_eq!(toys::journal_by_key(shop.pool()).await["bear"], (0..60).collect::<Vec<_>>());
    assert_eq!(keys_waiting(&shop).await, 0);
}

#[tokio::test]
async fn who_waits_is_known_by_where_he_lay_also_when_somebody_put_him_on_an_own_topic_by_hand() {
    let shop = ToyShop::open_with(SHORT).await;
    let by_hand = Record {
        topic: "order-service.replay".to_owned(),
        offset: 77,
        headers: vec![(X_ORIGIN_TOPIC.to_owned(), "order-created".into()), ("odd".to_owned(), vec![0xff])],
        ..record(&event(Toy::new("bear", 2, Mood::AnswersAndIsNonsense)), 0)
    };
    shop.deliver(&[record(&event(Toy::new("bear", 1, Mood::BreaksUntilFree)), 0)]).await;
    assert_eq!(shop.deliver(&[by_hand]).await, Delivered { waiting: 1, ..NONE });
    shop.toys.let_go();
    next_hop(&shop).await;
    assert_eq!(drain(&shop).await, Delivered { dead: 1, ..NONE });
    let dead = shop.dead_letters().await.remove(0);
    assert_eq!(dead.place, ("order-service.replay".to_owned(), 0, 77));
    let notice = shop.relay().await.into_iter().find(|record| record.topic == "order-service.dlt").expect("a notice");
    let said = [X_ORIGIN_TOPIC, X_EVENT_TOPIC].map(|name| notice.header(name));
    assert_eq!(said, [Some("order-service.replay"), Some("order-created")]);
    assert_eq!(
        notice.headers.iter().filter(|(name, _)| name == X_ORIGIN_TOPIC || name == "odd").count(),
        2,
        "once each"
    );
}
