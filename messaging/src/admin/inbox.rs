//! Where an event stands in this group.

use actix_web::{
    get,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use common_events::EventId;
use serde::Serialize;
use service_runtime::{Operator, Problem, http::Json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Office;
use crate::inbox::State;

/// Where an event stands in this group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventPlace {
    /// The consumer group: this service.
    group: &'static str,
    event_id: Uuid,
    /// An event of a topic that is kept for ever is remembered only until it is applied, and unread then.
    #[schema(value_type = State)]
    state: String,
    /// `retrying` only: `retry-1`, `retry-2`, `retry-3` or `replay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// `retrying` and `parked` only: when it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime<Utc>>,
    /// `waiting` only: the event of its key that failed; none while its followers are let go.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<Uuid>,
    /// `parked`, `dead` and `discarded` only: the dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_id: Option<Uuid>,
}

/// What could not be read has no row in the inbox: it is known as a dead letter only.
const FIND: &str = "
    SELECT coalesce(inbox.state, CASE letter.state
               WHEN 'DEAD' THEN 'dead' WHEN 'PARKED' THEN 'parked' WHEN 'DISCARDED' THEN 'discarded'
               WHEN 'REPLAYED' THEN 'retrying' END, 'unread'),
           inbox.tier, coalesce(inbox.due_at, letter.due_at), key.head_id, letter.id
    FROM (SELECT $1::uuid AS id) AS asked
    LEFT JOIN LATERAL (SELECT day, state, tier, due_at FROM inbox WHERE event_id = asked.id LIMIT 1) AS inbox ON true
    LEFT JOIN LATERAL (
        SELECT id, state, due_at FROM dead_letters
        WHERE event_id = asked.id AND (closed_at IS NULL OR state = 'DISCARDED') ORDER BY id DESC LIMIT 1
    ) AS letter ON inbox.state IS NULL OR inbox.state IN ('dead', 'parked', 'discarded')
    LEFT JOIN waiting_events waiting ON inbox.state = 'waiting' AND waiting.event_id = asked.id
        AND waiting.day = inbox.day
    LEFT JOIN waiting_keys key ON key.topic = waiting.topic AND key.key = waiting.key";

/// Where an event stands in this group. One that nobody here has seen is unread.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(("eventId" = inline(EventId), Path)),
    responses((status = 200, body = EventPlace)),
)]
#[get("/admin/inbox/{eventId}")]
pub(super) async fn find_in_inbox(
    _: Operator,
    office: Data<Office>,
    event_id: Path<EventId>,
) -> Result<Json<EventPlace>, Problem> {
    let client = office.pool().get().await?;
    let row = client.query_one(&client.prepare_cached(FIND).await?, &[&event_id.uuid()]).await?;
    Ok(Json(EventPlace {
        group: office.group().subscriptions().group().name(),
        event_id: event_id.uuid(),
        state: row.get(0),
        tier: row.get(1),
        due_at: row.get(2),
        behind: row.get(3),
        dead_letter_id: row.get(4),
    }))
}
