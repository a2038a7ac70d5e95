//! `saga_state_log`: rows are inserted, and read.

mod listing;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use common_events::{EventId, TraceId};
use deadpool_postgres::Client;
use messaging::{Record, Tx};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

pub use listing::{LogFilter, LogPosition, Logged, list_events, list_steps};

use crate::{
    domain::{Mark, Place},
    events::reading::{Entry, Hop, HopSays, Meaning},
};

/// Columns of rows to be inserted, one array each.
#[derive(Default)]
struct Columns<'e> {
    topics: Vec<&'e str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    keys: Vec<Option<&'e [u8]>>,
    traces: Vec<Option<Uuid>>,
    sagas: Vec<Option<String>>,
    steps: Vec<&'e str>,
    statuses: Vec<&'static str>,
    event_ids: Vec<Option<Uuid>>,
    event_types: Vec<Option<&'e str>>,
    services: Vec<&'static str>,
    /// Joined by commas, as arrays of arrays must be of one length.
    marks: Vec<String>,
    occurred: Vec<DateTime<Utc>>,
    written: Vec<DateTime<Utc>>,
    payloads: Vec<Option<&'e [u8]>>,
    origin_topics: Vec<Option<&'e str>>,
    origin_partitions: Vec<Option<i32>>,
    origin_offsets: Vec<Option<i64>>,
    hops: Vec<Option<String>>,
}

impl<'e> Columns<'e> {
    fn push(&mut self, entry: &'e Entry) {
        let hop = match &entry.meaning {
            Meaning::Hop(hop) => Some(hop),
            Meaning::Step { .. } | Meaning::Strange { .. } | Meaning::NoSaga => None,
        };
        self.topics.push(&entry.topic);
        self.partitions.push(entry.place.partition);
        self.offsets.push(entry.place.offset);
        self.keys.push(entry.key.as_deref());
        self.traces.push(entry.trace.map(trace_uuid));
        self.sagas.push(entry.saga().map(ToString::to_string));
        self.steps.push(&entry.step);
        self.statuses.push(entry.status.as_str());
        self.event_ids.push(entry.event_id.map(EventId::uuid));
        self.event_types.push(entry.event_type.as_deref());
        self.services.push(entry.service.name());
        self.marks.push(entry.marks.iter().map(|mark| mark.as_str()).collect::<Vec<_>>().join(","));
        self.occurred.push(entry.occurred_at);
        self.written.push(entry.written_at);
        self.payloads.push(entry.payload.as_deref());
        self.origin_topics.push(hop.map(|hop| &*hop.origin_topic));
        self.origin_partitions.push(hop.map(|hop| hop.origin.partition));
        self.origin_offsets.push(hop.map(|hop| hop.origin.offset));
        let says = |hop: &Hop| serde_json::to_string(&hop.says).expect("texts, numbers and times");
        self.hops.push(hop.map(says));
    }
}

const INSERT: &str = r#"
    INSERT INTO saga_state_log (
        topic, "partition", "offset", key, trace_id, saga, step, status, event_id, event_type, service, marks,
        occurred_at, written_at, recorded_at, payload, origin_topic, origin_partition, origin_offset, hop)
    SELECT topic, place, at, key, trace_id, saga, step, status, event_id, event_type, service,
           string_to_array(marks, ','), occurred_at, written_at, $20, payload, origin_topic, origin_partition,
           origin_offset, hop::jsonb
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                $9::uuid[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[],
                $15::bytea[], $16::text[], $17::int[], $18::bigint[], $19::text[])
         AS entry (topic, place, at, key, trace_id, saga, step, status, event_id, event_type, service, marks,
                   occurred_at, written_at, payload, origin_topic, origin_partition, origin_offset, hop)
    ON CONFLICT (topic, "partition", "offset") DO NOTHING
    RETURNING topic, "partition", "offset""#;

/// Writes down what wasn't before; returns where those lie.
pub async fn insert_entries(
    tx: &Tx<'_>,
    entries: &[Entry],
    now: DateTime<Utc>,
) -> Result<HashSet<(String, Place)>, Error> {
    let mut columns = Columns::default();
    for entry in entries {
        columns.push(entry);
    }
    let params: [&(dyn ToSql + Sync); 20] = [
        &columns.topics,
        &columns.partitions,
        &columns.offsets,
        &columns.keys,
        &columns.traces,
        &columns.sagas,
        &columns.steps,
        &columns.statuses,
        &columns.event_ids,
        &columns.event_types,
        &columns.services,
        &columns.marks,
        &columns.occurred,
        &columns.written,
        &columns.payloads,
        &columns.origin_topics,
        &columns.origin_partitions,
        &columns.origin_offsets,
        &columns.hops,
        &now,
    ];
    let rows = tx.query(INSERT, &params).await?;
    Ok(rows.iter().map(|row| (row.get(0), Place { partition: row.get(1), offset: row.get(2) })).collect())
}

/// A trace id as the database keeps it: both are 16 bytes.
pub(crate) fn trace_uuid(trace: TraceId) -> Uuid {
    Uuid::from_bytes(trace.bytes())
}

/// And back. `None` is no trace's, and isn't stored.
pub(crate) fn uuid_trace(uuid: Uuid) -> Option<TraceId> {
    TraceId::new(uuid.into_bytes())
}

/// What a rebuild reads, in the order of the log: records as they lay on their topics, and hops.
pub enum Past {
    /// To be read again.
    Record {
        /// As far as it is kept; headers aren't.
        record: Record,
        /// When it was written down: what bounded its times.
        recorded_at: DateTime<Utc>,
    },
    /// As it was read.
    Hop {
        /// What it was.
        hop: Hop,
        /// When it happened.
        at: DateTime<Utc>,
    },
}

/// Rows of the log behind `after`, at most so many, with the last one's id.
pub async fn list_past(tx: &Tx<'_>, after: i64, at_most: i64) -> Result<Vec<(i64, Past)>, Error> {
    let rows = tx
        .query(
            r#"SELECT id, topic, "partition", "offset", key, payload, written_at, recorded_at, occurred_at, service,
                      origin_topic, origin_partition, origin_offset, hop::text
               FROM saga_state_log WHERE id > $1 ORDER BY id LIMIT $2"#,
            &[&after, &at_most],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), past(row))).collect())
}

/// Records that were of a newer version when they were heard, and of which their sagas still lack it: not rebuilt since;
/// at most so many. With when each was written down.
pub async fn list_newer(client: &Client, at_most: i64) -> Result<Vec<(Record, DateTime<Utc>)>, Error> {
    let mark = Mark::UnknownVersion.as_str();
    let rows = client
        .query(
            r#"SELECT topic, "partition", "offset", key, payload, written_at, recorded_at FROM saga_state_log
               WHERE saga IN (SELECT saga FROM sagas WHERE $1 = ANY(marks)) AND $1 = ANY(marks) LIMIT $2"#,
            &[&mark, &at_most],
        )
        .await?;
    Ok(rows.iter().map(|row| (record(row), row.get("recorded_at"))).collect())
}

fn record(row: &Row) -> Record {
    Record {
        topic: row.get("topic"),
        partition: row.get("partition"),
        offset: row.get("offset"),
        timestamp: Some(row.get("written_at")),
        key: row.get("key"),
        value: row.get("payload"),
        headers: Vec::new(),
    }
}

fn past(row: &Row) -> Past {
    let hop = || {
        let says: HopSays = serde_json::from_str(row.get::<_, Option<&str>>("hop")?).ok()?;
        let origin = Place { partition: row.get("origin_partition"), offset: row.get("origin_offset") };
        let group = row.get::<_, &str>("service").parse().ok()?;
        Some(Hop { group, origin_topic: row.get("origin_topic"), origin, says })
    };
    match hop() {
        Some(hop) => Past::Hop { hop, at: row.get("occurred_at") },
        None => Past::Record { record: record(row), recorded_at: row.get("recorded_at") },
    }
}

/// An event at one of its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lying {
    /// Its topic, without the suite's prefix.
    pub topic: String,
    /// Where it lies there.
    pub place: Place,
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Byte for byte.
    pub payload: Option<Vec<u8>>,
    /// The saga it belongs to.
    pub saga: Option<String>,
}

/// Where these events lie: each at every place, in the order in which those were heard of.
pub async fn list_lying(client: &Client, ids: &[EventId]) -> Result<Vec<Lying>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let statement = client
        .prepare_cached(
            r#"SELECT event_id, topic, "partition", "offset", key, payload, saga
               FROM saga_state_log WHERE event_id = ANY($1) ORDER BY id"#,
        )
        .await?;
    let rows = client.query(&statement, &[&ids]).await?;
    let lying = |row: &Row| Lying {
        id: EventId::new(row.get("event_id")),
        topic: row.get("topic"),
        place: Place { partition: row.get("partition"), offset: row.get("offset") },
        key: row.get("key"),
        payload: row.get("payload"),
        saga: row.get("saga"),
    };
    Ok(rows.iter().map(lying).collect())
}
