//! `GET /api/events`: what happened between two points in time.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use common_events::{
    TraceId,
    time::{YEARS, is_writable},
};
use serde::Deserialize;
use service_runtime::{
    Operator, Problem,
    http::{Cursor, Json, Limit, Page, Query},
};
use utoipa::IntoParams;

use super::{Desk, view::StepView};
use crate::store::log::{self, LogFilter, LogPosition};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Not before this.
    from: Option<DateTime<Utc>>,
    /// Before this.
    to: Option<DateTime<Utc>>,
    /// Only of this trace.
    #[param(inline)]
    trace_id: Option<TraceId>,
    /// Only with this key: an order's, product's, user's or coupon's id.
    #[param(pattern = r"^[^\u0000]*$")]
    key: Option<String>,
    /// Only of this type.
    #[serde(rename = "type")]
    #[param(pattern = r"^[^\u0000]*$")]
    event_type: Option<String>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// What happened, in the order of time: events, retries, dead letters.
#[utoipa::path(
    tag = "events",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<StepView>)),
)]
#[get("/api/events")]
pub(super) async fn list_events(
    _: Operator,
    Query(wanted): Query<Wanted>,
    desk: Data<Desk>,
) -> Result<Json<Page<StepView>>, Problem> {
    for (name, text) in [("key", &wanted.key), ("type", &wanted.event_type)] {
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(Problem::bad_request("invalid-query", "A text without NUL characters.").of_field(name));
        }
    }
    for (name, time) in [("from", &wanted.from), ("to", &wanted.to)] {
        if time.as_ref().is_some_and(|time| !is_writable(time)) {
            return Err(Problem::bad_request(
                "invalid-query",
                format!("A time in the years {:04} to {} is expected.", YEARS.start(), YEARS.end()),
            )
            .of_field(name));
        }
    }
    if wanted.from.zip(wanted.to).is_some_and(|(from, to)| from > to) {
        return Err(Problem::bad_request("invalid-query", "`to` is before `from`.").of_field("to"));
    }
    let filter = LogFilter {
        from: wanted.from,
        to: wanted.to,
        trace: wanted.trace_id,
        key: wanted.key,
        event_type: wanted.event_type,
        behind: wanted.cursor.map(|cursor| cursor.position()).transpose()?,
    };
    let client = desk.pool.get().await?;
    let found = log::list_events(&client, &filter, wanted.limit.and_one()).await?;
    let page = Page::of(found, wanted.limit, |last| LogPosition(last.occurred_at, last.id));
    Ok(Json(Page { items: page.items.into_iter().map(StepView::from).collect(), next_cursor: page.next_cursor }))
}
