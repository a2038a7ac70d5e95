//! Alarms as cards: what is wrong, why, whom it concerns, and the button that leads to what helps.

use actix_web::{
    HttpResponse,
    web::{Form, Path, Query},
};
use askama::Template;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use service_runtime::{
    Problem,
    http::{Cursor, Id, Limit, Page},
};
use uuid::Uuid;

use super::{
    Frame, MENU, Visitor, ok, see,
    show::{self, Count, query, saga_path, shorten},
};
use crate::{
    alarm::{Alarm, AlarmKind, AlarmState},
    http::Desk,
    store::alarms,
};

/// The overview shows so many of each kind and state, the newest.
const SHOWN: i64 = 50;

/// An alarm, ready to be shown.
pub(super) struct Card {
    /// The oldest of those that say the same.
    pub(super) alarm: Alarm,
    /// The others.
    pub(super) more: Vec<Alarm>,
    /// Where the one button leads, and what it says.
    pub(super) leads_to: String,
    pub(super) button: &'static str,
}

impl Card {
    fn of(alarm: Alarm) -> Self {
        let (leads_to, button) = leads_to(&alarm);
        Self { alarm, more: Vec::new(), leads_to, button }
    }

    /// Whether it would say the same as this one: they are shown as one.
    fn says_the_same(&self, other: &Alarm) -> bool {
        let of = |alarm: &Alarm| (alarm.kind, alarm.state, alarm.cause);
        of(&self.alarm) == of(other) && self.alarm.title == other.title
    }

    fn add(&mut self, other: Alarm) {
        self.more.push(other);
        if self.alarm.kind == AlarmKind::Stuck {
            (self.leads_to, self.button) = ("/sagas?stuck=true".to_owned(), "Show the sagas");
        }
    }

    fn all(&self) -> impl Iterator<Item = &Alarm> {
        std::iter::once(&self.alarm).chain(&self.more)
    }

    pub(super) fn is_open(&self) -> bool {
        self.alarm.state == AlarmState::Open
    }

    pub(super) fn class(&self) -> &'static str {
        match (self.alarm.state, self.alarm.kind) {
            (AlarmState::Acknowledged, _) => "quiet",
            (AlarmState::Closed, _) => "over",
            (
                AlarmState::Open,
                AlarmKind::Stuck | AlarmKind::Mismatched | AlarmKind::DeadLetter | AlarmKind::Outbox,
            ) => "bad",
            (AlarmState::Open, AlarmKind::Lag) => "warn",
        }
    }

    /// What it counts.
    pub(super) fn how_many(&self) -> String {
        let count = self.all().map(|alarm| alarm.count).sum();
        format!("{} {}", Count(count), self.alarm.kind.counts(count))
    }

    /// The first sagas it names, with their links.
    pub(super) fn sagas(&self) -> Vec<(String, String)> {
        let keys = self.all().flat_map(Alarm::sagas).take(SAGAS_NAMED);
        keys.map(|key| (saga_path(key), shorten(key))).collect()
    }
}

/// A card names so many sagas.
const SAGAS_NAMED: usize = 3;

fn leads_to(alarm: &Alarm) -> (String, &'static str) {
    let says = |field| alarm.says(field).unwrap_or_default();
    match alarm.kind {
        AlarmKind::Stuck | AlarmKind::Mismatched if alarm.count == 1 && !alarm.sagas().is_empty() => {
            (saga_path(alarm.sagas()[0]), "Open the saga")
        }
        AlarmKind::Stuck => ("/sagas?stuck=true".to_owned(), "Show the sagas"),
        AlarmKind::Mismatched => ("/sagas?mismatched=true".to_owned(), "Show the sagas"),
        AlarmKind::DeadLetter => {
            let fields = [
                ("service", says("group")),
                ("state", "DEAD"),
                ("errorClass", says("errorClass")),
                ("topic", says("topic")),
            ];
            (format!("/dead-letters{}", query(fields)), "Look at them")
        }
        AlarmKind::Lag => (format!("/consumers{}", query([("group", says("group"))])), "Look at the group"),
        AlarmKind::Outbox => (format!("/consumers{}", query([("group", says("service"))])), "Look at the service"),
    }
}

/// What is wrong now: what nobody looks after first, the worst first; and whether there is more of it. Of each kind so
/// many: a hundred of one must not hide the one of another.
pub(super) async fn open_alarms(desk: &Desk) -> Result<(Vec<Card>, bool), Problem> {
    let client = desk.pool.get().await?;
    let (mut found, has_more) = alarms::list_standing(&client, SHOWN).await?;
    found.sort_by_key(|alarm| (alarm.state != AlarmState::Open, alarm.kind.weight(), alarm.opened_at));
    let mut cards: Vec<Card> = Vec::new();
    for alarm in found {
        match cards.iter_mut().find(|card| card.says_the_same(&alarm)) {
            Some(card) => card.add(alarm),
            None => cards.push(Card::of(alarm)),
        }
    }
    Ok((cards, has_more))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default, deserialize_with = "super::said")]
    state: Option<AlarmState>,
    #[serde(default, deserialize_with = "super::said")]
    kind: Option<AlarmKind>,
    #[serde(default, deserialize_with = "super::said")]
    cursor: Option<Cursor>,
}

#[derive(Template)]
#[template(path = "alarms.html")]
struct Alarms {
    frame: Frame,
    state: &'static str,
    kind: &'static str,
    cards: Vec<Card>,
    next: Option<String>,
    is_first: bool,
}

/// All alarms, also those that are over.
pub(super) async fn list(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let Wanted { state, kind, cursor } = wanted.into_inner();
    let is_first = cursor.is_none();
    let behind: Option<(DateTime<Utc>, Uuid)> = cursor.map(|cursor| cursor.position()).transpose()?;
    let limit = Limit::default();
    let client = visitor.desk.pool.get().await?;
    let found = alarms::list_alarms(&client, state, kind, behind, limit.and_one()).await?;
    let page = Page::of(found, limit, |last| (last.opened_at, last.id));
    let (state, kind) = (state.map_or("", AlarmState::as_str), kind.map_or("", AlarmKind::as_str));
    let next = page.next_cursor.as_ref().map(super::cursor_text);
    ok(&Alarms {
        frame: Frame::of(&visitor, "overview"),
        state,
        kind,
        cards: page.items.into_iter().map(Card::of).collect(),
        next: next.map(|cursor| format!("/alarms{}", query([("state", state), ("kind", kind), ("cursor", &cursor)]))),
        is_first,
    })
}

/// Somebody looks after it, and after those that are shown with it.
pub(super) async fn acknowledge(
    visitor: Visitor,
    id: Path<Id>,
    more: Form<Vec<(String, Uuid)>>,
) -> Result<HttpResponse, Problem> {
    let client = visitor.desk.pool.get().await?;
    let alarm = alarms::update_acknowledged(&client, id.0, visitor.name()).await?;
    alarm.ok_or_else(|| Problem::not_found("alarm"))?;
    for (_, other) in more.iter().filter(|(name, _)| name == "more") {
        alarms::update_acknowledged(&client, *other, visitor.name()).await?;
    }
    Ok(see("/"))
}
