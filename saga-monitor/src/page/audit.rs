//! `/audit`: who did what, when, why, with what result, at all services.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use common_events::Service;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Frame, MENU, Visitor,
    away::{Away, ask_all, known},
    ok,
    show::{self, indented, query},
    told::{Entry, Items},
};
use crate::services::Question;

/// Of each service, so many lines; of one that is asked for alone, a whole page.
const OF_EACH: u16 = 25;
const OF_ONE: u16 = 100;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    service: String,
    who: String,
    result: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    wanted: Wanted,
    services: Vec<Service>,
    entries: Vec<(Service, Entry)>,
    away: Vec<Away>,
    next: Vec<(Service, String)>,
}

impl Audit {
    /// JSON of a line.
    fn json(value: &serde_json::Value) -> String {
        indented(&value.to_string())
    }
}

pub(super) async fn all(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let wanted = wanted.into_inner();
    let readers = visitor.desk.services.clone().that_read();
    let services = readers.names().collect();
    let asked = match &*wanted.service {
        "" => readers,
        name => {
            let only = known(&readers, name)?;
            readers.only(&[only]).map_err(|_| Problem::not_found("service"))?
        }
    };
    let limit = if wanted.service.is_empty() { OF_EACH } else { OF_ONE };
    let fields = [("who", &wanted.who), ("result", &wanted.result), ("cursor", &wanted.cursor)];
    let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let question = said
        .fold(Question::get("/admin/audit").with("limit", limit), |question, (name, value)| question.with(name, value));
    let said = ask_all::<Items<Entry>>(&asked, &question).await;
    let (mut entries, mut next) = (Vec::new(), Vec::new());
    for (service, page) in said.answers {
        if let Some(cursor) = page.next_cursor {
            let fields =
                [("service", service.name()), ("who", &*wanted.who), ("result", &*wanted.result), ("cursor", &*cursor)];
            next.push((service, format!("/audit{}", query(fields))));
        }
        entries.extend(page.items.into_iter().map(|entry| (service, entry)));
    }
    entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.at));
    ok(&Audit { frame: Frame::of(&visitor, "audit"), wanted, services, entries, away: said.away, next })
}
