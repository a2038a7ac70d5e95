//! Where a saga stands, from what is known of it. Pure: no I/O, no clock, no randomness.
//!
//! A saga is a set of facts: its events, taken in any order and any number of times. Everything else
//! (its state, what is owed and by whom, what doesn't match) follows from the facts and the flow's
//! declaration ([`crate::flows`]), so that the same facts say the same whatever came first.

mod kept;
mod mismatch;
mod standing;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use common_events::{EventId, Topic, TraceId};
use serde::{Deserialize, Serialize};

use crate::flows::Flow;
use kept::Newer;
pub use kept::NotKept;
pub use mismatch::Mismatch;
pub(crate) use mismatch::not_undone;
pub use standing::{Cause, Owed, Standing};
pub(crate) use words::words;
pub use words::{Mark, State, StepStatus, UnknownWord};

/// Of one step that was told several times with different ids, so many are kept: enough to know it.
const MAX_OF_ONE_STEP: usize = 2;

/// One event of a saga, as far as it matters to where the saga stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fact {
    /// When its service wrote it down.
    pub at: DateTime<Utc>,
    /// The same however often it is told.
    pub id: EventId,
    /// Where it lies first, of the places that are known.
    pub place: Place,
    /// When it got there, if that was much later than it happened: it waited in an outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<DateTime<Utc>>,
    /// The trace it belongs to, when it says so properly.
    pub trace: Option<TraceId>,
    /// What else it says.
    #[serde(default, skip_serializing_if = "Says::is_nothing")]
    pub says: Says,
}

/// Where a record lies within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What an event says that the rules look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Says {
    /// Won: what was to be paid, was paid, or went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// The order's version: what "before" and "after" mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// What the order wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

impl Says {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What an order wants: answers to this many questions are waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Asked {
    /// The products of its lines.
    pub lines: BTreeSet<String>,
    /// Whether it wants to use a coupon.
    pub coupon: bool,
}

/// Which step of a saga: the event, and of which line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey {
    /// The event.
    pub event: Topic,
    /// The product of the line, for what happens per line.
    pub line: Option<String>,
}

impl StepKey {
    /// A step that happens once.
    pub const fn once(event: Topic) -> Self {
        Self { event, line: None }
    }

    /// A step of one line.
    pub fn of_line(event: Topic, line: impl Into<String>) -> Self {
        Self { event, line: Some(line.into()) }
    }
}

/// What is known of one saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saga {
    /// What kind of saga it is.
    pub flow: Flow,
    facts: BTreeMap<StepKey, Vec<Fact>>,
    marks: BTreeSet<Mark>,
    /// When something of it was heard first and last that is no fact: it couldn't be read.
    strange: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What a newer release has kept of it, and goes on with; here it says nothing.
    newer: Newer,
}

impl Saga {
    /// A saga of which nothing is known.
    pub const fn new(flow: Flow) -> Self {
        Self { flow, facts: BTreeMap::new(), marks: BTreeSet::new(), strange: None, newer: Newer::nothing() }
    }

    /// Takes an event. Again, or in another order: the saga is the same in the end.
    pub fn take(&mut self, step: StepKey, fact: Fact) {
        let known = self.facts.entry(step).or_default();
        match known.iter_mut().find(|known| known.id == fact.id) {
            // Told again, it lies at another place; what it says is the same, or the lesser counts.
            Some(same) => *same = fact.min(same.clone()),
            None => known.push(fact),
        }
        known.sort();
        known.truncate(MAX_OF_ONE_STEP);
    }

    /// Notes that something about it was odd.
    pub fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    /// Notes something at that time which belongs to it and can't be read.
    pub fn take_strange(&mut self, at: DateTime<Utc>) {
        let (first, last) = self.strange.unwrap_or((at, at));
        self.strange = Some((first.min(at), last.max(at)));
    }

    /// What was odd about it.
    pub const fn marks(&self) -> &BTreeSet<Mark> {
        &self.marks
    }

    /// The facts, by step.
    pub fn facts(&self) -> impl Iterator<Item = (&StepKey, &Fact)> {
        self.facts.iter().flat_map(|(step, facts)| facts.iter().map(move |fact| (step, fact)))
    }

    /// The event that began it, once it is known.
    pub fn begin(&self) -> Option<&Fact> {
        self.fact(&StepKey::once(self.flow.declaration().begins))
    }

    /// The trace of the request that began it; until that is known, of its earliest event.
    pub fn trace(&self) -> Option<TraceId> {
        let earliest = || self.facts().map(|(_, fact)| fact).filter(|fact| fact.trace.is_some()).min();
        self.begin().filter(|begin| begin.trace.is_some()).or_else(earliest).and_then(|fact| fact.trace)
    }

    fn fact(&self, step: &StepKey) -> Option<&Fact> {
        self.facts.get(step)?.first()
    }

    fn once(&self, event: Topic) -> Option<&Fact> {
        self.fact(&StepKey::once(event))
    }

    /// What the order wants, from whichever event says so.
    fn asked(&self) -> Option<&Asked> {
        let declaration = self.flow.declaration();
        let says = |event| self.once(event)?.says.asked.as_ref();
        says(declaration.begins).or_else(|| declaration.with_role(crate::flows::Role::Cancel).find_map(says))
    }
}

#[cfg(test)]
mod tests;
