//! A consumer that can't go on says so, instead of looking alive.

use std::time::Duration;

use common_events::Service;
use futures::FutureExt;
use messaging::{Subscriptions, delivery::Group};
use test_support::{PATIENCE, eventually};

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    toys::{self, Mood, Toy, Toys, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_by_itself_ends_the_consumer() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    // Who hears raw is not shielded: it handles no events, and a panic of it is a mistake of its own.
    let subscriptions = Subscriptions::of(Service::Order)
        .hear_raw::<std::io::Error, _>(["order-created".to_owned()], |_| async { panic!("it broke") }.boxed());
    let group = Group::new(database.pool.clone(), subscriptions, toys::ladder());
    let member = Member::start(&broker, group, Toys::new());
    member.has_joined().await;
    let failed = member.failed();
    assert!(!failed.is_cancelled());
    broker.send(&event(Toy::fine("bear", 1))).await;
    tokio::time::timeout(PATIENCE, failed.cancelled()).await.expect("it says that it failed");
    member.stop_failed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_end_keeps_nobody_from_stopping() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let member = Member::join(&broker, &database.pool, Service::Order);
    broker.send(&event(Toy::new("bear", 1, Mood::Waits))).await;
    eventually("its handler waits", || async { (member.toys.calls() > 0).then_some(()) }).await;
    let stopping = tokio::time::timeout(Duration::from_secs(15), member.stop());
    stopping.await.expect("it gives the batch up, and hands over");
    assert_eq!(toys::count(&database.pool, "SELECT count(*) FROM inbox").await, 0, "and nothing is left of it");
}
