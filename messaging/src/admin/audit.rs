//! Who did what, when, why, with what result; refusals too. Nothing is ever changed here: the table lets
//! nobody, not even its owner.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use common_events::TraceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_runtime::{
    Caller, Operator, Pool, Problem,
    http::{Cursor, Json, Limit, Page, Query, RequestTrace},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Office,
    selection::{Condition, Text},
};
use crate::tx::Tx;

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = AuditAction)]
pub enum Action {
    /// A replay was asked for.
    Replay,
    /// What a replay would do was asked for.
    DryRun,
    /// A replay came to its end.
    ReplayDone,
    /// A replay halted, by itself or by hand.
    ReplayHalted,
    /// Dead letters were closed for good.
    Discard,
    /// The group was made to fail.
    FaultSet,
    /// The group was made to work again.
    FaultCleared,
    /// A saga was to go on: only the monitor's.
    Resume,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::DryRun => "dry-run",
            Self::ReplayDone => "replay-done",
            Self::ReplayHalted => "replay-halted",
            Self::Discard => "discard",
            Self::FaultSet => "fault-set",
            Self::FaultCleared => "fault-cleared",
            Self::Resume => "resume",
        }
    }
}

/// An action before its end is known.
#[derive(Debug, Clone)]
pub struct Act {
    /// Who acts: a user's id; the service's name for what it does by itself.
    pub who: String,
    /// What he does.
    pub action: Action,
    /// What it is about, as it was asked for.
    pub subject: Value,
    /// Why, in his words.
    pub reason: Option<String>,
    /// The trace of the request.
    pub trace: Option<TraceId>,
}

impl Act {
    /// Written with what was done: there is never one without the other.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn done(&self, tx: &Tx<'_>, detail: Value) -> Result<(), tokio_postgres::Error> {
        self.insert(tx, Outcome::Done, detail).await
    }

    /// Nothing was done, which is written down, too.
    ///
    /// # Errors
    /// When the database doesn't take it.
    pub async fn refused(&self, pool: &Pool, problem: &Problem) -> Result<(), Problem> {
        let body = problem.body();
        let detail = json!({
            "status": body.status, "code": body.code, "detail": storable(&body.detail),
            "field": body.field.as_deref().map(storable),
        });
        let mut client = pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        self.insert(&tx, Outcome::Refused, detail).await?;
        Ok(tx.commit().await?)
    }

    async fn insert(&self, tx: &Tx<'_>, outcome: Outcome, detail: Value) -> Result<(), tokio_postgres::Error> {
        tx.execute(
            "INSERT INTO audit_log (id, at, who, action, subject, reason, result, detail, trace_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &tx.new_id(),
                &tx.now(),
                &self.who,
                &self.action.name(),
                &storable_json(self.subject.clone()),
                &self.reason.as_deref().map(storable),
                &outcome.name(),
                &detail,
                &self.trace.map(|trace| trace.to_string()),
            ],
        )
        .await?;
        Ok(())
    }
}

/// PostgreSQL's text can't hold NUL; what an operator sends can.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn storable_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(storable(&text)),
        Value::Array(items) => items.into_iter().map(storable_json).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (storable(&name), storable_json(value))).collect()
        }
        value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => value,
    }
}

/// A call that changes something, or is refused: either way it is written down.
pub(super) trait Asked: Serialize {
    /// Which action it asks for.
    fn action(&self) -> Action;
    /// Why, in the operator's words.
    fn reason(&self) -> Option<&str>;
}

impl Office {
    /// Does what was asked for if the caller may; writes a refusal down, whoever was refused. What is done
    /// writes itself down, in its own transaction.
    ///
    /// `otherwise` is the action's name when the request can't be read.
    pub(super) async fn audited<A: Asked, T>(
        &self,
        (caller, trace): (Caller, RequestTrace),
        otherwise: Action,
        asked: Result<Json<A>, Problem>,
        does: impl AsyncFnOnce(&Act, A) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let read = asked.as_ref().ok().map(|Json(asked)| asked);
        let act = Act {
            who: caller.user_id.to_string(),
            action: read.map_or(otherwise, Asked::action),
            subject: read.and_then(|asked| serde_json::to_value(asked).ok()).unwrap_or_default(),
            reason: read.and_then(Asked::reason).map(str::to_owned),
            trace: Some(trace.0.trace_id),
        };
        let outcome = match asked {
            _ if !caller.roles.operator => Err(Problem::forbidden()),
            Err(unreadable) => Err(unreadable),
            Ok(Json(asked)) => does(&act, asked).await,
        };
        if let Err(problem) = &outcome
            && (400..500).contains(&problem.body().status)
        {
            act.refused(self.pool(), problem).await?;
        }
        outcome
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only these.
    #[param(inline)]
    action: Option<Action>,
    /// Only what this user did or was refused.
    #[param(inline)]
    who: Option<Text>,
    /// Only what ended so.
    #[param(inline)]
    result: Option<Outcome>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = AuditResult)]
enum Outcome {
    Done,
    Refused,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::Refused => "REFUSED",
        }
    }
}

/// One line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
struct Entry {
    id: Uuid,
    at: DateTime<Utc>,
    /// A user's id; the service's name for what it did by itself.
    who: String,
    #[schema(value_type = Action)]
    action: String,
    /// What it was about, as it was asked for; null when the request could not be read.
    #[schema(value_type = Option<Object>, required = true)]
    subject: Value,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[schema(value_type = Outcome)]
    result: String,
    /// What came of it, or why it was refused.
    #[schema(value_type = Object)]
    detail: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TraceId>)]
    trace_id: Option<String>,
}

/// Who did what about dead letters, when, why, and with what result; the latest first.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<Entry>)),
)]
#[get("/admin/audit")]
pub(super) async fn list_audit(
    _: Operator,
    office: Data<Office>,
    wanted: Query<Wanted>,
) -> Result<Json<Page<Entry>>, Problem> {
    let Wanted { action, who, result, limit, cursor } = wanted.0;
    let mut condition = Condition::default();
    if let Some(action) = action {
        condition.and("action = {}", action.name());
    }
    if let Some(who) = who {
        condition.and("who = {}", String::from(who));
    }
    if let Some(result) = result {
        condition.and("result = {}", result.name());
    }
    if let Some(cursor) = cursor {
        condition.and("id < {}", cursor.position::<Uuid>()?);
    }
    let limited = condition.param(limit.and_one());
    let sql = format!(
        "SELECT id, at, who, action, subject, reason, result, detail, trace_id
         FROM audit_log WHERE {} ORDER BY id DESC LIMIT {limited}",
        condition.sql()
    );
    let client = office.pool().get().await?;
    let rows = client.query(&client.prepare_cached(&sql).await?, &condition.params()).await?;
    let entries = rows.iter().map(|row| Entry {
        id: row.get(0),
        at: row.get(1),
        who: row.get(2),
        action: row.get(3),
        subject: row.get(4),
        reason: row.get(5),
        result: row.get(6),
        detail: row.get(7),
        trace_id: row.get(8),
    });
    Ok(Json(Page::of(entries.collect(), limit, |last: &Entry| last.id)))
}
