//! What is read from the log by people: the steps of a saga, and what happened between two moments.

use chrono::{DateTime, Utc};
use common_events::{EventId, TraceId, ids::in_lower_case};
use deadpool_postgres::Client;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{trace_uuid, uuid_trace};
use crate::{
    domain::{Place, StepStatus},
    events::reading::HopSays,
    store::sagas::Conditions,
};

/// A row of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its place in the log.
    pub id: i64,
    /// The saga it is written down under.
    pub saga: Option<String>,
    /// What was done, in words.
    pub step: String,
    /// What became of it.
    pub status: StepStatus,
    /// Its event's id; of a hop none.
    pub event_id: Option<EventId>,
    /// Its type; of a hop the topic where its event lay first.
    pub event_type: Option<String>,
    /// Who told it, or the group that failed.
    pub service: String,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// What it is ordered by, where that is text.
    pub key: Option<String>,
    /// What was odd about it.
    pub marks: Vec<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was written down.
    pub recorded_at: DateTime<Utc>,
    /// Where it lies.
    pub topic: String,
    /// Where it lies.
    pub place: Place,
    /// Byte for byte, unless it is too large to be shown among others.
    pub payload: Option<Vec<u8>>,
    /// How large it is, when it is too large.
    pub payload_bytes: Option<i32>,
    /// Of a hop: where its event lay first, and what its headers say.
    pub hop: Option<(Place, HopSays)>,
}

/// Of payloads above 64 KiB, which no event of ours has, only the size is read: a page has hundreds of rows.
const COLUMNS: &str = r#"id, saga, step, status, event_id, event_type, service, trace_id, key, marks, occurred_at,
    recorded_at, topic, "partition", "offset", CASE WHEN octet_length(payload) <= 65536 THEN payload END AS payload,
    CASE WHEN octet_length(payload) > 65536 THEN octet_length(payload) END AS payload_bytes, origin_partition,
    origin_offset, hop::text AS hop"#;
/// The same of the rows called `hop`, which have no payload.
const HOP_COLUMNS: &str = r#"hop.id, hop.saga, hop.step, hop.status, hop.event_id, hop.event_type, hop.service,
    hop.trace_id, hop.key, hop.marks, hop.occurred_at, hop.recorded_at, hop.topic, hop."partition", hop."offset",
    NULL, NULL, hop.origin_partition, hop.origin_offset, hop.hop::text AS hop"#;

fn logged(row: &Row) -> Logged {
    let says = row.get::<_, Option<&str>>("hop").and_then(|says| serde_json::from_str(says).ok());
    let origin =
        |says: HopSays| (Place { partition: row.get("origin_partition"), offset: row.get("origin_offset") }, says);
    let key: Option<Vec<u8>> = row.get("key");
    Logged {
        id: row.get("id"),
        saga: row.get("saga"),
        step: row.get("step"),
        status: row.get::<_, &str>("status").parse().unwrap_or(StepStatus::Failed),
        event_id: row.get::<_, Option<Uuid>>("event_id").map(EventId::new),
        event_type: row.get("event_type"),
        service: row.get("service"),
        trace: row.get::<_, Option<Uuid>>("trace_id").and_then(uuid_trace),
        key: key.and_then(|key| String::from_utf8(key).ok()),
        marks: row.get("marks"),
        occurred_at: row.get("occurred_at"),
        recorded_at: row.get("recorded_at"),
        topic: row.get("topic"),
        place: Place { partition: row.get("partition"), offset: row.get("offset") },
        payload: row.get("payload"),
        payload_bytes: row.get("payload_bytes"),
        hop: says.map(origin),
    }
}

/// The rows of a saga, and those of what its events went through in groups that failed, in the order of time.
pub async fn list_steps(client: &Client, saga: &str, at_most: i64) -> Result<Vec<Logged>, Error> {
    let sql = format!(
        r#"SELECT {COLUMNS} FROM saga_state_log WHERE saga = $1
           UNION ALL
           SELECT {HOP_COLUMNS} FROM saga_state_log own
           JOIN saga_state_log hop ON hop.origin_topic = own.topic AND hop.origin_partition = own."partition"
                                  AND hop.origin_offset = own."offset"
           WHERE own.saga = $1
           ORDER BY occurred_at, id LIMIT $2"#
    );
    let rows = client.query(&client.prepare_cached(&sql).await?, &[&saga, &at_most]).await?;
    Ok(rows.iter().map(logged).collect())
}

/// Behind which row a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition(pub DateTime<Utc>, pub i64);

/// Which rows are wanted; what isn't said doesn't matter.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Not before this.
    pub from: Option<DateTime<Utc>>,
    /// Before this.
    pub to: Option<DateTime<Utc>>,
    /// Only of this trace.
    pub trace: Option<TraceId>,
    /// Only with this key.
    pub key: Option<String>,
    /// Only of this type.
    pub event_type: Option<String>,
    /// Behind this one.
    pub behind: Option<LogPosition>,
}

/// What happened, in the order of time.
pub async fn list_events(client: &Client, wanted: &LogFilter, at_most: i64) -> Result<Vec<Logged>, Error> {
    let trace = wanted.trace.map(trace_uuid);
    let key = wanted.key.as_ref().map(String::as_bytes);
    let key_of_ours = wanted.key.as_deref().and_then(in_lower_case).map(String::into_bytes);
    let mut conditions = Conditions::default();
    if let Some(from) = &wanted.from {
        conditions.and("occurred_at >= {}", from);
    }
    if let Some(to) = &wanted.to {
        conditions.and("occurred_at < {}", to);
    }
    if let Some(trace) = &trace {
        conditions.and("trace_id = {}", trace);
    }
    if let Some(key) = &key {
        match &key_of_ours {
            None => conditions.and("key = {}", key),
            Some(ours) => {
                let (given, ours) = (conditions.param(key), conditions.param(ours));
                conditions.and_so(&format!("key IN ({given}, {ours})"));
            }
        }
        // As the index has it.
        conditions.and_so("octet_length(key) <= 512");
    }
    if let Some(event_type) = &wanted.event_type {
        conditions.and("event_type = {}", event_type);
    }
    if let Some(LogPosition(at, id)) = &wanted.behind {
        let (at, id) = (conditions.param(at), conditions.param(id));
        conditions.and_so(&format!("(occurred_at, id) > ({at}, {id})"));
    }
    let limit = conditions.param(&at_most);
    let sql =
        format!("SELECT {COLUMNS} FROM saga_state_log {} ORDER BY occurred_at, id LIMIT {limit}", conditions.sql());
    let rows = client.query(&client.prepare_cached(&sql).await?, conditions.params()).await?;
    Ok(rows.iter().map(logged).collect())
}
