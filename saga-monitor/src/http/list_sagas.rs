//! `GET /api/sagas`: sagas, the newest first.

use actix_web::{get, web::Data};
use chrono::{DateTime, TimeDelta, Utc};
use common_events::time::is_writable;
use serde::Deserialize;
use service_runtime::{
    Operator, Problem,
    http::{Cursor, Json, Limit, Page, Query},
    settings::Setting,
};
use utoipa::IntoParams;

use super::{Desk, view::SagaView};
use crate::{
    domain::State,
    flows::Flow,
    store::sagas::{self, SagaFilter},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<State>,
    /// Only of this kind.
    #[serde(rename = "type")]
    #[param(inline)]
    flow: Option<Flow>,
    /// `true`: only those that don't move; `false`: only the others.
    stuck: Option<bool>,
    /// `true`: only those in which something doesn't match; `false`: only the others.
    mismatched: Option<bool>,
    /// Only those that haven't moved for so long, such as `10m`; or since then, such as
    /// `2026-11-21T06:00:00Z`.
    #[param(value_type = Option<String>, pattern = "^([0-9]+(ms|s|m|h)|[0-9]{4}-[0-9]{2}-[0-9]{2}T.+)$")]
    older_than: Option<OlderThan>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// A moment, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum OlderThan {
    Ago(TimeDelta),
    Moment(DateTime<Utc>),
}

#[derive(Debug, thiserror::Error)]
#[error("a duration such as 10m, or a time such as 2026-11-21T06:00:00Z")]
pub(crate) struct NoAge;

/// Longer ago than anything here.
const MAX_AGO: TimeDelta = TimeDelta::days(3_650);

impl TryFrom<String> for OlderThan {
    type Error = NoAge;

    fn try_from(text: String) -> Result<Self, NoAge> {
        let ago = std::time::Duration::parse(&text).and_then(|ago| TimeDelta::from_std(ago).ok());
        let ago = ago.filter(|ago| *ago <= MAX_AGO).map(Self::Ago);
        ago.or_else(|| text.parse().ok().filter(is_writable).map(Self::Moment)).ok_or(NoAge)
    }
}

impl OlderThan {
    /// The moment that is meant.
    pub(crate) fn moment(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Ago(ago) => now - ago,
            Self::Moment(moment) => moment,
        }
    }
}

/// Sagas, the newest first.
#[utoipa::path(
    tag = "sagas",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses((status = 200, body = Page<SagaView>)),
)]
#[get("/api/sagas")]
pub(super) async fn list_sagas(
    _: Operator,
    Query(wanted): Query<Wanted>,
    desk: Data<Desk>,
) -> Result<Json<Page<SagaView>>, Problem> {
    let filter = SagaFilter {
        state: wanted.state,
        flow: wanted.flow,
        stuck: wanted.stuck,
        mismatched: wanted.mismatched,
        moved_before: wanted.older_than.map(|older| older.moment(Utc::now())),
        behind: wanted.cursor.map(|cursor| cursor.position()).transpose()?,
    };
    let client = desk.pool.get().await?;
    let found = sagas::list_sagas(&client, &filter, wanted.limit.and_one()).await?;
    let found = found.into_iter().map(SagaView::from).collect();
    Ok(Json(Page::of(found, wanted.limit, SagaView::position)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_duration_or_a_moment() {
        let age = |text: &str| OlderThan::try_from(text.to_owned()).ok();
        assert_eq!(age("10m"), Some(OlderThan::Ago(TimeDelta::minutes(10))));
        assert_eq!(age("1970-01-01T00:00:00Z"), Some(OlderThan::Moment(DateTime::UNIX_EPOCH)));
        for wrong in ["", "10", "-1m", "yesterday", "99999999999999999999h", "9999999h", "+10000-01-01T00:00:00Z"] {
            assert_eq!(age(wrong), None, "{wrong:?}");
        }
    }
}
