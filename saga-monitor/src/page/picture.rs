//! One saga as a picture of its flow, drawn from the declaration: a lane per service, the steps from left to right in
//! the order in which one is owed for another, and under each what takes it back.

mod layout;

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use askama::filters::{Html, HtmlSafe, escape};
use chrono::{DateTime, TimeDelta, Utc};
use common_events::Service;

use self::layout::{Spot, layout};
use super::show::Span;
use crate::{
    domain::{Saga, Standing},
    flows::{Declaration, Role, Step},
    whereabouts::GroupState,
};

/// Sizes, in pixels.
const BOX_WIDTH: i32 = 122;
const BOX_HEIGHT: i32 = 46;
const GAP: i32 = 24;
const LANE_GAP: i32 = 18;
const MARGIN: i32 = 14;
/// Left of the boxes: whose lane it is.
const NAMES: i32 = 106;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It isn't its turn yet.
    NotYet,
    /// The saga ended without it.
    Never,
    /// Some of its lines are done.
    Partly,
    Done,
    /// Done, and taken back since.
    Undone,
    Refused,
    /// It is owed.
    Waiting,
    /// It is owed, and its event failed.
    Failing,
    /// It is owed, and the saga doesn't move.
    Stuck,
}

impl Fate {
    const fn class(self) -> &'static str {
        match self {
            Self::NotYet => "not-yet",
            Self::Never => "never",
            Self::Partly => "partly",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Stuck => "stuck",
        }
    }

    fn words(self) -> String {
        self.class().replace('-', " ")
    }
}

/// A step in the picture.
struct Drawn {
    at: Spot,
    name: &'static str,
    fate: Fate,
    says: String,
}

/// The picture.
pub(super) struct Picture {
    boxes: Vec<Drawn>,
    arrows: Vec<(usize, usize)>,
    lanes: Vec<(Service, i32)>,
    width: i32,
    height: i32,
}

/// What a picture is drawn from.
pub(super) struct Shown<'s> {
    pub(super) saga: &'s Saga,
    pub(super) standing: &'s Standing,
    pub(super) is_stuck: bool,
    /// By the event that is owed: how the one stands at the debtor that it is owed for.
    pub(super) owed_for: &'s BTreeMap<&'static str, GroupState>,
}

impl Picture {
    pub(super) fn of(shown: &Shown<'_>) -> Self {
        let declaration = shown.saga.flow.declaration();
        let has_coupon = shown.asks_for(declaration);
        let is_back = shown.goes_back(declaration);
        let placed = layout(declaration, |step| has_coupon(step) && (is_back || !is_of_the_way_back(step)));
        let boxes: Vec<Drawn> = placed.boxes.iter().map(|at| shown.drawn(at, declaration)).collect();
        Self { boxes, arrows: placed.arrows, lanes: placed.lanes, width: placed.width, height: placed.height }
    }
}

/// Only drawn once a saga is on it.
const fn is_of_the_way_back(step: &Step) -> bool {
    matches!(step.role, Role::Undo(_) | Role::Cancel)
}

impl Shown<'_> {
    fn facts(&self, step: &Step) -> impl Iterator<Item = DateTime<Utc>> {
        self.saga.facts().filter(|(key, _)| key.event == step.event).map(|(_, fact)| fact.at)
    }

    fn is_owed(&self, step: &Step) -> usize {
        self.standing.owed.iter().filter(|owed| owed.event == step.event).count()
    }

    /// Steps that only some sagas have are drawn where something of them is known or owed.
    fn asks_for(&self, declaration: &'static Declaration) -> impl Fn(&Step) -> bool {
        let conditional: Vec<_> = declaration
            .debts
            .iter()
            .filter(|debt| debt.only == crate::flows::Only::WithCoupon)
            .flat_map(|debt| debt.one_of.iter().copied())
            .filter(|event| declaration.begins != *event)
            .collect();
        let is_known = |event| {
            self.saga.facts().any(|(key, _)| key.event == event)
                || self.standing.owed.iter().any(|owed| owed.event == event)
        };
        let any_known = conditional.iter().any(|event| is_known(*event));
        move |step| any_known || !conditional.contains(&step.event)
    }

    fn goes_back(&self, declaration: &Declaration) -> bool {
        let is_back = |event| declaration.step(event).is_some_and(is_of_the_way_back);
        self.saga.facts().any(|(key, _)| is_back(key.event))
    }

    fn drawn(&self, at: &Spot, declaration: &'static Declaration) -> Drawn {
        let steps: Vec<&Step> = declaration.steps.iter().filter(|step| at.events.contains(&step.event)).collect();
        let hoped_for = steps[0];
        let done = self.facts(hoped_for).count();
        let refused = steps[1..].iter().map(|step| self.facts(step).count()).sum::<usize>();
        let owed = self.is_owed(hoped_for);
        let undone = declaration.undo_of(hoped_for.event).map_or(0, |undo| self.facts(undo).count());
        let fate = match (owed, done, refused) {
            (1.., _, _) => self.waiting(hoped_for),
            (0, _, 1..) => Fate::Refused,
            (0, 1.., 0) if undone >= done => Fate::Undone,
            (0, 1.., 0) => Fate::Done,
            (0, 0, 0) if self.standing.state.is_open() && !self.is_beyond(declaration, hoped_for) => Fate::NotYet,
            (0, 0, 0) => Fate::Never,
        };
        let fate = if owed > 0 && done > 0 && fate == Fate::Waiting { Fate::Partly } else { fate };
        let times = steps.iter().flat_map(|step| self.facts(step)).max();
        let says = match (fate, owed + done + refused) {
            (Fate::Waiting | Fate::Failing | Fate::Stuck | Fate::Partly, 2..) => {
                format!("{done} of {} · {}", owed + done + refused, self.since())
            }
            (Fate::Waiting | Fate::Failing | Fate::Stuck | Fate::Partly, _) => format!("waits, {}", self.since()),
            (Fate::Refused, _) => format!("refused {}", self.after(times)),
            (Fate::Undone, _) => format!("undone {}", self.after(times)),
            (Fate::Done, 2..) => format!("{done}× {}", self.after(times)),
            (Fate::Done, _) => self.after(times),
            (Fate::Never | Fate::NotYet, _) => String::new(),
        };
        Drawn { at: at.clone(), name: hoped_for.name, fate, says }
    }

    /// After a cancel, nothing goes forward any more.
    fn is_beyond(&self, declaration: &Declaration, step: &Step) -> bool {
        self.goes_back(declaration) && !is_of_the_way_back(step)
    }

    fn waiting(&self, step: &Step) -> Fate {
        match self.owed_for.get(step.event.name()) {
            _ if self.is_stuck => Fate::Stuck,
            Some(GroupState::Dead | GroupState::Discarded) => Fate::Stuck,
            Some(GroupState::Retrying | GroupState::Parked) => Fate::Failing,
            Some(GroupState::Unread | GroupState::Waiting | GroupState::Applied | GroupState::Unknown) | None => {
                Fate::Waiting
            }
        }
    }

    /// How long nothing has come.
    fn since(&self) -> String {
        Span((Utc::now() - self.standing.last_progress_at).max(TimeDelta::zero())).to_string()
    }

    /// How long after the beginning.
    fn after(&self, at: Option<DateTime<Utc>>) -> String {
        at.map(|at| format!("+{}", Span((at - self.standing.started_at).max(TimeDelta::zero())))).unwrap_or_default()
    }
}

impl Picture {
    /// For who hears it: every step and what became of it.
    fn in_words(&self) -> String {
        let said = self.boxes.iter().map(|drawn| format!("{}: {}", drawn.name, drawn.fate.words()));
        said.collect::<Vec<_>>().join(", ")
    }
}

impl Display for Picture {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (width, height) = (self.width, self.height);
        write!(
            f,
            r#"<svg class="flow" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="The flow of this saga: {}">"#,
            self.in_words()
        )?;
        f.write_str(concat!(
            r#"<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">"#,
            r#"<path class="tip" d="M0 0.5 L7.5 4 L0 7.5 z"/></marker></defs>"#
        ))?;
        for (index, (service, y)) in self.lanes.iter().enumerate() {
            if index > 0 {
                let line = y - LANE_GAP / 2;
                write!(f, r#"<line class="lane" x1="0" x2="{width}" y1="{line}" y2="{line}"/>"#)?;
            }
            write!(f, r#"<text class="lane" x="{MARGIN}" y="{}">{service}</text>"#, y + BOX_HEIGHT / 2 + 4)?;
        }
        for (from, to) in &self.arrows {
            draw_arrow(f, &self.boxes[*from], &self.boxes[*to])?;
        }
        for drawn in &self.boxes {
            draw_box(f, drawn)?;
        }
        f.write_str("</svg>")
    }
}

fn draw_arrow(f: &mut Formatter<'_>, from: &Drawn, to: &Drawn) -> fmt::Result {
    let is_live = !matches!(to.fate, Fate::NotYet | Fate::Never);
    let class = if is_live { "arrow" } else { "arrow faint" };
    let tip = if is_live { r#" marker-end="url(#tip)""# } else { "" };
    if from.at.x == to.at.x {
        let (x, start, end) = (from.at.x + BOX_WIDTH / 2, from.at.y + BOX_HEIGHT, to.at.y - 2);
        return write!(f, r#"<path class="{class}" d="M{x} {start} V{end}"{tip}/>"#);
    }
    let (start, end) = (from.at.x + BOX_WIDTH, to.at.x - 2);
    let (y1, y2) = (from.at.y + BOX_HEIGHT / 2, to.at.y + BOX_HEIGHT / 2);
    // Between the columns, right before the box it leads to.
    let turn = to.at.x - GAP / 2;
    write!(f, r#"<path class="{class}" d="M{start} {y1} H{turn} V{y2} H{end}"{tip}/>"#)
}

fn draw_box(f: &mut Formatter<'_>, drawn: &Drawn) -> fmt::Result {
    let Drawn { at, name, fate, says } = drawn;
    let (class, x, y) = (fate.class(), at.x, at.y);
    write!(f, r#"<g class="step {class}"><title>{name}: {}</title>"#, fate.words())?;
    write!(f, r#"<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>"#)?;
    let middle = x + BOX_WIDTH / 2;
    if says.is_empty() {
        write!(f, r#"<text class="name" x="{middle}" y="{}">{name}</text>"#, y + BOX_HEIGHT / 2 + 4)?;
    } else {
        let Ok(says) = escape(says, Html);
        write!(f, r#"<text class="name" x="{middle}" y="{}">{name}</text>"#, y + 20)?;
        write!(f, r#"<text class="says" x="{middle}" y="{}">{says}</text>"#, y + 36)?;
    }
    f.write_str("</g>")
}

impl HtmlSafe for Picture {}

#[cfg(test)]
mod tests;
