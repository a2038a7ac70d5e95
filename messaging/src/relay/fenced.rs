//! The way of rows for compacted topics: through a transactional producer.
//!
//! There a late duplicate would stay for ever, as the latest record of its key. A relay that takes over
//! starts the same `transactional.id` anew before it sends the first row, which fences the old relay's
//! producer: nothing of it can still arrive. These topics are small (catalogues), so a transaction per
//! batch is cheap enough.
//!
//! **A producer sends only rows that were claimed after it started.** A relay that was frozen wakes with
//! rows in hand that another has sent long since, newer ones after them. Its producer is fenced; if it
//! started another for these rows, they would arrive after all. They are given back instead, and claimed
//! again if they are still there.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use service_runtime::{Tasks, settings::KafkaSettings};
use tokio::sync::mpsc;

use super::{
    barred::Refused,
    claim::Row,
    pipeline::{Ack, Outcome, headers},
};
use crate::{kafka, topics::Names};

/// How long starting, committing or aborting a transaction may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The most rows of one transaction.
const MAX_BATCH: usize = 500;

/// Hands rows to the thread that publishes them; once nobody hears its acks, it ends after the batch at
/// hand.
pub(super) struct Fenced {
    rows: mpsc::UnboundedSender<Sent>,
    started: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

/// A row, with the producer at whose time it was claimed.
struct Sent {
    claimed_at: Generation,
    row: Row,
    /// In a transaction of its own: something is to be found out by it.
    alone: bool,
}

/// Which producer of this relay's time as leader, from 1 on. The first rows find none, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Fenced {
    /// `name`: of its thread, as a task.
    pub(super) fn new(
        settings: &KafkaSettings,
        names: &Names,
        database: &str,
        acks: mpsc::UnboundedSender<Ack>,
        (tasks, name): (&Tasks, &'static str),
    ) -> anyhow::Result<Self> {
        let (rows, waiting) = mpsc::unbounded_channel();
        let mut config = kafka::producer(settings);
        config.remove("message.timeout.ms");
        config
            .set("transactional.id", names.topic(&format!("outbox-relay.{database}")))
            .set("transaction.timeout.ms", "20000")
            .set("message.timeout.ms", "15000");
        let started = Arc::<AtomicU64>::default();
        let publisher = Publisher { config, names: names.clone(), producer: None, started: Arc::clone(&started) };
        // Transactions are blocking calls; a thread of their own keeps them off the runtime.
        let thread = tasks.thread(name, move || publisher.run(waiting, &acks))?;
        Ok(Self { rows, started, thread })
    }

    /// Whether its thread is gone: by a panic, as nobody has told it to end.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// To be asked before rows are claimed.
    pub(super) fn generation(&self) -> Generation {
        Generation(self.started.load(Ordering::Acquire))
    }

    /// Sends the row, if the producer is still that of the generation at which it was claimed; `alone` in its transaction.
    pub(super) fn send(&self, claimed_at: Generation, row: Row, alone: bool) {
        // The pipeline finds out when nobody is there to take it.
        let _ = self.rows.send(Sent { claimed_at, row, alone });
    }
}

struct Publisher {
    config: rdkafka::ClientConfig,
    names: Names,
    /// Made when the first row comes: starting it is what fences the relay before.
    producer: Option<BaseProducer<FirstFailure>>,
    started: Arc<AtomicU64>,
}

/// Why a transaction failed, and by which row, as far as that is known.
struct Failure {
    error: KafkaError,
    row: Option<i64>,
}

impl Failure {
    fn is_refusal(&self) -> bool {
        Refused::of(&self.error).is_some()
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self { error, row: None }
    }
}

/// The first record that was refused, or else the first that wasn't taken, and why: of its transaction Kafka often only says
/// that it is inconsistent.
#[derive(Default)]
struct FirstFailure(Mutex<Option<Failure>>);

impl FirstFailure {
    fn note(&self, failure: Failure) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|first| failure.is_refusal() && !first.is_refusal()) {
            *first = Some(failure);
        }
    }

    /// What a transaction failed by that ended so.
    fn or(&self, said: Failure) -> Failure {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.filter(|first| first.is_refusal() || !said.is_refusal()).unwrap_or(said)
    }
}

impl ClientContext for FirstFailure {}

impl ProducerContext for FirstFailure {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<i64>) {
        if let Err((error, _)) = result {
            self.note(Failure { error: error.clone(), row: Some(*id) });
        }
    }
}

impl Publisher {
    fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Sent>, acks: &mpsc::UnboundedSender<Ack>) {
        let mut batch = Vec::new();
        while waiting.blocking_recv_many(&mut batch, MAX_BATCH) > 0 && !acks.is_closed() {
            for together in batch.chunk_by(|one, next| !one.alone && !next.alone) {
                self.publish_together(together, acks);
            }
            batch.clear();
        }
    }

    fn publish_together(&mut self, rows: &[Sent], acks: &mpsc::UnboundedSender<Ack>) {
        let (mine, older) = self.of_this_producer(rows);
        let outcome = if self.producer.is_none() { self.start().map_err(Failure::from) } else { self.publish(&mine) };
        if outcome.is_err() {
            // Whatever state the transaction is in, a new producer begins clean.
            self.producer = None;
        }
        let of_mine = |row: &Row| match &outcome {
            Ok(()) => Outcome::Published,
            // Whoever was in one transaction with what failed isn't to blame.
            Err(failure) if failure.row.is_some_and(|failed| failed != row.id) => Outcome::GivenBack,
            Err(failure) => Outcome::Failed(failure.error.clone()),
        };
        let of_older = match &outcome {
            Err(failure) if failure.row.is_none() => Outcome::Failed(failure.error.clone()),
            Ok(()) | Err(_) => Outcome::GivenBack,
        };
        for row in mine {
            let _ = acks.send(Ack { id: row.id, outcome: of_mine(row) });
        }
        for row in older {
            let _ = acks.send(Ack { id: row.id, outcome: of_older.clone() });
        }
    }

    /// Rows that were claimed since the producer started, and those that were claimed before.
    fn of_this_producer<'r>(&self, rows: &'r [Sent]) -> (Vec<&'r Row>, Vec<&'r Row>) {
        let now = Generation(self.started.load(Ordering::Acquire));
        let (mut mine, mut older) = (Vec::new(), Vec::new());
        for Sent { claimed_at, row, .. } in rows {
            let of_now = self.producer.is_some() && *claimed_at == now;
            if of_now { mine.push(row) } else { older.push(row) }
        }
        (mine, older)
    }

    fn start(&mut self) -> Result<(), KafkaError> {
        let producer: BaseProducer<FirstFailure> = self.config.create_with_context(FirstFailure::default())?;
        producer.init_transactions(TRANSACTION_TIMEOUT)?;
        self.producer = Some(producer);
        self.started.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn publish(&self, rows: &[&Row]) -> Result<(), Failure> {
        let Some(producer) = self.producer.as_ref().filter(|_| !rows.is_empty()) else { return Ok(()) };
        producer.begin_transaction()?;
        for row in rows {
            let topic = self.names.topic(&row.topic);
            let mut record =
                BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic, Box::new(row.id)).headers(headers(row));
            (record.key, record.payload) = (row.key.as_deref(), row.payload.as_deref());
            producer.send(record).map_err(|(error, _)| Failure { error, row: Some(row.id) })?;
        }
        let committed = producer.commit_transaction(TRANSACTION_TIMEOUT);
        committed.map_err(|error| producer.context().or(error.into()))
    }
}
