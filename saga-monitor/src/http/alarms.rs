//! `GET /api/alarms` and `POST /api/alarms/{id}/ack`.

use actix_web::{
    get, post,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use service_runtime::{
    Operator, Problem,
    http::{Cursor, Id, Json, Limit, Page, Query},
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::Desk;
use crate::{
    alarm::{Alarm, AlarmKind, AlarmState},
    store::alarms,
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<AlarmState>,
    /// Only of this kind.
    #[param(inline)]
    kind: Option<AlarmKind>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Alarms, the newest first.
#[utoipa::path(
    tag = "alarms",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<Alarm>)),
)]
#[get("/api/alarms")]
pub(super) async fn list_alarms(
    _: Operator,
    Query(wanted): Query<Wanted>,
    desk: Data<Desk>,
) -> Result<Json<Page<Alarm>>, Problem> {
    let behind: Option<(DateTime<Utc>, Uuid)> = wanted.cursor.map(|cursor| cursor.position()).transpose()?;
    let client = desk.pool.get().await?;
    let found = alarms::list_alarms(&client, wanted.state, wanted.kind, behind, wanted.limit.and_one()).await?;
    Ok(Json(Page::of(found, wanted.limit, |last| (last.opened_at, last.id))))
}

/// Takes an alarm on. It closes by itself when its cause is over.
#[utoipa::path(
    tag = "alarms",
    security(("identity" = ["operator"])),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Alarm)),
)]
#[post("/api/alarms/{id}/ack")]
pub(super) async fn acknowledge_alarm(
    Operator(caller): Operator,
    id: Path<Id>,
    desk: Data<Desk>,
) -> Result<Json<Alarm>, Problem> {
    let client = desk.pool.get().await?;
    let alarm = alarms::update_acknowledged(&client, id.0, caller.user_id.as_str()).await?;
    alarm.map(Json).ok_or_else(|| Problem::not_found("alarm"))
}
