//! The own database away is not the message's fault: nothing is counted, and it goes on afterwards.

use common_events::Service;
use futures::FutureExt;
use messaging::{Delivered, Subscriptions, delivery::Group, ladder::Ladder};
use std::{sync::Arc, time::Duration};
use test_support::eventually;
use tokio::sync::Notify;

use crate::{
    outage::Outage,
    toys::{Mood, Toy, ToyShop, event, record, records},
};

#[tokio::test]
async fn a_delivery_while_the_database_is_away_stalls_and_is_applied_afterwards() {
    let shop = ToyShop::open().await;
    shop.deliver(&records([Toy::fine("bear", 0)])).await;
    let batch = records((1..=3).map(|n| Toy::fine("bear", n)));
    let outage = Outage::of(&shop.database).await;
    for _ in 0..5 {
        shop.try_to_deliver(&batch).await.expect_err("the database is away");
        shop.group.probe().await.expect_err("the database is away");
    }
    assert_eq!(shop.toys.calls(), 1, "no handler was called in vain");
    outage.end().await;
    assert_eq!(shop.deliver(&batch).await, Delivered { applied: 3, ..Delivered::default() });
    assert!(shop.dead_letters().await.is_empty());
    assert_eq!(shop.journal().await.len(), 4);
}

#[tokio::test]
async fn a_database_that_goes_away_under_a_handler_stalls_the_delivery() {
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::Waits));
    let batch = [record(&toy, 0)];
    let interrupt = async {
        eventually("the handler runs", || async { (shop.toys.calls() == 1).then_some(()) }).await;
        let outage = Outage::of(&shop.database).await;
        shop.toys.let_go();
        outage
    };
    let (delivered, outage) = tokio::join!(shop.try_to_deliver(&batch), interrupt);
    delivered.expect_err("the database is away");
    outage.end().await;
    assert_eq!(shop.state(toy.id).await, None, "nothing is left of the attempt");
    assert!(shop.journal().await.is_empty());
    assert_eq!(shop.deliver(&batch).await.applied, 1);
    assert!(shop.dead_letters().await.is_empty());
}

#[tokio::test]
async fn whatever_fails_while_the_database_is_away_is_not_the_message_s_fault() {
    // The handler says that a remote system is away, and that may be so, too.
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::WaitsAndBreaks));
    let batch = [record(&toy, 0)];
    for _ in 0..2 {
        let calls = shop.toys.calls();
        let interrupt = async {
            eventually("the handler runs", || async { (shop.toys.calls() > calls).then_some(()) }).await;
            let outage = Outage::of(&shop.database).await;
            shop.toys.let_go();
            outage
        };
        let (delivered, outage) = tokio::join!(shop.try_to_deliver(&batch), interrupt);
        delivered.expect_err("the database is away");
        assert_eq!(shop.toys.calls(), calls + 1, "one attempt, and none counted");
        outage.end().await;
        shop.toys.hold();
    }
    assert!(shop.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_pool_that_has_no_connection_to_give_stalls_too() {
    let shop = ToyShop::open().await;
    let mut taken = Vec::new();
    while let Ok(Ok(client)) = tokio::time::timeout(Duration::from_secs(1), shop.pool().get()).await {
        taken.push(client);
    }
    let batch = records([Toy::fine("bear", 1)]);
    shop.try_to_deliver(&batch).await.expect_err("no connection");
    drop(taken);
    assert_eq!(shop.deliver(&batch).await.applied, 1);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_half_way_leaves_nothing_behind() {
    let shop = ToyShop::open().await;
    let reached = Arc::new(Notify::new());
    let told = Arc::clone(&reached);
    let subscriptions = Subscriptions::of(Service::Order).hear::<Toy, _>(move |tx, events| {
        let told = Arc::clone(&told);
        async move {
            tx.execute("INSERT INTO journal (event_id, key, n) VALUES ($1, 'half', 0)", &[&events[0].id.uuid()])
                .await?;
            told.notify_one();
            std::future::pending().await
        }
        .boxed()
    });
    let dying = Group::new(shop.pool().clone(), subscriptions, Ladder::default());
    let batch = records([Toy::fine("bear", 1)]);
    tokio::select! {
        _ = dying.deliver(&batch) => panic!("it never ends"),
        () = reached.notified() => {}
    }
    assert_eq!(shop.deliver(&batch).await.applied, 1, "nobody holds the event's inbox row any more");
    assert_eq!(shop.journal().await, [("bear".to_owned(), 1)]);
}
