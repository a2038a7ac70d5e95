//! `/dead-letters`: what services have set aside, by cause, and one by one; and what can be done about many at once.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use common_events::Service;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Frame, MENU, Visitor,
    away::{Away, Said, ask_all, known},
    ok,
    show::{self, Count, query},
    told::{Group, Items, LETTER_STATES, Letter, OPEN},
};
use crate::services::{Question, Services};

/// Of each service, so many are listed; of one that is asked for alone, a whole page.
const OF_EACH: u16 = 20;
const OF_ONE: u16 = 50;

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wanted {
    service: String,
    state: String,
    error_class: String,
    topic: String,
    key: String,
    trace_id: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLetters {
    frame: Frame,
    wanted: Wanted,
    services: Vec<Service>,
    /// With the state that they count.
    groups: Vec<(Service, &'static str, Group)>,
    letters: Vec<(Service, Letter)>,
    away: Vec<Away>,
    /// Where lists go on: of which service, and the link.
    next: Vec<(Service, String)>,
}

impl Wanted {
    fn question(&self, limit: u16) -> Question {
        let question = Question::get("/admin/dead-letters").with("limit", limit);
        let fields = [
            ("state", &self.state),
            ("errorClass", &self.error_class),
            ("topic", &self.topic),
            ("key", &self.key),
            ("traceId", &self.trace_id),
            ("cursor", &self.cursor),
        ];
        let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
        said.fold(question, |question, (name, value)| question.with(name, value))
    }

    /// The link to the list with another service and cursor.
    fn link(&self, service: &str, cursor: &str) -> String {
        let fields = [
            ("service", service),
            ("state", &*self.state),
            ("errorClass", &*self.error_class),
            ("topic", &*self.topic),
            ("key", &*self.key),
            ("traceId", &*self.trace_id),
            ("cursor", cursor),
        ];
        format!("/dead-letters{}", query(fields))
    }

    fn is_filtered(&self) -> bool {
        [&self.state, &self.error_class, &self.topic, &self.key, &self.trace_id].iter().any(|field| !field.is_empty())
    }

    /// Whether all that are listed can be acted on at once: those of one service and one cause, that are open.
    fn is_one_cause(&self) -> bool {
        let is_open = OPEN.contains(&&*self.state);
        is_open && !self.service.is_empty() && !(self.error_class.is_empty() && self.topic.is_empty())
    }
}

impl DeadLetters {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    fn link_of(service: &Service, state: &str, group: &Group) -> String {
        let fields = [
            ("service", service.name()),
            ("state", state),
            ("errorClass", &*group.error_class),
            ("topic", &*group.topic),
        ];
        format!("/dead-letters{}", query(fields))
    }

    fn total(&self) -> Count {
        Count(self.groups.iter().map(|(_, _, group)| group.count).sum())
    }

    /// The one service that is asked for.
    fn only(&self) -> Option<Service> {
        self.wanted.service.parse().ok()
    }
}

pub(super) async fn all(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let wanted = wanted.into_inner();
    let readers = visitor.desk.services.clone().that_read();
    let services: Vec<Service> = readers.names().collect();
    let asked: Services = match &*wanted.service {
        "" => readers.clone(),
        name => readers.clone().only(&[known(&readers, name)?]).map_err(|_| Problem::not_found("service"))?,
    };
    let limit = if wanted.service.is_empty() { OF_EACH } else { OF_ONE };
    let by_cause = OPEN.map(|state| Question::get("/admin/dead-letters/groups").with("state", state));
    let by_one = wanted.question(limit);
    let (dead, parked, letters) = tokio::join!(
        ask_all::<Items<Group>>(&readers, &by_cause[0]),
        ask_all::<Items<Group>>(&readers, &by_cause[1]),
        ask_all::<Items<Letter>>(&asked, &by_one)
    );
    let (letters, next, refused) = merged(letters, &wanted);
    let mut away: Vec<Away> = Vec::new();
    for one in dead.away.into_iter().chain(parked.away).chain(refused) {
        if away.iter().all(|known| known.service != one.service) {
            away.push(one);
        }
    }
    let mut groups: Vec<(Service, &'static str, Group)> = Vec::new();
    for (state, answers) in OPEN.into_iter().zip([dead.answers, parked.answers]) {
        for (service, page) in answers {
            groups.extend(page.items.into_iter().map(|group| (service, state, group)));
        }
    }
    groups.sort_by_key(|(_, _, group)| std::cmp::Reverse(group.count));
    ok(&DeadLetters { frame: Frame::of(&visitor, "dead-letters"), wanted, services, groups, letters, away, next })
}

type Merged = (Vec<(Service, Letter)>, Vec<(Service, String)>, Vec<Away>);

/// Of all services what was set aside last first, as each lists it; each goes on by its own cursor.
fn merged(said: Said<Items<Letter>>, wanted: &Wanted) -> Merged {
    let (mut letters, mut next) = (Vec::new(), Vec::new());
    for (service, page) in said.answers {
        if let Some(cursor) = &page.next_cursor {
            next.push((service, wanted.link(service.name(), cursor)));
        }
        letters.extend(page.items.into_iter().map(|letter| (service, letter)));
    }
    letters.sort_by_key(|(_, letter)| std::cmp::Reverse(letter.id));
    (letters, next, said.away)
}
