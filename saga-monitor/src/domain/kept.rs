//! How a saga is kept in its row: as short as can be, since it is written with every batch of its events.
//!
//! Releases of the monitor take turns on one database (docs/decisions/0020). What a newer one has kept and this one
//! can't read, be it an event or a mark, stays as it was written, and holds up nothing.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use common_events::catalogue::UnknownTopic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fact, Mark, Saga, StepKey};
use crate::flows::Flow;

/// What is kept that only a newer release can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Newer {
    facts: Vec<Value>,
    marks: BTreeSet<String>,
}

impl Newer {
    pub(super) const fn nothing() -> Self {
        Self { facts: Vec::new(), marks: BTreeSet::new() }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept<F, M: Ord> {
    #[serde(rename = "f")]
    facts: Vec<F>,
    #[serde(rename = "m", default = "BTreeSet::new", skip_serializing_if = "BTreeSet::is_empty")]
    marks: BTreeSet<M>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    strange: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// An event, its line, and what it says.
type KeptFact = (String, Option<String>, Fact);

#[derive(Serialize)]
#[serde(untagged)]
enum Writing<K, N> {
    Known(K),
    Newer(N),
}

/// What was kept of a saga is not one.
#[derive(Debug, thiserror::Error)]
#[error("the kept facts of a saga can't be read")]
pub struct NotKept(#[from] serde_json::Error);

impl Saga {
    /// As it is kept.
    ///
    /// # Panics
    /// Never: facts are texts, numbers and times.
    pub fn to_json(&self) -> String {
        let known = self.facts().map(|(step, fact)| Writing::Known((step.event.name(), &step.line, fact)));
        let marks = self.marks.iter().map(ToString::to_string);
        let kept = Kept {
            facts: known.chain(self.newer.facts.iter().map(Writing::Newer)).collect(),
            marks: marks.chain(self.newer.marks.iter().cloned()).collect(),
            strange: self.strange,
        };
        serde_json::to_string(&kept).expect("facts are texts, numbers and times")
    }

    /// From how it was kept, by this release of the monitor or by another.
    ///
    /// # Errors
    /// When it wasn't kept by [`Saga::to_json`].
    pub fn from_json(flow: Flow, json: &str) -> Result<Self, NotKept> {
        // Nearly always all of it is known, which is read faster than what has to be told apart.
        if let Ok(kept) = serde_json::from_str::<Kept<KeptFact, Mark>>(json)
            && let Ok(facts) = kept.facts.into_iter().map(step_and_fact).collect::<Result<Vec<_>, _>>()
        {
            let mut saga = Self { marks: kept.marks, strange: kept.strange, ..Self::new(flow) };
            for (step, fact) in facts {
                saga.take(step, fact);
            }
            return Ok(saga);
        }
        let kept: Kept<Value, String> = serde_json::from_str(json)?;
        let mut saga = Self { strange: kept.strange, ..Self::new(flow) };
        for kept in kept.facts {
            match KeptFact::deserialize(&kept).ok().and_then(|fact| step_and_fact(fact).ok()) {
                Some((step, fact)) => saga.take(step, fact),
                None => saga.newer.facts.push(kept),
            }
        }
        for word in kept.marks {
            match word.parse() {
                Ok(mark) => saga.mark(mark),
                Err(_) => _ = saga.newer.marks.insert(word),
            }
        }
        Ok(saga)
    }
}

fn step_and_fact((event, line, fact): KeptFact) -> Result<(StepKey, Fact), UnknownTopic> {
    Ok((StepKey { event: event.parse()?, line }, fact))
}
