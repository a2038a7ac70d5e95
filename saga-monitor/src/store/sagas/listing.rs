//! Lists of sagas, and one of them whole.

use chrono::{DateTime, Utc};
use common_events::TraceId;
use deadpool_postgres::Client;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use crate::{
    alarm::CauseClass,
    domain::State,
    flows::Flow,
    store::log::{trace_uuid, uuid_trace},
};

/// A saga as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Type and key in one.
    pub saga: String,
    /// Its type, `order` or `coupon-issue`.
    pub flow: Flow,
    /// Its key.
    pub key: String,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// Where it stands.
    pub state: State,
    /// Whether it hasn't moved for too long.
    pub stuck: bool,
    /// What doesn't match.
    pub mismatches: Vec<String>,
    /// What was odd about its records.
    pub marks: Vec<String>,
    /// The event it waits for, and from whom.
    pub waiting_for: Option<(String, String)>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it moved last.
    pub progress_at: DateTime<Utc>,
    /// What holds it up, while it is stuck.
    pub cause: Option<CauseClass>,
}

const COLUMNS: &str = "saga, type, key, trace_id, state, stuck, mismatches, marks, waiting_event, waiting_from,
    started_at, progress_at, cause_class";

/// A word of the database that isn't ours any more is a fault of the migrations: it is told as the driver tells
/// a column of the wrong type.
fn word<T: std::str::FromStr>(row: &Row, column: &str, otherwise: T) -> Result<T, Error> {
    Ok(row.try_get::<_, &str>(column)?.parse().unwrap_or(otherwise))
}

fn listed(row: &Row) -> Result<Listed, Error> {
    let event: Option<String> = row.try_get("waiting_event")?;
    let from: Option<String> = row.try_get("waiting_from")?;
    Ok(Listed {
        saga: row.try_get("saga")?,
        flow: word(row, "type", Flow::Order)?,
        key: row.try_get("key")?,
        trace: row.try_get::<_, Option<Uuid>>("trace_id")?.and_then(uuid_trace),
        state: word(row, "state", State::Failed)?,
        stuck: row.try_get("stuck")?,
        mismatches: row.try_get("mismatches")?,
        marks: row.try_get("marks")?,
        waiting_for: event.zip(from),
        started_at: row.try_get("started_at")?,
        progress_at: row.try_get("progress_at")?,
        cause: row.try_get::<_, Option<&str>>("cause_class")?.and_then(|class| class.parse().ok()),
    })
}

/// Behind which saga a page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaPosition(pub DateTime<Utc>, pub String);

/// Which sagas are wanted; what isn't said doesn't matter.
#[derive(Debug, Clone, Default)]
pub struct SagaFilter {
    /// Only those that stand so.
    pub state: Option<State>,
    /// Only of this type.
    pub flow: Option<Flow>,
    /// Only those that are stuck, or only those that aren't.
    pub stuck: Option<bool>,
    /// Only those that don't match, or only those that do.
    pub mismatched: Option<bool>,
    /// Only those that moved last before this.
    pub moved_before: Option<DateTime<Utc>>,
    /// Behind this one.
    pub behind: Option<SagaPosition>,
}

/// Conditions of a query, with their parameters.
#[derive(Default)]
pub(crate) struct Conditions<'p> {
    sql: String,
    params: Vec<&'p (dyn ToSql + Sync)>,
}

impl<'p> Conditions<'p> {
    /// Every `{}` of the condition is this parameter.
    pub(crate) fn and(&mut self, condition: &str, param: &'p (dyn ToSql + Sync)) {
        self.params.push(param);
        self.and_so(&condition.replace("{}", &format!("${}", self.params.len())));
    }

    pub(crate) fn and_so(&mut self, condition: &str) {
        self.sql.push_str(if self.sql.is_empty() { "WHERE " } else { " AND " });
        self.sql.push_str(condition);
    }

    pub(crate) fn param(&mut self, param: &'p (dyn ToSql + Sync)) -> String {
        self.params.push(param);
        format!("${}", self.params.len())
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    pub(crate) fn params(&self) -> &[&'p (dyn ToSql + Sync)] {
        &self.params
    }
}

/// Sagas, the newest first. The query has only the conditions that are asked for, so that each set of them
/// finds its index.
pub async fn list_sagas(client: &Client, wanted: &SagaFilter, at_most: i64) -> Result<Vec<Listed>, Error> {
    let (state, flow) = (wanted.state.map(State::as_str), wanted.flow.map(Flow::name));
    let mut conditions = Conditions::default();
    if let Some(state) = &state {
        conditions.and("state = {}", state);
    }
    if let Some(flow) = &flow {
        conditions.and("type = {}", flow);
    }
    match wanted.stuck {
        Some(true) => conditions.and_so("stuck"),
        Some(false) => conditions.and_so("NOT stuck"),
        None => {}
    }
    match wanted.mismatched {
        Some(true) => conditions.and_so("mismatches <> '{}'"),
        Some(false) => conditions.and_so("mismatches = '{}'"),
        None => {}
    }
    if let Some(before) = &wanted.moved_before {
        // Who moved last before then began before then: that is what the index knows.
        conditions.and("progress_at < {} AND started_at < {}", before);
    }
    let behind = wanted.behind.as_ref();
    if let Some(SagaPosition(started_at, saga)) = behind {
        let started_at = conditions.param(started_at);
        let saga = conditions.param(saga);
        conditions.and_so(&format!("(started_at, saga) < ({started_at}, {saga})"));
    }
    let limit = conditions.param(&at_most);
    let sql =
        format!("SELECT {COLUMNS} FROM sagas {} ORDER BY started_at DESC, saga DESC LIMIT {limit}", conditions.sql());
    let rows = client.query(&client.prepare_cached(&sql).await?, conditions.params()).await?;
    rows.iter().map(listed).collect()
}

/// A saga with what follows from its facts.
#[derive(Debug, Clone)]
pub struct Whole {
    /// As lists show it.
    pub listed: Listed,
    /// What is kept of it, to be read by [`crate::domain::Saga::from_json`].
    pub facts: String,
}

/// How many sagas of one trace are looked at.
const MAX_OF_A_TRACE: i64 = 200;

/// The sagas that are known by this: their key, their id here, or their trace. All of these are written in lower
/// case, and asked for in either.
pub async fn find_sagas(client: &Client, known_by: &str) -> Result<Vec<Whole>, Error> {
    let known_by = known_by.to_ascii_lowercase();
    let by_key = format!("SELECT {COLUMNS}, facts FROM sagas WHERE key = $1 OR saga = $1 ORDER BY saga LIMIT $2");
    let rows = client.query(&client.prepare_cached(&by_key).await?, &[&known_by, &MAX_OF_A_TRACE]).await?;
    if let (true, Ok(trace)) = (rows.is_empty(), known_by.parse::<TraceId>()) {
        return find_by_trace(client, trace).await;
    }
    rows.iter().map(whole).collect()
}

/// Also those that only some events of the trace belong to.
async fn find_by_trace(client: &Client, trace: TraceId) -> Result<Vec<Whole>, Error> {
    let by_trace = format!(
        "SELECT {COLUMNS}, facts FROM sagas WHERE saga IN (
             SELECT saga FROM sagas WHERE trace_id = $1
             UNION SELECT saga FROM saga_state_log WHERE trace_id = $1 AND saga IS NOT NULL)
         ORDER BY started_at, saga LIMIT $2"
    );
    let statement = client.prepare_cached(&by_trace).await?;
    let rows = client.query(&statement, &[&trace_uuid(trace), &MAX_OF_A_TRACE]).await?;
    rows.iter().map(whole).collect()
}

fn whole(row: &Row) -> Result<Whole, Error> {
    Ok(Whole { listed: listed(row)?, facts: row.try_get("facts")? })
}
