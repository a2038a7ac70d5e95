//! The one writer of log and projection. Partitions are read side by side, and each hands over what it read;
//! what comes together is written together, in one transaction: so a saga whose events lie on a dozen
//! partitions is written once or twice, and the monitor costs little beside the services.
//!
//! | it dies | then |
//! |---|---|
//! | before the COMMIT | nothing happened; the records are read again |
//! | after it, before the offsets | they are read again; the log has those places |

use std::{
    collections::{BTreeMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use messaging::{Record, Tx};
use metrics::{counter, describe_counter, histogram};
use service_runtime::{
    Pool, Tasks,
    tasks::{Next, Rounds},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::reading::{self, Entry, Hop, Meaning};
use crate::{
    domain::{Mark, Place},
    store::{
        self, hops,
        positions::{Position, Positions, update_positions},
        sagas,
    },
};

/// How long what was read waits for more to be written with it.
const LINGER: Duration = Duration::from_millis(40);
/// The most records of one transaction.
const MAX_BATCH: usize = 4_000;
/// … and of their payloads, in bytes.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Batches of partitions that wait to be written; each partition has one under way at most.
const QUEUE: usize = 256;

/// Why records weren't written down; they are read again.
#[derive(Debug, thiserror::Error)]
#[error("not written down")]
pub struct NotRecorded(#[source] Arc<anyhow::Error>);

/// What one partition read, and whom to tell when it is written.
struct Handed {
    entries: Vec<Entry>,
    written: oneshot::Sender<Result<(), NotRecorded>>,
}

/// Hands records to the writer. Cheap to share; the writer ends with the last of them.
pub struct Recorder {
    queue: mpsc::Sender<Handed>,
    pool: Pool,
}

impl Recorder {
    /// Starts the writer of this database.
    pub fn start(tasks: &Tasks, pool: Pool) -> Self {
        describe_counter!("sagas_unreadable_total", "Times that what is kept of a saga could not be read.");
        describe_counter!(
            "events_newer_total",
            "Events of a newer version than this release reads, by topic; kept for one that does."
        );
        let (queue, handed) = mpsc::channel(QUEUE);
        let writer = Writer { pool: pool.clone(), handed, first: None };
        // Partitions hand over until their workers have ended.
        let tasks = tasks.group();
        tasks.repeat_on_demand(
            Rounds::on_demand("recorder"),
            writer,
            |writer| writer.wait().boxed(),
            |writer| writer.write_next().boxed(),
        );
        Self { queue, pool }
    }

    /// Writes records of one partition down; returns when they are committed. Again for the same records:
    /// nothing happens.
    ///
    /// # Errors
    /// When the database doesn't take them; never because of what they hold.
    pub fn record<'r>(&'r self, records: &'r [Record]) -> BoxFuture<'r, Result<(), NotRecorded>> {
        Box::pin(async move {
            let now = Utc::now();
            let entries = records.iter().map(|record| reading::read(record, now)).collect();
            let (written, answer) = oneshot::channel();
            let gone = || NotRecorded(Arc::new(anyhow::anyhow!("the writer is gone")));
            self.queue.send(Handed { entries, written }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl Recorder {
    /// Notes that a partition is read up to an offset that no record is before. What was recorded of it before is
    /// committed by then.
    ///
    /// # Errors
    /// When the database doesn't take it.
    pub fn pass<'r>(
        &'r self,
        topic: &'r str,
        partition: i32,
        next_offset: i64,
    ) -> BoxFuture<'r, Result<(), NotRecorded>> {
        Box::pin(async move {
            let here = Position { next_offset, last_at: DateTime::UNIX_EPOCH };
            let passed = Positions::from([((topic.to_owned(), partition), here)]);
            note_positions(&self.pool, &passed).await.map_err(|error| NotRecorded(Arc::new(error)))
        })
    }
}

async fn note_positions(pool: &Pool, positions: &Positions) -> anyhow::Result<()> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    update_positions(&tx, positions).await?;
    Ok(tx.commit().await?)
}

impl Handed {
    fn bytes(&self) -> usize {
        self.entries.iter().filter_map(|entry| entry.payload.as_ref()).map(Vec::len).sum()
    }
}

/// What writes down. Those who hand over are told how it went, so what a failed round took isn't lost.
struct Writer {
    pool: Pool,
    handed: mpsc::Receiver<Handed>,
    /// `None` when nobody hands over any more.
    first: Option<Handed>,
}

impl Writer {
    async fn wait(&mut self) -> anyhow::Result<()> {
        self.first = self.handed.recv().await;
        Ok(())
    }

    async fn write_next(&mut self) -> anyhow::Result<Next> {
        let Some(first) = self.first.take() else { return Ok(Next::Never) };
        let until = Instant::now() + LINGER;
        let (mut records, mut bytes) = (first.entries.len(), first.bytes());
        let mut together = vec![first];
        while records < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Ok(Some(next)) = timeout_at(until, self.handed.recv()).await
        {
            records += next.entries.len();
            bytes += next.bytes();
            together.push(next);
        }
        let pool = &self.pool;
        write_together(together, &|entries| {
            let pool = pool.clone();
            async move { write(&pool, entries).await }.boxed()
        })
        .await?;
        Ok(Next::Now)
    }
}

/// What writes entries, all of them or none.
type Write<'w> = dyn for<'e> Fn(&'e [Entry]) -> BoxFuture<'e, anyhow::Result<()>> + Sync + 'w;

/// What can't be written together is written partition by partition: one must not hold up the others. A panic is a
/// failure like another.
///
/// # Errors
/// When nothing was written; those who wait are told all the same.
async fn write_together(mut together: Vec<Handed>, write: &Write<'_>) -> Result<(), NotRecorded> {
    let counts: Vec<usize> = together.iter().map(|handed| handed.entries.len()).collect();
    let entries: Vec<Entry> = together.iter_mut().flat_map(|handed| std::mem::take(&mut handed.entries)).collect();
    let whole = caught(write, &entries).await;
    let mut all = whole.clone();
    let mut left = &entries[..];
    for (handed, count) in together.into_iter().zip(&counts) {
        let (own, others) = left.split_at(*count);
        left = others;
        let outcome = match &whole {
            Err(_) if counts.len() > 1 => caught(write, own).await,
            whole => whole.clone(),
        };
        if outcome.is_ok() {
            all = Ok(());
        }
        // Who doesn't wait any more lost the partition; the log knows the places.
        let _ = handed.written.send(outcome.map_err(NotRecorded));
    }
    all.map_err(NotRecorded)
}

async fn caught(write: &Write<'_>, entries: &[Entry]) -> Result<(), Arc<anyhow::Error>> {
    let written = AssertUnwindSafe(async { write(entries).await }).catch_unwind().await;
    written.unwrap_or_else(|_| Err(anyhow::anyhow!("writing it down panicked"))).map_err(Arc::new)
}

/// Writes entries down and moves their sagas on.
pub(crate) async fn write(pool: &Pool, entries: &[Entry]) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    store::lock_projection(&tx).await?;
    let now = Utc::now();
    let new = store::log::insert_entries(&tx, entries, now).await?;
    let mut left: HashSet<(String, Place)> = new.clone();
    // The same record twice in one batch is one.
    let fresh: Vec<&Entry> = entries.iter().filter(|entry| left.remove(&(entry.topic.clone(), entry.place))).collect();
    project(&tx, &fresh).await?;
    update_positions(&tx, &positions(entries)).await?;
    tx.commit().await?;
    tell(entries, &fresh, now, started);
    Ok(())
}

/// Moves the sagas of new entries on.
async fn project(tx: &Tx<'_>, fresh: &[&Entry]) -> anyhow::Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let timed: Vec<hops::Timed> = fresh.iter().filter_map(|entry| hop_of(entry)).collect();
    let places: Vec<(&str, Place)> = fresh
        .iter()
        .map(|entry| match &entry.meaning {
            Meaning::Hop(hop) => (&*hop.origin_topic, hop.origin),
            Meaning::Step { .. } | Meaning::Strange { .. } | Meaning::NoSaga => (&*entry.topic, entry.place),
        })
        .collect();
    apply(tx, fresh.iter().copied(), &timed, &places).await
}

fn hop_of(entry: &Entry) -> Option<hops::Timed> {
    match &entry.meaning {
        Meaning::Hop(hop) => Some((entry.occurred_at, hop.clone())),
        Meaning::Step { .. } | Meaning::Strange { .. } | Meaning::NoSaga => None,
    }
}

/// Hops before the sagas, as either may have been heard first.
async fn apply<'e>(
    tx: &Tx<'_>,
    entries: impl Iterator<Item = &'e Entry> + Clone,
    timed: &[(DateTime<Utc>, Hop)],
    places: &[(&str, Place)],
) -> anyhow::Result<()> {
    if !timed.is_empty() {
        hops::update_hops(tx, timed).await?;
    }
    let progress: BTreeMap<String, DateTime<Utc>> = hops::list_progress(tx, places).await?.into_iter().collect();
    let refs = entries.clone().filter_map(|entry| entry.saga().cloned());
    let mut facts = sagas::list_facts(tx, refs).await?;
    for entry in entries {
        let Some(saga) = entry.saga().and_then(|saga| facts.get_mut(saga)) else { continue };
        match &entry.meaning {
            Meaning::Step { step, fact, .. } => saga.take(step.clone(), fact.clone()),
            Meaning::Strange { .. } => saga.take_strange(entry.occurred_at),
            Meaning::NoSaga | Meaning::Hop(_) => {}
        }
        for mark in &entry.marks {
            saga.mark(*mark);
        }
    }
    if !facts.is_empty() {
        sagas::update_facts(tx, &facts, &progress).await?;
    }
    if !progress.is_empty() {
        sagas::update_hop_times(tx, &progress).await?;
    }
    Ok(())
}

fn positions(entries: &[Entry]) -> Positions {
    let mut positions = Positions::new();
    for entry in entries {
        // Without a time that can be believed nothing is known of how far the partition is read.
        let last_at = entry.timestamp.unwrap_or(DateTime::UNIX_EPOCH);
        let here = Position { next_offset: entry.place.offset + 1, last_at };
        let known = positions.entry((entry.topic.clone(), entry.place.partition)).or_insert(here);
        known.next_offset = known.next_offset.max(here.next_offset);
        known.last_at = known.last_at.max(here.last_at);
    }
    positions
}

fn tell(entries: &[Entry], fresh: &[&Entry], now: DateTime<Utc>, started: Instant) {
    for entry in fresh {
        counter!("events_handled_total", "topic" => entry.topic.clone()).increment(1);
        if entry.marks.contains(&Mark::UnknownVersion) {
            counter!("events_newer_total", "topic" => entry.topic.clone()).increment(1);
        }
        let age = (now - entry.occurred_at).to_std().unwrap_or_default();
        histogram!("event_age_seconds", "topic" => entry.topic.clone()).record(age.as_secs_f64());
    }
    let again = entries.len() - fresh.len();
    if again > 0 {
        counter!("event_duplicates_total").increment(again as u64);
    }
    histogram!("event_batch_seconds").record(started.elapsed().as_secs_f64());
}

/// Says it when the log holds events that an older release couldn't read and this one can: a rebuild reads them.
pub async fn tell_of_readable(pool: &Pool) {
    match count_readable(pool).await {
        Ok(0) => {}
        Ok(events) => tracing::warn!(
            events,
            "the log holds events that an older release could not read, and this one can: run saga-monitor rebuild"
        ),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "whether the log holds unread events isn't known"),
    }
}

/// The most events of a newer version that are looked at.
const MAX_NEWER: i64 = 1_000;

/// How many events of the log a rebuild would read that weren't read when they were heard; at most a thousand.
///
/// # Errors
/// What the database answers.
pub async fn count_readable(pool: &Pool) -> anyhow::Result<usize> {
    let newer = store::log::list_newer(&pool.get().await?, MAX_NEWER).await?;
    let is_readable =
        |(record, at): &&(Record, DateTime<Utc>)| !reading::read(record, *at).marks.contains(&Mark::UnknownVersion);
    Ok(newer.iter().filter(is_readable).count())
}

/// How many rows of the log a rebuild takes at a time.
const REBUILD_PAGE: i64 = 4_000;

/// Makes the projection again from the log, in one transaction: who asks meanwhile sees the old one, who hears
/// meanwhile waits. What the detection judges is judged anew in its next round. Returns the rows of the log.
///
/// # Errors
/// What the database answers; then nothing has changed.
pub async fn rebuild(pool: &Pool) -> anyhow::Result<u64> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    tx.execute("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)", &[]).await?;
    store::lock_detection(&tx).await?;
    store::lock_projection(&tx).await?;
    sagas::delete_projection(&tx).await?;
    let (mut after, mut rows) = (0, 0);
    loop {
        let page = store::log::list_past(&tx, after, REBUILD_PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        rows += page.len() as u64;
        let (mut entries, mut timed) = (Vec::new(), Vec::new());
        for (_, past) in page {
            match past {
                store::log::Past::Record { record, recorded_at } => entries.push(reading::read(&record, recorded_at)),
                store::log::Past::Hop { hop, at } => timed.push((at, hop)),
            }
        }
        let places: Vec<(&str, Place)> = entries
            .iter()
            .map(|entry| (&*entry.topic, entry.place))
            .chain(timed.iter().map(|(_, hop)| (&*hop.origin_topic, hop.origin)))
            .collect();
        apply(&tx, entries.iter(), &timed, &places).await?;
    }
    tx.commit().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    /// One record of this partition, and what its reader hears.
    fn handed(partition: i32) -> (Handed, oneshot::Receiver<Result<(), NotRecorded>>) {
        let record = Record {
            topic: "order-created".to_owned(),
            partition,
            offset: 7,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let (written, answer) = oneshot::channel();
        (Handed { entries: vec![reading::read(&record, DateTime::UNIX_EPOCH)], written }, answer)
    }

    /// Panics for partition 0.
    fn write_some(entries: &[Entry]) -> BoxFuture<'_, anyhow::Result<()>> {
        async move {
            assert!(entries.iter().all(|entry| entry.place.partition != 0), "a bug");
            Ok(())
        }
        .boxed()
    }

    #[test]
    fn a_record_that_makes_the_writer_panic_holds_up_its_own_partition_only() {
        let ((poisoned, told), (healthy, also_told)) = (handed(0), handed(1));
        block_on(write_together(vec![poisoned, healthy], &write_some)).expect("one of them is written");
        block_on(told).expect("it is told").expect_err("it panicked");
        block_on(also_told).expect("it is told").expect("it is written");
    }

    #[test]
    fn a_round_that_wrote_nothing_has_failed_and_those_who_wait_are_told_so() {
        let (poisoned, told) = handed(0);
        block_on(write_together(vec![poisoned], &write_some)).expect_err("nothing is written");
        block_on(told).expect("it is told").expect_err("it panicked");
    }
}
