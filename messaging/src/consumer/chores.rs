//! What a member does beside its partitions: followers are drained, parked events tried, alarms told, old
//! days forgotten. All of it is found in the database, so it doesn't matter which member does it, nor that
//! one died in the middle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metrics::gauge;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Group, Stalled};

/// How often drains are looked for that nobody here was told of: another member released them, or died.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often parked events are looked at, at least: none is to be a second late. More often when batches follow
/// sooner.
const PARKED_EVERY: Duration = Duration::from_millis(500);
/// How often alarms are looked for that nobody here was told of.
const ALARMS_EVERY: Duration = Duration::from_secs(5);
/// How often day partitions past the maximum age are looked for.
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// How often what waits is counted.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// Does them all until it is aborted; `failed` is cancelled if one ends.
pub(super) async fn run(group: Arc<Group>, failed: CancellationToken) {
    let mut chores = JoinSet::new();
    chores.spawn(drain(Arc::clone(&group)));
    chores.spawn(try_parked(Arc::clone(&group)));
    chores.spawn(tell_alarms(Arc::clone(&group)));
    chores.spawn(forget_old(Arc::clone(&group)));
    chores.spawn(measure(group));
    // None of them ends but by a panic.
    if let Some(Err(error)) = chores.join_next().await {
        tracing::error!(%error, "a chore of the consumer ended");
        failed.cancel();
    }
}

/// Says once that a chore stands still, and once that it goes on.
struct Saying {
    chore: &'static str,
    stands_still: bool,
}

impl Saying {
    const fn of(chore: &'static str) -> Self {
        Self { chore, stands_still: false }
    }

    fn note<T>(&mut self, outcome: Result<T, Stalled>) -> Option<T> {
        match outcome {
            Ok(done) => {
                if std::mem::take(&mut self.stands_still) {
                    tracing::info!(chore = self.chore, "goes on");
                }
                Some(done)
            }
            Err(stalled) => {
                if !std::mem::replace(&mut self.stands_still, true) {
                    tracing::warn!(chore = self.chore, error = service_runtime::chain(&stalled), "stands still");
                }
                None
            }
        }
    }
}

async fn drain(group: Arc<Group>) {
    let mut saying = Saying::of("draining what waited");
    loop {
        saying.note(group.drain().await);
        tokio::select! {
            () = group.released.notified() => {}
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
    }
}

async fn try_parked(group: Arc<Group>) {
    let mut saying = Saying::of("trying what is parked");
    let every = PARKED_EVERY.min(group.ladder.parked_interval / 2).max(Duration::from_millis(10));
    loop {
        saying.note(group.try_parked().await);
        tokio::time::sleep(every).await;
    }
}

async fn tell_alarms(group: Arc<Group>) {
    let mut saying = Saying::of("telling alarms");
    loop {
        saying.note(group.tell_alarms().await);
        tokio::select! {
            () = group.alarm.woken() => {}
            () = tokio::time::sleep(ALARMS_EVERY) => {}
        }
    }
}

async fn forget_old(group: Arc<Group>) {
    let mut saying = Saying::of("forgetting old days");
    loop {
        if let Some(dropped @ 1..) = saying.note(group.forget_old().await) {
            tracing::info!(dropped, "dropped day partitions past the maximum age");
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

/// Every member tells the same numbers: they are the group's. The outbox is told of here, and not by the relay: one that
/// is dead tells nothing.
async fn measure(group: Arc<Group>) {
    let mut saying = Saying::of("counting what waits");
    let mut saying_of_outbox = Saying::of("counting what waits in the outbox");
    let mut seen = BTreeSet::new();
    loop {
        if let Some(waiting) = saying_of_outbox.note(group.count_outbox().await) {
            tell_outbox(&mut seen, waiting);
        }
        if let Some(counts) = saying.note(group.count_set_aside().await) {
            let gauges =
                [gauge!("keys_waiting"), gauge!("events_waiting"), gauge!("events_parked"), gauge!("dead_letters")];
            for (gauge, count) in gauges.into_iter().zip(counts) {
                #[expect(clippy::cast_precision_loss, reason = "a count that large is exact enough")]
                gauge.set(count as f64);
            }
        }
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

/// A topic of which nothing waits any more is told of as empty.
#[expect(clippy::cast_precision_loss, reason = "a count that large is exact enough")]
fn tell_outbox(seen: &mut BTreeSet<String>, waiting: Vec<(String, i64, f64)>) {
    let mut waiting: BTreeMap<String, (i64, f64)> =
        waiting.into_iter().map(|(topic, rows, seconds)| (topic, (rows, seconds))).collect();
    seen.extend(waiting.keys().cloned());
    for topic in &*seen {
        let (rows, seconds) = waiting.remove(topic).unwrap_or_default();
        gauge!("outbox_rows_waiting", "topic" => topic.clone()).set(rows as f64);
        gauge!("outbox_oldest_seconds", "topic" => topic.clone()).set(seconds.max(0.0));
    }
}
