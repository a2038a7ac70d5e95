//! `GET /points/history`: what happened to the caller's balance.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use common_events::{CancelReason, OrderId, TraceId, Won};
use serde::{Deserialize, Serialize};
use service_runtime::{
    Caller, Pool, Problem,
    http::{Cursor, Json, Limit, Page, Query},
};
use utoipa::{IntoParams, ToSchema};

use super::check_time;
use crate::{
    domain::EntryKind,
    store::{self, Posting},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The first moment of interest.
    from: Option<DateTime<Utc>>,
    /// The moment after the last of interest.
    to: Option<DateTime<Utc>>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// An entry of the ledger.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Entry)]
struct EntryView {
    #[serde(rename = "type")]
    kind: EntryType,
    /// What it added to the balance, in won; negative for `DEDUCTED`.
    delta: i64,
    /// The balance after it.
    balance: Won,
    /// The order that was paid or refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    /// Why points went back.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    trace_id: TraceId,
    /// To the microsecond; no two entries of a user have the same.
    at: DateTime<Utc>,
}

impl From<Posting> for EntryView {
    fn from(Posting { entry, trace_id }: Posting) -> Self {
        Self {
            kind: entry.kind.into(),
            delta: entry.delta(),
            balance: entry.balance,
            order_id: entry.kind.order_id(),
            reason: entry.kind.reason(),
            trace_id,
            at: entry.at,
        }
    }
}

/// What moved the points.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum EntryType {
    Charged,
    Deducted,
    Refunded,
}

impl From<EntryKind> for EntryType {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Charged => Self::Charged,
            EntryKind::Deducted { .. } => Self::Deducted,
            EntryKind::Refunded { .. } => Self::Refunded,
        }
    }
}

/// The caller's ledger, latest first.
#[utoipa::path(
    tag = "points",
    security(("identity" = [])),
    params(Wanted),
    responses(
        (status = 200, body = Page<EntryView>),
        (status = 422, description = "`invalid-field`: `from` is later than `to`, or one of them lies beyond the years \
            0000 to 9999"),
    ),
)]
#[get("/points/history")]
pub(super) async fn list_history(
    caller: Caller,
    Query(wanted): Query<Wanted>,
    pool: Data<Pool>,
) -> Result<Json<Page<EntryView>>, Problem> {
    let (from, to) = (wanted.from, wanted.to);
    check_time("from", from)?;
    check_time("to", to)?;
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Problem::invalid_field("from", "It is later than `to`."));
    }
    let shown_before: Option<DateTime<Utc>> = wanted.cursor.map(|cursor| cursor.position()).transpose()?;
    let before = [to, shown_before].into_iter().flatten().min();
    let client = pool.get().await?;
    let postings = store::list_history(&client, &caller.user_id, from, before, wanted.limit.and_one()).await?;
    let entries = postings.into_iter().map(EntryView::from).collect();
    Ok(Json(Page::of(entries, wanted.limit, |last: &EntryView| last.at)))
}
