//! Order of a key across retries: while an event of a key is on the ladder, later ones wait behind it.
//!
//! A key's row names the event that is waited for, its head. Whoever blocks, appends or drains locks that
//! row. Once the head is applied, dead or discarded, the followers are drained in their order; one that fails
//! is the new head. Only a transaction that finds no follower deletes the row, so nothing can come between
//! the last follower and the next event of the key.

mod drain;

use std::collections::HashSet;

use chrono::NaiveDate;
use common_events::EventId;
use deadpool_postgres::Client;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    inbox::Arrival,
    ladder::headers::headers_to_keep,
    record::{HeaderColumns, Record},
    tx::Tx,
};

/// What order is kept by: (topic, key).
pub(crate) type OrderKey<'k> = (&'k str, &'k [u8]);
/// The same, of its own.
pub(crate) type OwnedKey = (String, Vec<u8>);

pub(crate) fn owned((topic, key): OrderKey<'_>) -> OwnedKey {
    (topic.to_owned(), key.to_vec())
}

fn columns<'k>(keys: impl IntoIterator<Item = &'k OrderKey<'k>>) -> (Vec<&'k str>, Vec<&'k [u8]>) {
    keys.into_iter().copied().unzip()
}

fn read_key(row: &Row) -> OwnedKey {
    (row.get(0), row.get(1))
}

/// Which of these keys are blocked now.
pub(crate) async fn find_blocked(
    client: &Client,
    keys: &HashSet<OrderKey<'_>>,
) -> Result<HashSet<OwnedKey>, tokio_postgres::Error> {
    let (topics, keys) = columns(keys);
    let statement = client
        .prepare_cached(
            "SELECT topic, key FROM waiting_keys
             JOIN unnest($1::text[], $2::bytea[]) AS asked (topic, key) USING (topic, key)",
        )
        .await?;
    Ok(client.query(&statement, &[&topics, &keys]).await?.iter().map(read_key).collect())
}

/// Which of these keys are blocked, until this transaction ends.
pub(crate) async fn lock_blocked(
    tx: &Tx<'_>,
    keys: &HashSet<OrderKey<'_>>,
) -> Result<HashSet<OwnedKey>, tokio_postgres::Error> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let (topics, keys) = columns(keys);
    let rows = tx
        .query(
            "SELECT waiting_keys.topic, waiting_keys.key FROM waiting_keys
             JOIN unnest($1::text[], $2::bytea[]) AS asked (topic, key)
                 ON waiting_keys.topic = asked.topic AND waiting_keys.key = asked.key
             ORDER BY waiting_keys.topic, waiting_keys.key FOR UPDATE OF waiting_keys",
            &[&topics, &keys],
        )
        .await?;
    Ok(rows.iter().map(read_key).collect())
}

/// Which of these keys have a head that is through, until this transaction ends.
pub(crate) async fn lock_released(
    tx: &Tx<'_>,
    keys: &HashSet<OrderKey<'_>>,
) -> Result<HashSet<OwnedKey>, tokio_postgres::Error> {
    let (topics, keys) = columns(keys);
    let rows = tx
        .query(
            "SELECT waiting_keys.topic, waiting_keys.key FROM waiting_keys
             JOIN unnest($1::text[], $2::bytea[]) AS asked (topic, key)
                 ON waiting_keys.topic = asked.topic AND waiting_keys.key = asked.key
             WHERE head_id IS NULL
             ORDER BY waiting_keys.topic, waiting_keys.key FOR UPDATE OF waiting_keys",
            &[&topics, &keys],
        )
        .await?;
    Ok(rows.iter().map(read_key).collect())
}

/// A key, and the event of it that failed.
pub(crate) struct Head<'h> {
    pub(crate) key: OrderKey<'h>,
    pub(crate) day: NaiveDate,
    pub(crate) id: EventId,
}

/// Blocks keys by events that failed. Returns how many: a key that is blocked already stays as it is.
pub(crate) async fn block(tx: &Tx<'_>, heads: &[Head<'_>]) -> Result<u64, tokio_postgres::Error> {
    let (topics, keys) = columns(heads.iter().map(|head| &head.key));
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = heads.iter().map(|head| (head.day, head.id.uuid())).unzip();
    tx.execute(
        "INSERT INTO waiting_keys (topic, key, head_day, head_id)
         SELECT topic, key, day, id FROM unnest($1::text[], $2::bytea[], $3::date[], $4::uuid[])
             AS head (topic, key, day, id)
         ORDER BY topic, key
         ON CONFLICT (topic, key) DO NOTHING",
        &[&topics, &keys, &days, &ids],
    )
    .await
}

/// A follower whose turn it was has failed: the others of its key now wait for it. Returns of how many.
pub(crate) async fn block_again(tx: &Tx<'_>, heads: &[Head<'_>]) -> Result<u64, tokio_postgres::Error> {
    let (topics, keys) = columns(heads.iter().map(|head| &head.key));
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = heads.iter().map(|head| (head.day, head.id.uuid())).unzip();
    tx.execute(
        "UPDATE waiting_keys SET head_day = head.day, head_id = head.id
         FROM unnest($1::text[], $2::bytea[], $3::date[], $4::uuid[]) AS head (topic, key, day, id)
         WHERE waiting_keys.topic = head.topic AND waiting_keys.key = head.key AND head_id IS NULL",
        &[&topics, &keys, &days, &ids],
    )
    .await
}

/// These events are through: applied, dead or discarded. Whoever waits behind one may be drained.
pub(crate) async fn release(tx: &Tx<'_>, heads: &[(NaiveDate, EventId)]) -> Result<u64, tokio_postgres::Error> {
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = heads.iter().map(|(day, id)| (*day, id.uuid())).unzip();
    tx.execute(
        "UPDATE waiting_keys SET head_day = NULL, head_id = NULL, drain_after = clock_timestamp()
         FROM unnest($1::date[], $2::uuid[]) AS through (day, id)
         WHERE head_id = through.id AND head_day = through.day",
        &[&days, &ids],
    )
    .await
}

/// Keeps events behind the heads of their keys, in their order.
pub(crate) async fn append(tx: &Tx<'_>, followers: &[Arrival<'_>]) -> Result<(), tokio_postgres::Error> {
    let days: Vec<NaiveDate> = followers.iter().map(|follower| follower.day).collect();
    let ids: Vec<Uuid> = followers.iter().map(|follower| follower.id.uuid()).collect();
    let records = || followers.iter().map(|follower| follower.record);
    let topics: Vec<&str> = records().map(Record::event_topic).collect();
    let keys: Vec<Option<&[u8]>> = records().map(|record| record.key.as_deref()).collect();
    let payloads: Vec<Option<&[u8]>> = records().map(|record| record.value.as_deref()).collect();
    let origins: Vec<Option<&str>> =
        records().map(|record| Some(record.origin().0).filter(|origin| *origin != record.event_topic())).collect();
    let (partitions, offsets): (Vec<i32>, Vec<i64>) =
        records().map(Record::origin).map(|(_, partition, offset)| (partition, offset)).unzip();
    let times: Vec<_> = records().map(Record::origin_timestamp).collect();
    let kept: Vec<Vec<(String, Vec<u8>)>> = records().map(headers_to_keep).collect();
    let headers = HeaderColumns::of(kept.iter().map(|headers| &**headers));
    tx.execute(
        "INSERT INTO waiting_events (topic, key, day, event_id, origin_topic, origin_partition, origin_offset,
                                     origin_timestamp, payload, header_names, header_values)
         SELECT topic, key, day, event_id, origin_topic, origin_partition, origin_offset, origin_timestamp, payload,
                ($9::text[])[headers_from:headers_to], ($10::bytea[])[headers_from:headers_to]
         FROM unnest($1::text[], $2::bytea[], $3::date[], $4::uuid[], $5::int[], $6::bigint[], $7::timestamptz[],
                     $8::bytea[], $11::int[], $12::int[], $13::text[])
             WITH ORDINALITY
             AS follower (topic, key, day, event_id, origin_partition, origin_offset, origin_timestamp, payload,
                          headers_from, headers_to, origin_topic, place)
         ORDER BY place",
        &[
            &topics,
            &keys,
            &days,
            &ids,
            &partitions,
            &offsets,
            &times,
            &payloads,
            &headers.names,
            &headers.values,
            &headers.from,
            &headers.to,
            &origins,
        ],
    )
    .await?;
    Ok(())
}

/// Takes followers whose turn it is, or who failed, from behind. Returns those that were there.
pub(crate) async fn take(
    tx: &Tx<'_>,
    events: &[(NaiveDate, EventId)],
) -> Result<HashSet<EventId>, tokio_postgres::Error> {
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = events.iter().map(|(day, id)| (*day, id.uuid())).unzip();
    let rows = tx
        .query(
            "DELETE FROM waiting_events USING unnest($1::date[], $2::uuid[]) AS turn (day, id)
             WHERE event_id = turn.id AND waiting_events.day = turn.day
             RETURNING event_id",
            &[&days, &ids],
        )
        .await?;
    Ok(rows.iter().map(|row| EventId::new(row.get(0))).collect())
}

/// Frees those of these keys that have no follower left; who drains the others may go on at once. Their rows
/// are locked.
pub(crate) async fn delete_drained(tx: &Tx<'_>, keys: &HashSet<OrderKey<'_>>) -> Result<(), tokio_postgres::Error> {
    let (topics, keys) = columns(keys);
    tx.execute(
        "DELETE FROM waiting_keys USING unnest($1::text[], $2::bytea[]) AS drained (topic, key)
         WHERE waiting_keys.topic = drained.topic AND waiting_keys.key = drained.key AND head_id IS NULL
           AND NOT EXISTS (SELECT FROM waiting_events AS follower
                           WHERE follower.topic = drained.topic AND follower.key = drained.key)",
        &[&topics, &keys],
    )
    .await?;
    offer(tx, &topics, &keys).await
}

/// Whoever drains these keys may go on at once; those without followers are free then.
pub(crate) async fn offer_to_drain(tx: &Tx<'_>, keys: &[OrderKey<'_>]) -> Result<(), tokio_postgres::Error> {
    let (topics, keys) = columns(keys);
    offer(tx, &topics, &keys).await
}

async fn offer(tx: &Tx<'_>, topics: &[&str], keys: &[&[u8]]) -> Result<(), tokio_postgres::Error> {
    tx.execute(
        "UPDATE waiting_keys SET drain_after = clock_timestamp()
         FROM unnest($1::text[], $2::bytea[]) AS offered (topic, key)
         WHERE waiting_keys.topic = offered.topic AND waiting_keys.key = offered.key AND head_id IS NULL",
        &[&topics, &keys],
    )
    .await?;
    Ok(())
}
