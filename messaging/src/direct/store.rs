//! `producer_dead_letters`, and how they go on to the outbox.

use common_events::Topic;
use deadpool_postgres::Client;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    http::{ProducerDeadLetter, State},
    reports::Letter,
};

/// How many of a topic wait, by state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// For Kafka.
    pub(super) held: i64,
    /// In the outbox.
    pub(super) republishing: i64,
}

/// Keeps the letters in this order, each once. Its own transaction.
pub(super) async fn insert(client: &Client, topic: Topic, letters: &[(&Letter, &str)]) -> Result<u64, Error> {
    let ids: Vec<Uuid> = letters.iter().map(|(letter, _)| letter.event_id.uuid()).collect();
    let keys: Vec<&[u8]> = letters.iter().map(|(letter, _)| &*letter.key).collect();
    let payloads: Vec<&[u8]> = letters.iter().map(|(letter, _)| &*letter.payload).collect();
    let traces: Vec<&str> = letters.iter().map(|(letter, _)| &*letter.traceparent).collect();
    let errors: Vec<&str> = letters.iter().map(|(_, error)| *error).collect();
    let statement = client
        .prepare_cached(
            "INSERT INTO producer_dead_letters (event_id, topic, key, payload, traceparent, error)
             SELECT event_id, $1, key, payload, traceparent, error
             FROM unnest($2::uuid[], $3::bytea[], $4::bytea[], $5::text[], $6::text[])
                 WITH ORDINALITY AS letter (event_id, key, payload, traceparent, error, position)
             ORDER BY position
             ON CONFLICT (event_id) DO NOTHING",
        )
        .await?;
    client.execute(&statement, &[&topic.name(), &ids, &keys, &payloads, &traces, &errors]).await
}

/// What of the topic isn't on it yet.
pub(super) async fn count_backlog(client: &Client, topic: Topic) -> Result<Counts, Error> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE state = 'HELD'), count(*) FILTER (WHERE state = 'REPUBLISHING')
             FROM producer_dead_letters WHERE topic = $1 AND state <> 'REPUBLISHED'",
        )
        .await?;
    let row = client.query_one(&statement, &[&topic.name()]).await?;
    Ok(Counts { held: row.try_get(0)?, republishing: row.try_get(1)? })
}

/// Moves the first letters on to the outbox, in their order. Two processes that do this at the same time
/// do it one after the other. Returns how many.
pub(super) async fn update_republishing(client: &Client, topic: Topic, at_most: i64) -> Result<u64, Error> {
    let statement = client
        .prepare_cached(
            "WITH head AS MATERIALIZED (
                 SELECT id, topic, key, payload, traceparent FROM producer_dead_letters
                 WHERE topic = $1 AND state = 'HELD' ORDER BY id LIMIT $2 FOR UPDATE
             ), sent AS (
                 INSERT INTO outbox (topic, key, payload, traceparent)
                 SELECT topic, key, payload, traceparent FROM head ORDER BY id
             )
             UPDATE producer_dead_letters letter SET state = 'REPUBLISHING' FROM head WHERE letter.id = head.id",
        )
        .await?;
    client.execute(&statement, &[&topic.name(), &at_most]).await
}

/// Notes that the outbox holds nothing more of the topic: its relay has sent what was moved there.
pub(super) async fn update_republished(client: &Client, topic: Topic) -> Result<u64, Error> {
    let statement = client
        .prepare_cached(
            "UPDATE producer_dead_letters SET state = 'REPUBLISHED', republished_at = clock_timestamp()
             WHERE topic = $1 AND state = 'REPUBLISHING' AND NOT EXISTS (SELECT FROM outbox WHERE topic = $1)",
        )
        .await?;
    client.execute(&statement, &[&topic.name()]).await
}

/// Forgets what went to its topic so many days ago.
pub(super) async fn delete_republished(client: &Client, topic: Topic, days: i32) -> Result<u64, Error> {
    let statement = client
        .prepare_cached(
            "DELETE FROM producer_dead_letters WHERE topic = $1 AND state = 'REPUBLISHED'
                 AND republished_at < clock_timestamp() - make_interval(days => $2)",
        )
        .await?;
    client.execute(&statement, &[&topic.name(), &days]).await
}

/// A page of them, in the order in which they were diverted.
pub(super) async fn list(
    client: &Client,
    state: Option<State>,
    after: Option<i64>,
    at_most: i64,
) -> Result<Vec<ProducerDeadLetter>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT id, event_id, topic, key, traceparent, state, error, diverted_at, republished_at
             FROM producer_dead_letters
             WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR id > $2)
             ORDER BY id LIMIT $3",
        )
        .await?;
    let rows = client.query(&statement, &[&state.map(State::as_str), &after, &at_most]).await?;
    rows.iter().map(ProducerDeadLetter::of).collect()
}
