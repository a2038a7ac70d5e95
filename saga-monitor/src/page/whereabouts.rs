//! `/where`: where one event is, for each group that reads it.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use common_events::EventId;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Frame, MENU, Visitor, ok,
    show::{self, saga_path},
};
use crate::http::where_is::{WhereView, look_for};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    event: String,
}

#[derive(Template)]
#[template(path = "where.html")]
struct Where {
    frame: Frame,
    asked: String,
    found: Option<WhereView>,
    trouble: Option<&'static str>,
}

impl Where {
    fn saga_path(found: &WhereView) -> Option<String> {
        found.saga_id.as_deref().map(saga_path)
    }

    fn place(found: &WhereView) -> Option<String> {
        Some(format!("{}/{}@{}", found.topic.as_ref()?, found.partition?, found.offset?))
    }
}

pub(super) async fn one(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let asked = wanted.into_inner().event.trim().to_owned();
    let (found, trouble) = match asked.parse::<EventId>() {
        Ok(event) => (Some(look_for(&visitor.desk, event).await?), None),
        Err(_) if asked.is_empty() => (None, None),
        Err(_) => (None, Some("An event's id is a UUID, such as 0190d2c4-9b3e-7f7a-8f60-6d1c1f1a2b3c.")),
    };
    ok(&Where { frame: Frame::of(&visitor, "events"), asked, found, trouble })
}
