//! Where a saga stands: its state, and what is owed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use common_events::{EventId, Service, Topic, TraceId};

use super::{Fact, Mark, Mismatch, Place, Saga, State, StepKey};
use crate::flows::{Debt, Each, Only, Role};

/// What follows from the facts of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: State,
    /// What is owed, in the order of the flow. Empty when it has ended.
    pub owed: Vec<Owed>,
    /// What doesn't match, as far as can be told from these facts: more may be on their way.
    pub doubts: BTreeSet<Mismatch>,
    /// When it began: its first event, or the earliest that is known.
    pub started_at: DateTime<Utc>,
    /// When something of it happened last, or reached its topic late.
    pub last_progress_at: DateTime<Utc>,
    /// The trace of the request that began it.
    pub trace: Option<TraceId>,
    /// What was odd about its records.
    pub marks: BTreeSet<Mark>,
}

/// An event that should come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The one that is hoped for.
    pub event: Topic,
    /// Who owes it.
    pub from: Service,
    /// Of which line.
    pub line: Option<String>,
    /// The events it is owed for, which the debtor handles; none for what a request caused itself.
    pub causes: Vec<Cause>,
}

/// An event for which another is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Its type.
    pub event: Topic,
    /// Its id.
    pub id: EventId,
    /// Where it lies.
    pub place: Place,
}

impl Saga {
    /// Where it stands; `None` while nothing is known.
    pub fn standing(&self) -> Option<Standing> {
        let times = || self.facts().map(|(_, fact)| fact.at);
        let strange = self.strange;
        let earliest = times().chain(strange.map(|(first, _)| first)).min()?;
        let moved = self.facts().map(|(_, fact)| fact.late.unwrap_or(fact.at));
        let last_progress_at = moved.chain(strange.map(|(_, last)| last)).max()?;
        let (state, owed) = self.state();
        let trace = self.trace();
        let mut marks = self.marks.clone();
        if self.facts().any(|(_, fact)| fact.trace.is_some() && fact.trace != trace) {
            marks.insert(Mark::OtherTrace);
        }
        Some(Standing {
            state,
            owed,
            doubts: self.doubts(),
            started_at: self.begin().map_or(earliest, |begin| begin.at),
            last_progress_at,
            trace,
            marks,
        })
    }

    fn state(&self) -> (State, Vec<Owed>) {
        let declaration = self.flow.declaration();
        let has = |role| declaration.with_role(role).any(|event| self.once(event).is_some());
        if self.facts.is_empty() {
            return (State::Failed, Vec::new());
        }
        if has(Role::Cancel) {
            let owed = self.owed();
            return (if owed.is_empty() { State::Compensated } else { State::Compensating }, owed);
        }
        if has(Role::Success) {
            return (State::Completed, Vec::new());
        }
        if has(Role::Failure) {
            return (State::Failed, Vec::new());
        }
        let begins = declaration.begins;
        let mut owed = self.owed();
        if self.once(begins).is_none() {
            owed.insert(0, owed_for_nothing(begins));
        } else if owed.is_empty() {
            // No service of ours tells such a saga; whoever does, it has to come to an end.
            owed.extend(declaration.with_role(Role::Success).map(owed_for_nothing));
        }
        (State::InProgress, owed)
    }

    fn owed(&self) -> Vec<Owed> {
        let debts = self.flow.declaration().debts.iter().filter(|debt| match debt.only {
            Only::Always => true,
            Only::WithCoupon => self.asked().is_some_and(|asked| asked.coupon),
        });
        debts.flat_map(|debt| self.owed_by(debt)).collect()
    }

    fn owed_by(&self, debt: &Debt) -> Vec<Owed> {
        match debt.each {
            Each::Saga => self.owed_once(debt).into_iter().collect(),
            Each::Line => self.lines().into_iter().filter_map(|line| self.owed_for(debt, line)).collect(),
        }
    }

    fn owed_once(&self, debt: &Debt) -> Option<Owed> {
        if debt.one_of.iter().any(|answer| self.once(*answer).is_some()) {
            return None;
        }
        let mut causes = Vec::new();
        for event in debt.after {
            causes.extend(self.all_of(*event)?.into_iter().map(|fact| (*event, fact)));
        }
        (!causes.is_empty()).then(|| owed(debt, None, causes))
    }

    /// For each line that is known, each on its own.
    fn owed_for(&self, debt: &Debt, line: &str) -> Option<Owed> {
        let of_line_or_once = |event| self.fact(&StepKey::of_line(event, line)).or_else(|| self.once(event));
        if debt.one_of.iter().any(|answer| of_line_or_once(*answer).is_some()) {
            return None;
        }
        let causes: Option<Vec<_>> = debt.after.iter().map(|event| Some((*event, of_line_or_once(*event)?))).collect();
        Some(owed(debt, Some(line.to_owned()), causes?))
    }

    /// Every fact of an event that there has to be: one per line where it happens per line, none of a coupon
    /// that isn't wanted. `None` while one is missing.
    fn all_of(&self, event: Topic) -> Option<Vec<&Fact>> {
        let step = self.flow.declaration().step(event)?;
        match step.each {
            Each::Saga if self.is_of_an_unwanted_coupon(event) => Some(Vec::new()),
            Each::Saga => self.once(event).map(|fact| vec![fact]),
            Each::Line => {
                let lines = &self.asked()?.lines;
                lines.iter().map(|line| self.fact(&StepKey::of_line(event, line))).collect()
            }
        }
    }

    fn is_of_an_unwanted_coupon(&self, event: Topic) -> bool {
        let is_of_coupon = self
            .flow
            .declaration()
            .debts
            .iter()
            .any(|debt| debt.only == Only::WithCoupon && debt.one_of.contains(&event));
        is_of_coupon && self.asked().is_some_and(|asked| !asked.coupon)
    }

    /// The lines that are asked for or were heard of.
    fn lines(&self) -> BTreeSet<&str> {
        let asked = self.asked().into_iter().flat_map(|asked| asked.lines.iter().map(String::as_str));
        asked.chain(self.facts.keys().filter_map(|step| step.line.as_deref())).collect()
    }
}

fn owed_for_nothing(event: Topic) -> Owed {
    Owed { event, from: event.spec().writer, line: None, causes: Vec::new() }
}

fn owed(debt: &Debt, line: Option<String>, after: Vec<(Topic, &Fact)>) -> Owed {
    let handled: Vec<Topic> = debt.handled_by_debtor().collect();
    let causes = after.into_iter().filter(|(event, _)| handled.contains(event));
    Owed {
        event: debt.one_of[0],
        from: debt.by,
        line,
        causes: causes.map(|(event, fact)| Cause { event, id: fact.id, place: fact.place }).collect(),
    }
}
