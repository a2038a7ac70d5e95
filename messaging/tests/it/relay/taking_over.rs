//! Two relays: one leads, the other stands by, whatever happens to the first.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use service_runtime::database::Pool;
use test_support::{Database, eventually};

use super::{
    process::{LEASE, Relay},
    writers::{self, Kind, nothing_is_lost_and_each_key_is_in_order, number, outbox_is_empty},
};
use crate::{
    broker::{Broker, Lying},
    toys,
};

const KEYS: i64 = 40;

/// One that leads and one that stands by.
async fn pair(broker: &Broker, database: &Database) -> (Relay, Relay) {
    let leader = Relay::start(broker, &[&database.url]);
    leader.leads(1).await;
    let stand_by = Relay::start(broker, &[&database.url]);
    eventually("the second relay is up", || async { (stand_by.has_said("listening") > 0).then_some(()) }).await;
    assert!(stand_by.has_never_led());
    (leader, stand_by)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_terminated_stops_in_time_and_the_other_leads_at_once() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(KEYS).await);
    let (leader, stand_by) = pair(&broker, &database).await;
    let pool = &database.pool;
    let writing = writers::write_concurrently(pool, Kind::Toy, KEYS, 4, 25);
    let stopping = async {
        eventually("it is at work", || async {
            (toys::count(pool, "SELECT coalesce(sum(toys), 0)::bigint FROM shelf").await > 500).then_some(())
        })
        .await;
        assert!(stand_by.has_never_led(), "one at a time");
        let told = Instant::now();
        assert!(leader.terminate().await.success());
        assert!(told.elapsed() < Duration::from_secs(5), "stopped after {:?}", told.elapsed());
        let gone = Instant::now();
        stand_by.leads(1).await;
        // It asks every fifth of a lease.
        assert!(gone.elapsed() < LEASE * 3 / 4, "leads after {:?}: the lease was given back", gone.elapsed());
    };
    tokio::join!(writing, stopping);
    outbox_is_empty(pool).await;
    let lying = broker.read_to_the_end("order-created").await;
    nothing_is_lost_and_each_key_is_in_order(&lying, KEYS, 100);
    assert_eq!(lying.len(), 4_000, "an orderly hand-over sends nothing twice");
    stand_by.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_replaced_within_seconds() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(KEYS).await);
    let (leader, stand_by) = pair(&broker, &database).await;
    let pool = &database.pool;
    let writing = writers::write_concurrently(pool, Kind::Toy, KEYS, 4, 25);
    let killing = async {
        eventually("it is at work", || async {
            (toys::count(pool, "SELECT coalesce(sum(toys), 0)::bigint FROM shelf").await > 500).then_some(())
        })
        .await;
        leader.kill().await;
        let killed = Instant::now();
        stand_by.leads(1).await;
        assert!(killed.elapsed() < LEASE * 4, "leads after {:?}", killed.elapsed());
    };
    tokio::join!(writing, killing);
    outbox_is_empty(pool).await;
    let lying = broker.read_to_the_end("order-created").await;
    nothing_is_lost_and_each_key_is_in_order(&lying, KEYS, 100);
    stand_by.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_and_goes_on_changes_no_order() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(KEYS).await);
    let (leader, stand_by) = pair(&broker, &database).await;
    let pool = &database.pool;
    writers::write_concurrently(pool, Kind::Toy, KEYS, 4, 10).await;
    let writing = writers::write_concurrently(pool, Kind::Toy, KEYS, 4, 15);
    let freezing = async {
        eventually("it is at work", || async {
            (toys::count(pool, "SELECT sum(toys)::bigint FROM shelf").await > 1_700).then_some(())
        })
        .await;
        leader.signal("STOP").await;
        stand_by.leads(1).await;
    };
    tokio::join!(writing, freezing);
    outbox_is_empty(pool).await;
    leader.signal("CONT").await;
    eventually("the old leader sees that it leads no more", || async {
        (leader.has_said("standing by") > 0).then_some(())
    })
    .await;
    writers::write_concurrently(pool, Kind::Toy, KEYS, 1, 1).await;
    outbox_is_empty(pool).await;
    let lying = broker.read_to_the_end("order-created").await;
    nothing_is_lost_and_each_key_is_in_order(&lying, KEYS, 101);
    leader.terminate().await;
    stand_by.terminate().await;
}

/// On a compacted topic the latest record of a key is what a reader believes for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_leaves_no_late_duplicate_on_a_compacted_topic() {
    /// Labels of each key at once: so many rows that the leader has claimed more than it has sent.
    const PILE: i64 = 100;
    /// How long a leader that goes on has for what it must not do.
    const WATCHED: Duration = Duration::from_secs(2);
    let (broker, database) = (Broker::with(&["product-catalog"]).await, writers::database(KEYS).await);
    let pool = &database.pool;
    let (mut leader, mut stand_by) = pair(&broker, &database).await;
    let mut written = 0;
    for round in 1..=4 {
        pile_up(pool, PILE).await;
        eventually("some of the labels have left", || async {
            (toys::count(pool, "SELECT count(*) FROM outbox").await < KEYS * PILE).then_some(())
        })
        .await;
        let (led, stood_by) = (stand_by.has_said("leading"), leader.has_said("standing by"));
        leader.signal("STOP").await;
        let left = toys::count(pool, "SELECT count(*) FROM outbox").await;
        stand_by.leads(led + 1).await;
        writers::write_concurrently(pool, Kind::Label, KEYS, 1, 1).await;
        outbox_is_empty(pool).await;
        written += PILE + 1;

        leader.signal("CONT").await;
        eventually("the old leader sees that it leads no more", || async {
            (leader.has_said("standing by") > stood_by).then_some(())
        })
        .await;
        let began = Instant::now();
        eventually("it was watched for a while", || async { (began.elapsed() > WATCHED).then_some(()) }).await;
        let lying = broker.read_to_the_end("product-catalog").await;
        let everybody: HashMap<String, i64> = (0..KEYS).map(|key| (format!("key-{key}"), written)).collect();
        assert_eq!(latest(&lying), everybody, "round {round}, frozen with {left} rows left");
        nothing_is_lost_and_each_key_is_in_order(&lying, KEYS, written);
        std::mem::swap(&mut leader, &mut stand_by);
    }
    leader.terminate().await;
    stand_by.terminate().await;
}

/// So many labels of each key, committed at once.
async fn pile_up(pool: &Pool, labels: i64) {
    let client = pool.get().await.expect("a connection");
    client.batch_execute("BEGIN").await.expect("a transaction");
    for _ in 0..labels {
        client
            .execute(
                "WITH counted AS (UPDATE shelf SET toys = toys + 1 RETURNING key, toys)
                 INSERT INTO outbox (topic, key, payload, compacted)
                 SELECT 'product-catalog', key::bytea,
                        convert_to(json_build_object('data', json_build_object('key', key, 'n', toys))::text, 'utf8'),
                        true
                 FROM counted",
                &[],
            )
            .await
            .expect("labels");
    }
    client.batch_execute("COMMIT").await.expect("committed");
}

/// The number of the last record of each key.
fn latest(lying: &[Lying]) -> HashMap<String, i64> {
    // A key's records lie on one partition, and were read in their order.
    lying
        .iter()
        .map(|it| (String::from_utf8_lossy(it.key.as_deref().unwrap_or_default()).into_owned(), number(it)))
        .collect()
}
