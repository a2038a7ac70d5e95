//! More than fits: a partition that is far behind is paused, and goes on, here or elsewhere.

use std::time::Duration;

use common_events::Service;
use test_support::eventually;

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    toys::{self, Toy, event},
};

fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).expect("resident").parse().expect("a number");
    pages * PAGE
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_larger_than_memory_should_hold_is_taken_in_steps_and_nothing_is_lost() {
    const EVENTS: i64 = 12_000;
    const BALLAST: usize = 16 * 1024;
    /// 16 MiB wait at most, what librdkafka holds is 8 MiB and a fetch; other tests run beside this one.
    const GROWTH: usize = 100 << 20;
    let (broker, database) = (Broker::with_partitions(&TOPICS, Some(1)).await, toys::database().await);
    let pool = &database.pool;
    for from in (0..EVENTS).step_by(500) {
        let toys = (from + 1..=from + 500).map(|n| Toy { ballast: "x".repeat(BALLAST), ..Toy::fine("bear", n) });
        broker.send_all(&toys.map(event).collect::<Vec<_>>()).await;
    }

    let toys = toys::Toys::new();
    toys.take_for_each_batch(Duration::from_millis(100));
    let before = resident_bytes();
    let member = Member::join_with(&broker, pool, Service::Order, toys);
    let mut most = 0;
    eventually("the backlog is handled", || {
        most = most.max(resident_bytes());
        async { (toys::count(pool, "SELECT count(*) FROM journal").await >= EVENTS).then_some(()) }
    })
    .await;
    member.stop().await;
    assert!(most < before + GROWTH, "grew by {} MiB for {} MiB", (most - before) >> 20, EVENTS * 16 / 1024);
    let numbers = toys::journal_by_key(pool).await.remove("bear").unwrap();
    assert_eq!(numbers, (1..=EVENTS).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_handed_over_while_it_was_paused_flows_when_it_comes_back() {
    /// Above the number at which a partition is paused, with batches to spare.
    const EVENTS: i64 = 7_000;
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let pool = &database.pool;
    // Keys that lie on all three partitions, a third on each as good as.
    let toys: Vec<_> = (0..3 * EVENTS).map(|n| event(Toy::fine(&format!("key-{}", n % 50), n))).collect();
    broker.send_all(&toys).await;

    let slow = toys::Toys::new();
    slow.take_for_each_batch(Duration::from_secs(2));
    let first = Member::join_with(&broker, pool, Service::Order, slow);
    eventually("its first batches are handled", || async { (first.toys.calls() >= 4).then_some(()) }).await;
    let second = Member::join(&broker, pool, Service::Order);
    eventually("the second member took a partition", || async { (second.toys.calls() > 0).then_some(()) }).await;
    second.stop().await;
    first.toys.take_for_each_batch(Duration::ZERO);
    eventually("everything is handled", || async {
        (toys::count(pool, "SELECT count(*) FROM journal").await >= 3 * EVENTS).then_some(())
    })
    .await;
    first.stop().await;
    assert_eq!(toys::count(pool, "SELECT count(DISTINCT event_id) FROM journal").await, 3 * EVENTS);
    assert!(toys::journal_by_key(pool).await.values().all(|numbers| numbers.is_sorted()));
}
