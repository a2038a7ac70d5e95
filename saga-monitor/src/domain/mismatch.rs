//! What doesn't match in a saga: contradictions between its facts.
//!
//! Topics are read in any order, so a contradiction is a doubt until everything up to its time was read;
//! that is judged where the watermark is ([`crate::detection`]).

use std::{collections::BTreeSet, fmt};

use common_events::Topic;

use super::{Mark, Saga, StepKey};
use crate::flows::Role;

/// A contradiction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// Something was undone that was never done.
    UndoneNeverDone {
        /// The undo.
        undo: Topic,
        /// Of which line.
        line: Option<String>,
    },
    /// The order was cancelled, and confirmed after that.
    ConfirmedAfterCancel,
    /// Two amounts that should agree don't.
    AmountsDiffer {
        /// One event.
        one: Topic,
        /// The other event.
        other: Topic,
    },
    /// A step was done twice: by two events with different ids.
    DoneTwice {
        /// The event.
        event: Topic,
        /// Of which line.
        line: Option<String>,
    },
}

/// "The saga is cancelled, and a step of it was not undone." Not a doubt that facts alone can raise: as long
/// as the undo may be on its way, the saga is compensating.
pub(crate) fn not_undone(event: Topic, line: Option<&str>) -> String {
    format!("not-undone: cancelled without {}", named(event, line))
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UndoneNeverDone { undo, line } => {
                write!(f, "undone-never-done: {}", named(*undo, line.as_deref()))
            }
            Self::ConfirmedAfterCancel => f.write_str("confirmed-after-cancel"),
            Self::AmountsDiffer { one, other } => write!(f, "amounts-differ: {one} and {other}"),
            Self::DoneTwice { event, line } => write!(f, "done-twice: {}", named(*event, line.as_deref())),
        }
    }
}

fn named(event: Topic, line: Option<&str>) -> String {
    line.map_or_else(|| event.to_string(), |line| format!("{event} of {line}"))
}

impl Saga {
    pub(super) fn doubts(&self) -> BTreeSet<Mismatch> {
        let mut doubts = BTreeSet::new();
        // What is missing may be what can't be read here.
        if self.marks.contains(&Mark::UnknownVersion) {
            return doubts;
        }
        self.doubt_undos(&mut doubts);
        self.doubt_order_of_end(&mut doubts);
        self.doubt_amounts(&mut doubts);
        for (step, _) in self.facts.iter().filter(|(_, facts)| facts.len() > 1) {
            doubts.insert(Mismatch::DoneTwice { event: step.event, line: step.line.clone() });
        }
        doubts
    }

    fn doubt_undos(&self, doubts: &mut BTreeSet<Mismatch>) {
        let declaration = self.flow.declaration();
        for StepKey { event: undo, line } in self.facts.keys() {
            let Some(Role::Undo(done)) = declaration.step(*undo).map(|step| step.role) else { continue };
            if self.fact(&StepKey { event: done, line: line.clone() }).is_none() {
                doubts.insert(Mismatch::UndoneNeverDone { undo: *undo, line: line.clone() });
            }
        }
    }

    /// A confirmed order may be cancelled; a cancelled one is not confirmed.
    fn doubt_order_of_end(&self, doubts: &mut BTreeSet<Mismatch>) {
        let declaration = self.flow.declaration();
        let version = |role| declaration.with_role(role).find_map(|event| self.once(event)?.says.version);
        if let (Some(cancelled), Some(confirmed)) = (version(Role::Cancel), version(Role::Success))
            && cancelled < confirmed
        {
            doubts.insert(Mismatch::ConfirmedAfterCancel);
        }
    }

    fn doubt_amounts(&self, doubts: &mut BTreeSet<Mismatch>) {
        for (one, other) in self.flow.declaration().same_amount {
            let amount = |event| self.once(event)?.says.amount;
            if let (Some(left), Some(right)) = (amount(*one), amount(*other))
                && left != right
            {
                doubts.insert(Mismatch::AmountsDiffer { one: *one, other: *other });
            }
        }
    }
}
