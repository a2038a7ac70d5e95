//! `GET /api/alarms` and `POST /api/alarms/{id}/ack`.

use actix_web::{
    get, post,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use service_runtime::{
    Operator, Problem,
    http::{Cursor, Json, Limit, Page, Query},
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
    state: Option<AlarmState>,
    /// Only of this kind.
    kind: Option<AlarmKind>,
    /// 1 to 200, 50 when nothing is said.
    #[serde(default)]
    #[param(value_type = Option<u16>)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Alarms, the newest first.
#[utoipa::path(
    tag = "alarms",
    params(Wanted),
    responses(
        (status = 200, body = Page<Alarm>),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    )
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
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = Alarm),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    )
)]
#[post("/api/alarms/{id}/ack")]
pub(super) async fn acknowledge_alarm(
    Operator(caller): Operator,
    id: Path<Uuid>,
    desk: Data<Desk>,
) -> Result<Json<Alarm>, Problem> {
    let client = desk.pool.get().await?;
    let alarm = alarms::update_acknowledged(&client, *id, caller.user_id.as_str()).await?;
    alarm.map(Json).ok_or_else(|| Problem::not_found("alarm"))
}
