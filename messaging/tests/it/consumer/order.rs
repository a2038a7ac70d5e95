//! Order is kept per key, and only per key.

use std::collections::BTreeSet;

use common_events::{Service, envelope};
use test_support::eventually;

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    toys::{self, Toy, event},
};

const KEYS: i64 = 30;

/// The toys `from..=to` of every key, turn by turn.
fn round(from: i64, to: i64) -> Vec<envelope::Event<Toy>> {
    (from..=to).flat_map(|n| (0..KEYS).map(move |key| event(Toy::fine(&format!("key-{key}"), n)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_each_key_is_kept_while_a_second_member_joins_and_leaves() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let pool = &database.pool;
    let handled = async |count: i64| {
        eventually(&format!("{count} events are handled"), || async {
            (toys::count(pool, "SELECT count(*) FROM journal").await >= count).then_some(())
        })
        .await;
    };
    let first = Member::join(&broker, pool, Service::Order);
    let sent = broker.send_all(&round(1, 20)).await;
    assert_eq!(sent.iter().map(|(partition, _)| *partition).collect::<BTreeSet<_>>(), [0, 1, 2].into());
    handled(KEYS).await;

    let second = Member::join(&broker, pool, Service::Order);
    let mut last = 20;
    while second.toys.calls() == 0 {
        assert!(last < 2_000, "the second member gets a share");
        broker.send_all(&round(last + 1, last + 5)).await;
        last += 5;
        handled(last * KEYS).await;
    }
    let sending = round(last + 1, last + 20);
    tokio::join!(broker.send_all(&sending), second.stop());
    last += 40;
    broker.send_all(&round(last - 19, last)).await;
    handled(last * KEYS).await;
    first.stop().await;

    let by_key = toys::journal_by_key(pool).await;
    assert_eq!(by_key.len(), usize::try_from(KEYS).unwrap());
    for (key, numbers) in by_key {
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "{key}: each once, in order");
    }
    assert!(toys::dead_letters(pool).await.is_empty());
}

/// Why records have keys: the events of one entity, sent without, are handled in any order.
#[tokio::test(flavor = "multi_thread")]
async fn keyless_delivery_breaks_the_order_of_an_entity_s_events_and_keyed_delivery_keeps_it() {
    const EVENTS: i64 = 60;
    let in_order: Vec<i64> = (1..=EVENTS).collect();
    let events: Vec<_> = in_order.iter().map(|n| event(Toy::fine("bear", *n))).collect();
    let handled_in_order = async |sent: Vec<(i32, i64)>, broker: &Broker| -> (usize, Vec<i64>) {
        let database = toys::database().await;
        let member = Member::join(broker, &database.pool, Service::Order);
        eventually("all events are handled", || async {
            (toys::count(&database.pool, "SELECT count(*) FROM journal").await >= EVENTS).then_some(())
        })
        .await;
        member.stop().await;
        let partitions: BTreeSet<i32> = sent.into_iter().map(|(partition, _)| partition).collect();
        (partitions.len(), toys::journal(&database.pool).await.into_iter().map(|(_, n)| n).collect())
    };

    let broker = Broker::with(&TOPICS).await;
    let (partitions, handled) = handled_in_order(broker.send_all(&events).await, &broker).await;
    assert_eq!((partitions, &handled), (1, &in_order), "with a key");

    let broker = Broker::with(&TOPICS).await;
    let (partitions, mut handled) = handled_in_order(broker.send_all_keyless(&events).await, &broker).await;
    assert!(partitions > 1);
    assert_ne!(handled, in_order, "without a key");
    handled.sort_unstable();
    assert_eq!(handled, in_order, "though none is lost");
}
