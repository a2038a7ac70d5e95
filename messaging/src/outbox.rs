//! The outbox: events written by the transaction that made them happen.

use chrono::NaiveDate;
use common_events::{EventId, Topic, TraceParent, trace::SpanId};
use deadpool_postgres::Client;
use metrics::counter;
use tokio_postgres::Statement;
use uuid::Uuid;

use crate::{record::HeaderColumns, relay, tx::Tx};

/// An event that waits to be written with its transaction.
pub(crate) struct OutboxRow {
    pub(crate) topic: Topic,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) trace: TraceParent,
    pub(crate) parent: Option<SpanId>,
    pub(crate) compacted: bool,
    pub(crate) cause: Option<(NaiveDate, EventId)>,
}

/// The order of the arrays is the order of the ids, and so the order on the topic. What an event
/// caused is kept beside it, so that a resume can publish it again.
const INSERT_AND_KEEP: &str = "
    WITH published AS (
        SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::boolean[],
                             $7::date[], $8::uuid[])
             WITH ORDINALITY AS row (topic, key, payload, traceparent, parent_span, compacted, day, cause_id, position)
    ), kept AS (
        INSERT INTO kept_answers (day, cause_id, position, topic, key, payload, traceparent, compacted)
        SELECT day, cause_id, position, topic, key, payload, traceparent, compacted
        FROM published WHERE cause_id IS NOT NULL
    )
    INSERT INTO outbox (topic, key, payload, traceparent, parent_span, compacted)
    SELECT topic, key, payload, traceparent, parent_span, compacted FROM published ORDER BY position";

/// What [`insert`] runs.
pub(crate) async fn prepare_insert(client: &Client) -> Result<Statement, tokio_postgres::Error> {
    client.prepare_cached(INSERT_AND_KEEP).await
}

/// Writes what a transaction published.
pub(crate) async fn insert(
    client: &Client,
    insert: &Statement,
    rows: &[OutboxRow],
) -> Result<(), tokio_postgres::Error> {
    let topics: Vec<&str> = rows.iter().map(|row| row.topic.name()).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|row| &*row.key).collect();
    let payloads: Vec<&[u8]> = rows.iter().map(|row| &*row.payload).collect();
    let traces: Vec<String> = rows.iter().map(|row| row.trace.to_string()).collect();
    let parents: Vec<Option<String>> = rows.iter().map(|row| row.parent.map(|span| span.to_string())).collect();
    let compacted: Vec<bool> = rows.iter().map(|row| row.compacted).collect();
    let days: Vec<Option<NaiveDate>> = rows.iter().map(|row| row.cause.map(|(day, _)| day)).collect();
    let causes: Vec<Option<Uuid>> = rows.iter().map(|row| row.cause.map(|(_, id)| id.uuid())).collect();
    client.execute(insert, &[&topics, &keys, &payloads, &traces, &parents, &compacted, &days, &causes]).await?;
    Ok(())
}

/// Publishes again, byte for byte, what was published because of these events.
pub(crate) async fn publish_kept_answers(
    tx: &Client,
    causes: &[(NaiveDate, EventId)],
) -> Result<u64, tokio_postgres::Error> {
    let days: Vec<NaiveDate> = causes.iter().map(|(day, _)| *day).collect();
    let ids: Vec<Uuid> = causes.iter().map(|(_, id)| id.uuid()).collect();
    let statement = tx
        .prepare_cached(
            "INSERT INTO outbox (topic, key, payload, traceparent, compacted)
             SELECT kept.topic, kept.key, kept.payload, kept.traceparent, kept.compacted
             FROM unnest($1::date[], $2::uuid[]) AS cause (day, id)
             JOIN kept_answers kept ON kept.cause_id = cause.id AND kept.day = cause.day
             ORDER BY kept.cause_id, kept.position",
        )
        .await?;
    tx.execute(&statement, &[&days, &ids]).await
}

/// A record on its way to one of the group's own topics, as it was, with all its headers.
pub(crate) struct Forwarded<'r> {
    /// Without the suite's prefix.
    pub(crate) topic: String,
    pub(crate) key: Option<&'r [u8]>,
    pub(crate) payload: Option<&'r [u8]>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Writes records that are on their way with this transaction, in their order.
pub(crate) async fn insert_forwarded(tx: &Tx<'_>, records: &[Forwarded<'_>]) -> Result<(), tokio_postgres::Error> {
    if records.is_empty() {
        return Ok(());
    }
    let topics: Vec<&str> = records.iter().map(|record| &*record.topic).collect();
    let keys: Vec<Option<&[u8]>> = records.iter().map(|record| record.key).collect();
    let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| record.payload).collect();
    let headers = HeaderColumns::of(records.iter().map(|record| &*record.headers));
    tx.execute(
        "INSERT INTO outbox (topic, key, payload, header_names, header_values)
         SELECT topic, key, payload, ($4::text[])[headers_from:headers_to], ($5::bytea[])[headers_from:headers_to]
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $6::int[], $7::int[])
             WITH ORDINALITY AS forwarded (topic, key, payload, headers_from, headers_to, place)
         ORDER BY place",
        &[&topics, &keys, &payloads, &headers.names, &headers.values, &headers.from, &headers.to],
    )
    .await?;
    tx.after_commit(relay::hint);
    Ok(())
}

pub(crate) fn count_written(rows: &[OutboxRow]) {
    for row in rows {
        counter!("events_written_total", "topic" => row.topic.name()).increment(1);
    }
}
