//! What a member does beside its partitions: followers are drained, parked events tried, alarms told, old
//! days forgotten. All of it is found in the database, so it doesn't matter which member does it, nor that
//! one died in the middle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use metrics::gauge;
use service_runtime::{
    Tasks,
    tasks::{Next, Rounds},
};

use crate::delivery::Group;

/// How often drains are looked for that nobody here was told of: another member released them, or died.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often parked events are looked at, at least: none is to be a second late. More often when batches follow
/// sooner.
const PARKED_EVERY: Duration = Duration::from_millis(500);
/// How often alarms are looked for that nobody here was told of.
const ALARMS_EVERY: Duration = Duration::from_secs(5);
/// How often day partitions past the maximum age are looked for.
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// How often dead letters are looked for that were applied since.
const CLOSE_EVERY: Duration = Duration::from_mins(1);
/// How often what waits is counted.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// Does them all until the group of tasks is stopped.
pub(super) fn start(tasks: &Tasks, group: &Arc<Group>) {
    let released = Rounds::every("drain", SWEEP_EVERY).woken_by(Arc::clone(&group.released));
    tasks.repeat(released, Arc::clone(group), |group| drain(group).boxed());

    let parked_every = PARKED_EVERY.min(group.ladder.parked_interval / 2).max(Duration::from_millis(10));
    tasks.repeat(Rounds::every("parked-events", parked_every), Arc::clone(group), |group| try_parked(group).boxed());

    let alarms = Rounds::every("dead-letter-alarms", ALARMS_EVERY).woken_by(group.alarm.due());
    tasks.repeat(alarms, Arc::clone(group), |group| tell_alarms(group).boxed());

    tasks.repeat(Rounds::every("old-days", FORGET_EVERY), Arc::clone(group), |group| forget_old(group).boxed());
    tasks.repeat(Rounds::every("read-after-all", CLOSE_EVERY), Arc::clone(group), |group| close_applied(group).boxed());
    tasks.repeat(Rounds::every("set-aside-counts", MEASURE_EVERY), Arc::clone(group), |group| measure(group).boxed());

    let outbox = (Arc::clone(group), BTreeSet::new());
    tasks.repeat(Rounds::every("outbox-counts", MEASURE_EVERY), outbox, |(group, seen)| {
        measure_outbox(group, seen).boxed()
    });
}

async fn drain(group: &Group) -> anyhow::Result<Next> {
    Ok(group.drain_some().await?.map_or(Next::Later, |_| Next::Now))
}

async fn try_parked(group: &Group) -> anyhow::Result<Next> {
    Ok(group.try_some_parked().await?.map_or(Next::Later, |_| Next::Now))
}

async fn tell_alarms(group: &Group) -> anyhow::Result<Next> {
    Ok(if group.tell_alarms().await? > 0 { Next::Now } else { Next::Later })
}

async fn forget_old(group: &Group) -> anyhow::Result<Next> {
    let dropped = group.forget_old().await?;
    if dropped > 0 {
        tracing::info!(dropped, "dropped day partitions past the maximum age");
    }
    Ok(Next::Later)
}

async fn close_applied(group: &Group) -> anyhow::Result<Next> {
    let closed = group.close_applied().await?;
    if closed > 0 {
        tracing::info!(closed, "closed dead letters of events that were read after all, and applied");
    }
    Ok(Next::Later)
}

/// Every member tells the same numbers: they are the group's.
async fn measure(group: &Group) -> anyhow::Result<Next> {
    let counts = group.count_set_aside().await?;
    let gauges = [gauge!("keys_waiting"), gauge!("events_waiting"), gauge!("events_parked"), gauge!("dead_letters")];
    for (gauge, count) in gauges.into_iter().zip(counts) {
        #[expect(clippy::cast_precision_loss, reason = "a count that large is exact enough")]
        gauge.set(count as f64);
    }
    Ok(Next::Later)
}

/// The same of what waits in the outbox, by all topics that were `seen` there. It is told of here, and not by the
/// relay: one that is dead tells nothing.
async fn measure_outbox(group: &Group, seen: &mut BTreeSet<String>) -> anyhow::Result<Next> {
    tell_outbox(seen, group.count_outbox().await?);
    Ok(Next::Later)
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
