//! Passes over a delivery: what fails is found by halving, tried again in place, and moves on.
//!
//! All that failed is tried again together after one pause, so that a hundred failing records cost no more
//! patience than one. Behind a failed record, those of its key are held back until it is through, or has
//! moved on and blocks its key; others go ahead.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use common_events::EventId;
use metrics::counter;
use service_runtime::{
    chain,
    museum::{self, Bug},
};
use tracing::warn;

use super::{Delivered, Group, Heard, Reading, Stalled, attempt::Locks};
use crate::{
    failure::{Failure, Transient},
    ladder::{Hope, headers::Trouble, moves::Failed},
};

/// The pause before the second attempt in place; each further one is twice as long, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often what lost a deadlock or a serialization race is tried again at once; then the partition waits,
/// as it is nobody's fault.
const MAX_CONFLICTS: u32 = 20;

/// From so many failures on, records are tried one by one if most of them fail.
const MANY_FAILURES: usize = 8;

/// A record of the delivery, with its place in it.
#[derive(Clone, Copy)]
pub(super) struct Item<'h> {
    place: usize,
    pub(super) heard: &'h Heard<'h>,
}

/// How a record's attempts in this delivery failed.
#[derive(Clone)]
struct Tries {
    made: u32,
    first_failed_at: DateTime<Utc>,
    class: &'static str,
    message: String,
    hope: Hope,
}

/// What one pass leaves.
#[derive(Default)]
struct Pass<'h> {
    delivered: Delivered,
    failed: Vec<(Item<'h>, Failure)>,
    /// Held back behind a failed one.
    behind: Vec<Item<'h>>,
    keys: HashSet<(&'h str, &'h [u8])>,
    events: HashSet<EventId>,
}

impl Group {
    /// Delivers until every record is applied, known, on the ladder, or waits behind one that is.
    pub(crate) async fn work(&self, heard: &[Heard<'_>]) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        let mut so_far: Vec<Option<Tries>> = vec![None; heard.len()];
        let (mut left, refused) = tell_apart(heard);
        if !refused.is_empty() {
            delivered += self.move_on(&refused).await?;
        }
        let mut again = Vec::new();
        let mut pause = FIRST_PAUSE;
        while !left.is_empty() || !again.is_empty() {
            let Pass { delivered: now, failed, behind, .. } = self.pass([again, left]).await?;
            delivered += now;
            let mut over = Vec::new();
            (again, left) = (Vec::new(), behind);
            for (item, failure) in failed {
                let tried = note(&mut so_far[item.place], &failure);
                // Whoever has waited for a lock has tried long enough in place.
                let has_hope = failure.hope() == Hope::Some && !failure.is_lock_wait();
                if has_hope && tried.made < self.ladder.attempts_in_place(item.heard.came) {
                    item.heard.log_retried(self, tried.class, &tried.message, item.heard.history.attempts + tried.made);
                    count_retried(item.heard, tried.class);
                    again.push(item);
                } else {
                    over.push(item.heard.failed(tried));
                }
            }
            delivered += self.move_on(&over).await?;
            left.sort_unstable_by_key(|item| item.place);
            if !again.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        Ok(delivered)
    }

    /// The same with what this member has claimed for some time. While what the group stands on is away, it is
    /// waited for for so long: given up, it would lie until the claim has run out, though all is well again.
    pub(crate) async fn work_on_claimed(&self, heard: &[Heard<'_>], claimed: Duration) -> Result<Delivered, Stalled> {
        let (claimed_at, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.work(heard).await {
                Err(stalled) if stalled.death().is_none() && claimed_at.elapsed() + pause < claimed => {
                    if pause == FIRST_PAUSE {
                        warn!(error = chain(&stalled), "what was claimed waits");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// One attempt at each, first at what failed before: it isn't to take down what is behind it.
    async fn pass<'h>(&self, [again, left]: [Vec<Item<'h>>; 2]) -> Result<Pass<'h>, Stalled> {
        let mut pass = Pass::default();
        let mut conflicts = 0;
        pass.fail_all(self.call_remotes(&again).await?);
        let left = pass.without_held(left);
        pass.fail_all(self.call_remotes(&left).await?);
        let mut parts = vec![left, again];
        let mut locks = Locks::Patiently;
        while let Some(part) = parts.pop() {
            let mut part = pass.without_held(part);
            if part.is_empty() {
                continue;
            }
            let outcome = self.attempt(&part, locks).await?;
            if outcome.as_ref().is_err_and(Failure::is_lock_wait) {
                locks = locks.max(if part.len() > 1 { Locks::PartsInBrief } else { Locks::InBrief });
            }
            match outcome {
                Ok(done) => pass.delivered += done,
                Err(failure) if failure.is_conflict() && conflicts == MAX_CONFLICTS => {
                    return Err(Stalled(chain(&failure).into()));
                }
                Err(failure) if failure.is_conflict() => {
                    conflicts += 1;
                    counter!("event_conflicts_total").increment(1);
                    pass.fail_all(self.call_remotes(&part).await?);
                    parts.push(part);
                }
                Err(failure) if part.len() > 1 && museum::is_back(Bug::BatchPoisoned) => {
                    let all = part.into_iter().map(|item| (item, Transient::new("batch", chain(&failure)).into()));
                    pass.fail_all(all.collect());
                }
                Err(_) if part.len() > 1 && pass.finds_mostly_failures() => {
                    parts.extend(part.into_iter().rev().map(|item| vec![item]));
                }
                Err(_) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(failure) => pass.fail(part[0], failure),
            }
        }
        Ok(pass)
    }
}

impl<'h> Pass<'h> {
    fn fail(&mut self, item: Item<'h>, failure: Failure) {
        self.keys.extend(item.heard.order_key());
        self.events.extend(item.heard.event().map(|event| event.id));
        self.failed.push((item, failure));
    }

    fn fail_all(&mut self, failed: Vec<(Item<'h>, Failure)>) {
        for (item, failure) in failed {
            self.fail(item, failure);
        }
    }

    /// Halving finds few among many; among many failures it only costs.
    const fn finds_mostly_failures(&self) -> bool {
        self.failed.len() >= MANY_FAILURES && self.failed.len() > self.delivered.applied
    }

    /// The part without those that failed in this pass, and those held back behind them.
    fn without_held(&mut self, part: Vec<Item<'h>>) -> Vec<Item<'h>> {
        if self.failed.is_empty() {
            return part;
        }
        let failed: HashSet<usize> = self.failed.iter().map(|(item, _)| item.place).collect();
        let is_held = |item: &Item<'h>| {
            item.heard.order_key().is_some_and(|key| self.keys.contains(&key))
                || item.heard.event().is_some_and(|event| self.events.contains(&event.id))
        };
        let (held, free): (Vec<_>, Vec<_>) =
            part.into_iter().filter(|item| !failed.contains(&item.place)).partition(is_held);
        self.behind.extend(held);
        free
    }
}

/// Events, and what is none.
fn tell_apart<'h>(heard: &'h [Heard<'h>]) -> (Vec<Item<'h>>, Vec<Failed<'h>>) {
    let (mut events, mut refused) = (Vec::with_capacity(heard.len()), Vec::new());
    for (place, heard) in heard.iter().enumerate() {
        match &heard.reading {
            Reading::Event { .. } => events.push(Item { place, heard }),
            Reading::Refused { class, message } => {
                let attempts = heard.history.attempts + 1;
                let first_failed_at = heard.history.first_failed_at.unwrap_or_else(Utc::now);
                let trouble = Trouble::new(class, message, attempts, first_failed_at);
                refused.push(Failed { heard, trouble, hope: Hope::None });
            }
        }
    }
    (events, refused)
}

fn note<'t>(tries: &'t mut Option<Tries>, failure: &Failure) -> &'t Tries {
    let (made, first_failed_at) = tries.as_ref().map_or((0, Utc::now()), |tries| (tries.made, tries.first_failed_at));
    tries.insert(Tries {
        made: made + 1,
        first_failed_at,
        class: failure.class(),
        message: chain(failure),
        hope: failure.hope(),
    })
}

fn count_retried(heard: &Heard<'_>, class: &'static str) {
    counter!("event_retries_total", "topic" => heard.record.event_topic().to_owned(), "class" => class).increment(1);
}

impl Heard<'_> {
    fn failed(&self, tries: &Tries) -> Failed<'_> {
        let attempts = self.history.attempts + tries.made;
        let first_failed_at = self.history.first_failed_at.unwrap_or(tries.first_failed_at);
        let trouble = Trouble::new(tries.class, &tries.message, attempts, first_failed_at);
        Failed { heard: self, trouble, hope: tries.hope }
    }
}
