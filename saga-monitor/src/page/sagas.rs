//! `/sagas`: sagas, the newest first, by what is asked for.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use chrono::Utc;
use serde::Deserialize;
use service_runtime::{
    Problem,
    http::{Cursor, Limit, Page},
};

use super::{
    Frame, MENU, Visitor, cursor_text, ok,
    show::{self, Badge, Tone, query},
};
use crate::{
    domain::State,
    flows::Flow,
    http::{list_sagas::OlderThan, view::SagaView},
    store::sagas::{self, SagaFilter},
};

/// What a form sends; what was left empty counts as not said.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wanted {
    #[serde(default, deserialize_with = "super::said")]
    state: Option<State>,
    #[serde(default, rename = "type", deserialize_with = "super::said")]
    flow: Option<Flow>,
    #[serde(default, deserialize_with = "super::said")]
    stuck: Option<bool>,
    #[serde(default, deserialize_with = "super::said")]
    mismatched: Option<bool>,
    #[serde(default)]
    older_than: String,
    #[serde(default)]
    limit: Limit,
    #[serde(default, deserialize_with = "super::said")]
    cursor: Option<Cursor>,
}

#[derive(Template)]
#[template(path = "sagas.html")]
struct List {
    frame: Frame,
    state: &'static str,
    flow: &'static str,
    stuck: bool,
    mismatched: bool,
    older_than: String,
    trouble: Option<&'static str>,
    sagas: Vec<SagaView>,
    next: Option<String>,
    is_first: bool,
}

impl List {
    fn is_filtered(&self) -> bool {
        !self.state.is_empty() || !self.flow.is_empty() || self.stuck || self.mismatched || !self.older_than.is_empty()
    }
}

/// Beside the state: what is wrong with it.
fn flags(saga: &SagaView) -> Vec<Badge> {
    let mut flags = Vec::new();
    if saga.stuck {
        flags.push(Badge::new(Tone::Bad, "stuck"));
    }
    if saga.mismatched {
        flags.push(Badge::new(Tone::Bad, "does not match"));
    }
    if !saga.marks.is_empty() {
        flags.push(Badge::new(Tone::Warn, saga.marks.join(", ")));
    }
    flags
}

pub(super) async fn list(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let wanted = wanted.into_inner();
    let (is_first, older_than) = (wanted.cursor.is_none(), wanted.older_than.trim().to_owned());
    let (age, trouble) = match OlderThan::try_from(older_than.clone()) {
        Ok(age) => (Some(age.moment(Utc::now())), None),
        Err(_) if older_than.is_empty() => (None, None),
        Err(_) => (None, Some("“Has not moved for” takes a duration such as 10m or 2h.")),
    };
    let filter = SagaFilter {
        state: wanted.state,
        flow: wanted.flow,
        stuck: wanted.stuck,
        mismatched: wanted.mismatched,
        moved_before: age,
        behind: wanted.cursor.map(|cursor| cursor.position()).transpose()?,
    };
    let client = visitor.desk.pool.get().await?;
    let found = sagas::list_sagas(&client, &filter, wanted.limit.and_one()).await?;
    let page = Page::of(found.into_iter().map(SagaView::from).collect(), wanted.limit, SagaView::position);
    let (state, flow) = (filter.state.map_or("", State::as_str), filter.flow.map_or("", Flow::name));
    let yes = |flag: Option<bool>| if flag == Some(true) { "true" } else { "" };
    let limit = u16::from(wanted.limit).to_string();
    let next = page.next_cursor.as_ref().map(cursor_text).map(|cursor| {
        let fields = [
            ("state", state),
            ("type", flow),
            ("stuck", yes(filter.stuck)),
            ("mismatched", yes(filter.mismatched)),
            ("olderThan", &*older_than),
            ("limit", &limit),
            ("cursor", &cursor),
        ];
        format!("/sagas{}", query(fields))
    });
    ok(&List {
        frame: Frame::of(&visitor, "sagas"),
        state,
        flow,
        stuck: filter.stuck == Some(true),
        mismatched: filter.mismatched == Some(true),
        older_than,
        trouble,
        sagas: page.items,
        next,
        is_first,
    })
}
