//! One partition's worker: takes what waits and is due, as one batch, applies it, stores the offset. With nothing left
//! it passes what holds no record for anybody, so that its group stands at the end of a partition that is read.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use service_runtime::{
    museum::{self, Bug},
    tasks::Backoff,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{backlog::Backlog, poll::Rebalances};
use crate::{
    delivery::{Delivered, Due, Group, Stalled},
    record::Record,
};

/// The most records of one transaction. Above this, batches win little and hold locks longer.
const MAX_BATCH: usize = 500;
/// Waiting for the service's own database: the first pause, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long the batch at hand may take to end when the partition is to be handed over. Then it is given up,
/// which is a crash as far as anybody can tell; well within `HAND_OVER`, so that two never work on it at once.
const LAST_BATCH: Duration = Duration::from_secs(8);

/// A partition's worker, as the poll thread holds it.
pub(super) struct Worker {
    records: mpsc::UnboundedSender<Record>,
    position: watch::Sender<i64>,
    backlog: Arc<Backlog>,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Where a worker reads, and where it stores offsets.
pub(super) struct Place {
    /// Weak, so that a worker that doesn't end keeps no client from closing.
    pub(super) consumer: Weak<BaseConsumer<Rebalances>>,
    pub(super) full_topic: String,
    /// Without the suite's prefix.
    pub(super) topic: String,
    pub(super) partition: i32,
}

impl Place {
    /// What is tried there again, as long as it takes.
    const fn backoff(&self) -> Backoff<&Self> {
        Backoff::new(self, FIRST_WAIT, LONGEST_WAIT)
    }

    /// The group has everything up to this offset.
    fn store(&self, last: i64) {
        let Some(consumer) = self.consumer.upgrade() else { return };
        if let Err(error) = consumer.store_offset(&self.full_topic, self.partition, last) {
            // The partition is somebody else's by now; the inbox knows what was applied.
            debug!(topic = self.topic, partition = self.partition, %error, "offset not stored");
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {}/{}", self.topic, self.partition)
    }
}

impl Worker {
    pub(super) fn start(runtime: &tokio::runtime::Handle, group: Arc<Group>, place: Place, backlog: Backlog) -> Self {
        let (records, inbox) = mpsc::unbounded_channel();
        let (position, passed) = watch::channel(0);
        let (backlog, stopping) = (Arc::new(backlog), CancellationToken::new());
        #[expect(clippy::disallowed_methods, reason = "the poll thread sees it end by itself, and ends, too")]
        let task = runtime.spawn(run(group, place, Fed { inbox, passed }, Arc::clone(&backlog), stopping.clone()));
        Self { records, position, backlog, stopping, task }
    }

    pub(super) fn push(&self, record: Record) {
        self.backlog.add(&record);
        // A worker that ended by itself is found out by the poll thread.
        let _ = self.records.send(record);
    }

    /// Nothing for the worker lies before this offset, as it has applied everything that it was given.
    pub(super) fn pass(&self, next_offset: i64) {
        self.position.send_if_modified(|known| {
            let is_new = next_offset > *known;
            *known = next_offset.max(*known);
            is_new
        });
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Lets the batch at hand end, and drops the rest: it is read again by the next owner.
    pub(super) fn tell_to_stop(&self) {
        self.stopping.cancel();
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.task.is_finished()
    }
}

/// What the poll thread hands over.
struct Fed {
    inbox: mpsc::UnboundedReceiver<Record>,
    passed: watch::Receiver<i64>,
}

async fn run(group: Arc<Group>, place: Place, mut fed: Fed, backlog: Arc<Backlog>, stopping: CancellationToken) {
    let mut waiting: Vec<Record> = Vec::new();
    let mut next_offset = 0;
    loop {
        if waiting.is_empty() {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                received = fed.inbox.recv_many(&mut waiting, MAX_BATCH) => if received == 0 { return },
                Ok(()) = fed.passed.changed() => {
                    let passed = *fed.passed.borrow_and_update();
                    // What came meanwhile lies behind it.
                    if passed > next_offset {
                        if !pass(&group, &place, passed, &stopping).await {
                            return;
                        }
                        next_offset = passed;
                    }
                    continue;
                }
            }
        }
        let Some(due) = find_due(&group, &place, &waiting, &stopping).await else { return };
        if due.now == 0 {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(due.next_in) => {}
            }
            continue;
        }
        let batch: Vec<Record> =
            if due.now == waiting.len() { std::mem::take(&mut waiting) } else { waiting.drain(..due.now).collect() };
        if !apply(&group, &place, &batch, &stopping).await {
            return;
        }
        next_offset = batch.last().map_or(next_offset, |last| last.offset + 1);
        backlog.subtract(&batch);
    }
}

/// Applies a batch, waiting for the database as long as it takes. False when told to stop meanwhile.
async fn apply(group: &Group, place: &Place, batch: &[Record], stopping: &CancellationToken) -> bool {
    let Some(last) = batch.last() else { return true };
    if museum::is_back(Bug::OffsetBeforeCommit) {
        place.store(last.offset);
    }
    let delivering = place.backoff().until_it_works(|| deliver(group, batch), stopping);
    let late = async {
        stopping.cancelled().await;
        tokio::time::sleep(LAST_BATCH).await;
    };
    let delivered = tokio::select! {
        biased;
        delivered = delivering => delivered.is_some(),
        () = late => false,
    };
    if delivered {
        place.store(last.offset);
    }
    delivered
}

async fn deliver(group: &Group, batch: &[Record]) -> Result<Delivered, Stalled> {
    if museum::is_back(Bug::TwoWorkers) {
        let (one, another) = batch.split_at(batch.len() / 2);
        let (another, one) = tokio::join!(group.deliver(another), group.deliver(one));
        return another.and(one);
    }
    group.deliver(batch).await
}

/// Passes what holds no record. False when told to stop meanwhile.
async fn pass(group: &Group, place: &Place, next_offset: i64, stopping: &CancellationToken) -> bool {
    let note = || group.note_position(&place.topic, place.partition, next_offset);
    let noting = place.backoff().until_it_works(note, stopping);
    // Whoever comes next passes it again.
    let noted = tokio::select! {
        biased;
        () = stopping.cancelled() => false,
        noted = noting => noted.is_some(),
    };
    if noted && !museum::is_back(Bug::EndIsLastRecord) {
        place.store(next_offset - 1);
    }
    noted
}

/// Which of these may be delivered now. `None` when told to stop meanwhile.
async fn find_due(group: &Group, place: &Place, records: &[Record], stopping: &CancellationToken) -> Option<Due> {
    place.backoff().until_it_works(|| group.due(records), stopping).await
}
