//! Looking at dead letters: a list, one with everything, counts by cause.

use actix_web::{
    get,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use common_events::{EventId, TraceId};
use serde::{Deserialize, Serialize};
use service_runtime::{
    Operator, Problem,
    http::{Cursor, Id, Json, Limit, Page, Query},
};
use tokio_postgres::Row;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Office,
    selection::{Filter, Text},
    shown::{Encoding, shown},
};
use crate::dead_letters::State;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<State>,
    /// Such as `unprocessable`, `undecodable`, `panic`, or what a handler calls it.
    #[param(inline)]
    error_class: Option<Text>,
    /// Where it lay first, without prefix.
    #[param(inline)]
    topic: Option<Text>,
    /// The record's key, where it is text.
    #[param(inline)]
    key: Option<Text>,
    /// Only of this trace.
    #[param(inline)]
    trace_id: Option<TraceId>,
    /// Only of this event.
    #[param(inline)]
    event_id: Option<EventId>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// A record that this group could not handle.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeadLetter {
    id: Uuid,
    #[schema(value_type = State)]
    state: String,
    /// Where it lay first, without prefix.
    topic: String,
    partition: i32,
    offset: i64,
    /// The record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<Encoding>,
    /// None when none could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TraceId>)]
    trace_id: Option<String>,
    error_class: String,
    error_message: String,
    /// How often it was tried.
    attempts: i32,
    first_failed_at: DateTime<Utc>,
    last_failed_at: DateTime<Utc>,
    /// `PARKED` only: when it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime<Utc>>,
    /// Since when it is applied after a replay, or discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<DateTime<Utc>>,
    /// The replay that sent it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_id: Option<Uuid>,
    /// Since when its payload is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    purged_at: Option<DateTime<Utc>>,
    /// In bytes; none for a record without a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_bytes: Option<i32>,
}

const COLUMNS: &str = "id, state, origin_topic, origin_partition, origin_offset, key, event_id, event_type, trace_id,
    error_class, error_message, attempts, first_failed_at, last_failed_at, due_at, closed_at, replay_id, purged_at,
    octet_length(payload)";
const COLUMNS_READ: usize = 19;

impl DeadLetter {
    /// Of [`COLUMNS`].
    fn read(row: &Row) -> Self {
        let key: Option<Vec<u8>> = row.get(5);
        let (key, key_encoding) = key.map(shown).unzip();
        Self {
            id: row.get(0),
            state: row.get(1),
            topic: row.get(2),
            partition: row.get(3),
            offset: row.get(4),
            key,
            key_encoding,
            event_id: row.get(6),
            event_type: row.get(7),
            trace_id: row.get(8),
            error_class: row.get(9),
            error_message: row.get(10),
            attempts: row.get(11),
            first_failed_at: row.get(12),
            last_failed_at: row.get(13),
            due_at: row.get(14),
            closed_at: row.get(15),
            replay_id: row.get(16),
            purged_at: row.get(17),
            payload_bytes: row.get(18),
        }
    }
}

/// A header of a record.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterHeader)]
struct Header {
    name: String,
    value: String,
    encoding: Encoding,
}

/// A dead letter with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WholeLetter {
    #[serde(flatten)]
    letter: DeadLetter,
    /// The record's value, byte for byte; none when it had none, or when it was purged.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_encoding: Option<Encoding>,
    /// As the record had them when it came, in their order.
    headers: Vec<Header>,
    /// When it was written where it lay first.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_timestamp: Option<DateTime<Utc>>,
    /// Its saga's trace in Zipkin.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

/// The dead letters of this service, the latest first.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<DeadLetter>)),
)]
#[get("/admin/dead-letters")]
pub(super) async fn list_dead_letters(
    _: Operator,
    office: Data<Office>,
    wanted: Query<Wanted>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let Wanted { state, error_class, topic, key, trace_id, event_id, limit, cursor } = wanted.0;
    let mut condition = Filter { state, error_class, topic, key, trace_id, event_id }.condition();
    if let Some(cursor) = cursor {
        condition.and("id < {}", cursor.position::<Uuid>()?);
    }
    let limited = condition.param(limit.and_one());
    let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE {} ORDER BY id DESC LIMIT {limited}", condition.sql());
    let client = office.pool().get().await?;
    let rows = client.query(&client.prepare_cached(&sql).await?, &condition.params()).await?;
    let letters = rows.iter().map(DeadLetter::read).collect();
    Ok(Json(Page::of(letters, limit, |last: &DeadLetter| last.id)))
}

/// One dead letter with payload, headers, and a link to its trace.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = WholeLetter)),
)]
#[get("/admin/dead-letters/{id}")]
pub(super) async fn find_dead_letter(
    _: Operator,
    office: Data<Office>,
    id: Path<Id>,
) -> Result<Json<WholeLetter>, Problem> {
    let client = office.pool().get().await?;
    let sql = format!(
        "SELECT {COLUMNS}, payload, header_names, header_values, origin_timestamp FROM dead_letters WHERE id = $1"
    );
    let row = client.query_opt(&client.prepare_cached(&sql).await?, &[&id.0]).await?;
    let row = row.ok_or_else(|| Problem::not_found("dead letter"))?;
    let letter = DeadLetter::read(&row);
    let payload: Option<Vec<u8>> = row.get(COLUMNS_READ);
    let (payload, payload_encoding) = payload.map(shown).unzip();
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(COLUMNS_READ + 1), row.get(COLUMNS_READ + 2));
    let header = |(name, value)| {
        let (value, encoding) = shown(value);
        Header { name, value, encoding }
    };
    Ok(Json(WholeLetter {
        payload,
        payload_encoding,
        headers: names.into_iter().zip(values).map(header).collect(),
        origin_timestamp: row.get(COLUMNS_READ + 3),
        trace_url: letter.trace_id.as_deref().map(|trace_id| office.trace_url(trace_id)),
        letter,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WantedGroups {
    /// Default: those that are open, `DEAD` and `PARKED`.
    #[param(inline)]
    state: Option<State>,
}

/// Dead letters of one cause.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroup)]
struct Group {
    error_class: String,
    /// Where they lay first, without prefix.
    topic: String,
    count: i64,
    /// When the first of them failed for the first time.
    first_failed_at: DateTime<Utc>,
    /// When the last of them failed.
    last_failed_at: DateTime<Utc>,
}

/// All causes: there are few.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterGroups)]
struct Groups {
    items: Vec<Group>,
}

/// How many dead letters there are of which cause, by error class and topic; the most first.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(WantedGroups),
    responses((status = 200, body = Groups)),
)]
#[get("/admin/dead-letters/groups")]
pub(super) async fn group_dead_letters(
    _: Operator,
    office: Data<Office>,
    wanted: Query<WantedGroups>,
) -> Result<Json<Groups>, Problem> {
    let open = State::OPEN.to_vec();
    let states: Vec<&str> = wanted.0.state.map_or(open, |state| vec![state]).into_iter().map(State::name).collect();
    let client = office.pool().get().await?;
    let statement = client
        .prepare_cached(
            "SELECT error_class, origin_topic, count(*), min(first_failed_at), max(last_failed_at)
             FROM dead_letters WHERE state = ANY($1)
             GROUP BY error_class, origin_topic ORDER BY count(*) DESC, error_class, origin_topic",
        )
        .await?;
    let rows = client.query(&statement, &[&states]).await?;
    let group = |row: &Row| Group {
        error_class: row.get(0),
        topic: row.get(1),
        count: row.get(2),
        first_failed_at: row.get(3),
        last_failed_at: row.get(4),
    };
    Ok(Json(Groups { items: rows.iter().map(group).collect() }))
}
