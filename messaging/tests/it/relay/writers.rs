//! Services that write: each key's row is locked, counted up, and told, in one transaction.

use std::collections::HashMap;

use messaging::{Cause, Tx};
use service_runtime::{database::Pool, telemetry};
use test_support::{Database, eventually};

use crate::{
    broker::Lying,
    toys::{self, Label, Toy},
};

/// A database with so many keys.
pub(crate) async fn database(keys: i64) -> Database {
    let database = toys::database().await;
    let client = database.pool.get().await.expect("a connection");
    let sql = "CREATE TABLE shelf (key text PRIMARY KEY, toys bigint NOT NULL DEFAULT 0)";
    client.batch_execute(sql).await.expect("a shelf");
    let sql = "INSERT INTO shelf SELECT 'key-' || key FROM generate_series(0, $1::bigint - 1) AS key";
    client.execute(sql, &[&keys]).await.expect("keys");
    drop(client);
    database
}

/// What is told of a key that was counted up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A toy.
    Toy,
    /// A label, on the compacted topic.
    Label,
}

/// Counts these keys up in one transaction and tells of each.
pub(crate) async fn write(pool: &Pool, kind: Kind, keys: &[i64]) {
    let mut names: Vec<String> = keys.iter().map(|key| format!("key-{key}")).collect();
    names.sort();
    let mut client = pool.get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    tx.query("SELECT FROM shelf WHERE key = ANY($1) ORDER BY key FOR UPDATE", &[&names]).await.expect("locks");
    let sql = "UPDATE shelf SET toys = toys + 1 WHERE key = ANY($1) RETURNING key, toys";
    let cause = Cause::trace(telemetry::root());
    for row in tx.query(sql, &[&names]).await.expect("counted up") {
        let (key, n): (String, i64) = (row.get(0), row.get(1));
        let published = match kind {
            Kind::Toy => tx.publish(cause.causes(Toy::fine(&key, n))),
            Kind::Label => tx.publish(cause.causes(Label { key, n })),
        };
        published.expect("small enough");
    }
    tx.commit().await.expect("committed");
}

/// Several writers at once, so that commits come in another order than ids; each key is written
/// `rounds` times by each of them.
pub(crate) async fn write_concurrently(pool: &Pool, kind: Kind, keys: i64, writers: i64, rounds: i64) {
    let write_all = |writer: i64| async move {
        for round in 0..rounds {
            for first in (0..keys).step_by(5) {
                // Each goes through the keys from another place on.
                let shift = writer * 7 + round;
                let keys: Vec<i64> = (first..(first + 5).min(keys)).map(|key| (key + shift) % keys).collect();
                write(pool, kind, &keys).await;
            }
        }
    };
    futures::future::join_all((0..writers).map(write_all)).await;
}

/// Waits until everything that was written is acknowledged, and so deleted.
pub(crate) async fn outbox_is_empty(pool: &Pool) {
    eventually("the outbox is empty", || async {
        (toys::count(pool, "SELECT count(*) FROM outbox").await == 0).then_some(())
    })
    .await;
}

/// Whether each of so many keys has got as far as `last`.
pub(crate) fn all_have(keys: i64, last: i64) -> impl Fn(&[Lying]) -> bool {
    move |lying| {
        let mut latest: HashMap<&[u8], i64> = HashMap::new();
        for record in lying {
            let n = number(record);
            latest
                .entry(record.key.as_deref().unwrap_or_default())
                .and_modify(|most| *most = n.max(*most))
                .or_insert(n);
        }
        i64::try_from(latest.len()) == Ok(keys) && latest.values().all(|n| *n >= last)
    }
}

/// Per key, the numbers in the order in which they came for the first time.
pub(crate) fn first_arrivals(lying: &[Lying]) -> HashMap<String, Vec<i64>> {
    let mut by_key: HashMap<String, Vec<i64>> = HashMap::new();
    for record in lying {
        let key = String::from_utf8(record.key.clone().expect("a key")).expect("text");
        let numbers = by_key.entry(key).or_default();
        let n = number(record);
        if !numbers.contains(&n) {
            numbers.push(n);
        }
    }
    by_key
}

/// The law of the relay: of each of so many keys everything came, `1..=last`, first arrivals in order.
pub(crate) fn nothing_is_lost_and_each_key_is_in_order(lying: &[Lying], keys: i64, last: i64) {
    let by_key = first_arrivals(lying);
    assert_eq!(i64::try_from(by_key.len()), Ok(keys));
    for (key, numbers) in by_key {
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "{key}");
    }
}

/// Toys and labels both have a number.
pub(crate) fn number(record: &Lying) -> i64 {
    let event: serde_json::Value = serde_json::from_slice(&record.value).expect("JSON");
    event["data"]["n"].as_i64().expect("a number")
}
