//! One partition's worker: takes what waits, as one batch, applies it, stores the offset.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::poll::Rebalances;
use crate::{delivery::Group, record::Record};

/// The most records of one transaction. Above this, batches win little and hold locks longer.
const MAX_BATCH: usize = 500;
/// Waiting for the service's own database: the first pause, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A partition's worker, as the poll thread holds it.
pub(super) struct Worker {
    records: mpsc::UnboundedSender<Record>,
    waiting: Arc<Waiting>,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What was pushed and isn't applied yet.
#[derive(Default)]
pub(super) struct Waiting {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    fn add(&self, record: &Record) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(record.size(), Ordering::Relaxed);
    }

    fn subtract(&self, batch: &[Record]) {
        self.records.fetch_sub(batch.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(batch.iter().map(Record::size).sum(), Ordering::Relaxed);
    }

    /// Whether more waits than either.
    pub(super) fn is_above(&self, records: usize, bytes: usize) -> bool {
        self.records.load(Ordering::Relaxed) > records || self.bytes.load(Ordering::Relaxed) > bytes
    }
}

/// Where a worker reads, and where it stores offsets.
pub(super) struct Place {
    pub(super) consumer: Arc<BaseConsumer<Rebalances>>,
    /// Full name.
    pub(super) topic: String,
    pub(super) partition: i32,
}

impl Worker {
    pub(super) fn start(runtime: &tokio::runtime::Handle, group: Arc<Group>, place: Place) -> Self {
        let (records, inbox) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let stopping = CancellationToken::new();
        let task = runtime.spawn(run(group, place, inbox, Arc::clone(&waiting), stopping.clone()));
        Self { records, waiting, stopping, task }
    }

    pub(super) fn push(&self, record: Record) {
        self.waiting.add(&record);
        // A worker only ends when it is told to, and then nobody pushes any more.
        let _ = self.records.send(record);
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Lets the batch at hand end, and drops the rest: it is read again by the next owner.
    pub(super) fn tell_to_stop(&self) {
        self.stopping.cancel();
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.task.is_finished()
    }
}

async fn run(
    group: Arc<Group>,
    place: Place,
    mut inbox: mpsc::UnboundedReceiver<Record>,
    waiting: Arc<Waiting>,
    stopping: CancellationToken,
) {
    let mut batch = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            received = inbox.recv_many(&mut batch, MAX_BATCH) => received,
        };
        if received == 0 || !apply(&group, &place, &batch, &stopping).await {
            return;
        }
        waiting.subtract(&batch);
        batch.clear();
    }
}

/// Applies a batch, waiting for the database as long as it takes. False when told to stop meanwhile.
async fn apply(group: &Group, place: &Place, batch: &[Record], stopping: &CancellationToken) -> bool {
    let Some(last) = batch.last() else { return true };
    let mut wait = FIRST_WAIT;
    while let Err(stalled) = group.deliver(batch).await {
        let (topic, partition) = (&place.topic, place.partition);
        if wait == FIRST_WAIT {
            warn!(topic, partition, error = service_runtime::chain(&stalled), "the partition waits");
        }
        tokio::select! {
            () = stopping.cancelled() => return false,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    if wait != FIRST_WAIT {
        info!(topic = place.topic, partition = place.partition, "the partition goes on");
    }
    if let Err(error) = place.consumer.store_offset(&place.topic, place.partition, last.offset) {
        // The partition is somebody else's by now; the inbox knows what was applied.
        debug!(topic = place.topic, partition = place.partition, %error, "offset not stored");
    }
    true
}
