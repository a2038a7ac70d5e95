//! `GET /admin/producer-dead-letters`: what was diverted while Kafka was away, and where it is now.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use common_events::{EventId, TraceId, TraceParent};
use serde::{Deserialize, Serialize};
use service_runtime::{
    Operator, Pool, Problem,
    http::{Cursor, Json, Limit, Page, Query},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::store;

/// The call that every service has, on the `Data<Pool>` of its app. Only coupon-service ever diverts.
pub fn routes(config: &mut ServiceConfig) {
    config.service(list_producer_dead_letters);
}

/// How far a dead letter is on its way to its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = ProducerDeadLetterState)]
pub(super) enum State {
    /// It waits for Kafka.
    Held,
    /// It is in the outbox, whose relay sends it.
    Republishing,
    /// It is on its topic.
    Republished,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Republishing => "REPUBLISHING",
            Self::Republished => "REPUBLISHED",
        }
    }
}

/// An event that Kafka didn't take when it was published.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProducerDeadLetter {
    /// In the order in which they were diverted, which is the order in which they are republished.
    pub(super) id: i64,
    pub(super) event_id: EventId,
    /// Where it belongs.
    pub(super) topic: String,
    /// What it is ordered by.
    pub(super) key: String,
    #[schema(value_type = State)]
    pub(super) state: String,
    /// Why Kafka didn't take it.
    pub(super) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TraceId>)]
    pub(super) trace_id: Option<String>,
    pub(super) diverted_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) republished_at: Option<DateTime<Utc>>,
}

impl ProducerDeadLetter {
    pub(super) fn of(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let trace: Option<TraceParent> = row.try_get::<_, &str>("traceparent")?.parse().ok();
        Ok(Self {
            id: row.try_get("id")?,
            event_id: EventId::new(row.try_get("event_id")?),
            topic: row.try_get("topic")?,
            key: String::from_utf8_lossy(row.try_get("key")?).into_owned(),
            state: row.try_get("state")?,
            error: row.try_get("error")?,
            trace_id: trace.map(|trace| trace.trace_id.to_string()),
            diverted_at: row.try_get("diverted_at")?,
            republished_at: row.try_get("republished_at")?,
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only those that are this far.
    #[param(inline)]
    state: Option<State>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// What was diverted while Kafka was away, in the order in which it is republished.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<ProducerDeadLetter>)),
)]
#[get("/admin/producer-dead-letters")]
async fn list_producer_dead_letters(
    _: Operator,
    Query(wanted): Query<Wanted>,
    pool: Data<Pool>,
) -> Result<Json<Page<ProducerDeadLetter>>, Problem> {
    let after: Option<i64> = wanted.cursor.map(|cursor| cursor.position()).transpose()?;
    let client = pool.get().await?;
    let letters = store::list(&client, wanted.state, after, wanted.limit.and_one()).await?;
    Ok(Json(Page::of(letters, wanted.limit, |letter| letter.id)))
}
