//! The two roads of an event: straight to its topic, or diverted.
//!
//! Every event gets a number when it sets out, under the same lock under which its road is chosen. What
//! comes back from Kafka is sorted by it, so that dead letters are written in the order in which their
//! events were published. The direct road ends with its producer, and begins again with a new one: what a
//! purged producer would send next could be out of sequence.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common_events::EventId;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use service_runtime::settings::KafkaSettings;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::warn;

use super::{Kept, NotKept, headers};
use crate::kafka;

/// How many events may be on their way to Kafka; one more is diverted.
const MAX_ON_THE_WAY: usize = 10_000;
/// How many may wait to be written as dead letters; one more isn't kept. More than can be on their way.
const MAX_DIVERTED: usize = 2 * MAX_ON_THE_WAY;
/// How long events wait for brokers that were all lost a moment ago.
const WITHOUT_BROKERS: Duration = Duration::from_millis(250);
/// How long a purged producer may take to report what it held.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// An event, ready to be sent.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) event_id: EventId,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) traceparent: String,
}

/// An event that Kafka didn't take.
#[derive(Debug)]
pub(super) struct Diverted {
    pub(super) number: u64,
    pub(super) letter: Letter,
    /// Why, in words.
    pub(super) error: String,
    /// Whether Kafka was given it.
    sent: Sent,
    reply: Reply,
    _undecided: Undecided,
}

/// Counts a diverted event until it is decided whether it is kept.
#[derive(Debug)]
struct Undecided(Arc<AtomicUsize>);

impl Undecided {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether somebody was given the event, who may have kept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Never,
    Perhaps,
}

type Reply = oneshot::Sender<Result<Kept, NotKept>>;

impl Diverted {
    pub(super) fn kept(self) {
        // Who asked may have stopped waiting.
        let _ = self.reply.send(Ok(Kept::AsDeadLetter));
    }

    /// It couldn't be kept as a dead letter either; `written` says whether it may be one after all.
    pub(super) fn not_kept(self, why: &str, written: Sent) {
        let said = format!("{}; {why}", self.error);
        let outcome = match (self.sent, written) {
            (Sent::Never, Sent::Never) => NotKept::NeverSent(said),
            (Sent::Perhaps, _) | (_, Sent::Perhaps) => NotKept::Unknown(said),
        };
        let _ = self.reply.send(Err(outcome));
    }
}

/// What is remembered of an event on its way to Kafka.
pub(super) struct OnTheWay {
    number: u64,
    event_id: EventId,
    traceparent: String,
    reply: Reply,
}

/// Tells who waits what became of his event, or diverts it.
#[derive(Clone)]
pub(super) struct Reports {
    diverted: mpsc::Sender<Diverted>,
    /// How many were diverted so far, and how many of them nothing is known about yet.
    turned: Arc<AtomicU64>,
    undecided: Arc<AtomicUsize>,
    brokers_lost: Arc<Notify>,
}

impl Reports {
    fn divert(&self, event: OnTheWay, letter: Letter, error: String, sent: Sent) {
        let undecided = Undecided::one_more(&self.undecided);
        self.turned.fetch_add(1, Ordering::AcqRel);
        let diverted =
            Diverted { number: event.number, letter, error, sent, reply: event.reply, _undecided: undecided };
        if let Err(full) = self.diverted.try_send(diverted) {
            full.into_inner().not_kept("too many dead letters wait to be written", Sent::Never);
        }
    }
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.brokers_lost.notify_one();
        }
        warn!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<OnTheWay>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Box<OnTheWay>) {
        match result {
            Ok(_) => {
                let _ = event.reply.send(Ok(Kept::OnTopic));
            }
            // librdkafka knows more about which of these was never sent; it isn't told here, so none counts as such.
            Err((error, message)) => {
                let letter = Letter {
                    event_id: event.event_id,
                    key: message.key().unwrap_or_default().to_vec(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    traceparent: event.traceparent.clone(),
                };
                self.divert(*event, letter, error.to_string(), Sent::Perhaps);
            }
        }
    }
}

pub(super) struct Road {
    config: ClientConfig,
    reports: Reports,
    /// The direct road, while it is open.
    direct: RwLock<Option<ThreadedProducer<Reports>>>,
    /// How many events set out.
    set_out: AtomicU64,
}

impl Road {
    /// The direct road, open; and what comes back from it.
    pub(super) fn open(
        settings: &KafkaSettings,
        timeout: Duration,
    ) -> Result<(Self, mpsc::Receiver<Diverted>), KafkaError> {
        let (diverted, waiting) = mpsc::channel(MAX_DIVERTED);
        let config = kafka::direct_producer(settings, timeout, MAX_ON_THE_WAY);
        let (turned, undecided, brokers_lost) = <_>::default();
        let reports = Reports { diverted, turned, undecided, brokers_lost };
        let direct = RwLock::new(Some(config.create_with_context(reports.clone())?));
        Ok((Self { config, reports, direct, set_out: 0.into() }, waiting))
    }

    /// Sends the letter on the road that is open, and waits for what becomes of it.
    pub(super) async fn take(&self, full_topic: &str, letter: Letter) -> Result<Kept, NotKept> {
        let (reply, outcome) = oneshot::channel();
        self.set_out(full_topic, letter, reply);
        let gone = |_| NotKept::Unknown("the publisher is stopping".to_owned());
        outcome.await.unwrap_or_else(|error| Err(gone(error)))
    }

    fn set_out(&self, full_topic: &str, letter: Letter, reply: Reply) {
        let direct = self.direct.read().unwrap_or_else(PoisonError::into_inner);
        let number = self.set_out.fetch_add(1, Ordering::Relaxed);
        let event = OnTheWay { number, event_id: letter.event_id, traceparent: letter.traceparent.clone(), reply };
        let Some(producer) = &*direct else {
            let why = "dead letters of this topic wait for Kafka".to_owned();
            self.reports.divert(event, letter, why, Sent::Never);
            return;
        };
        let record = BaseRecord::with_opaque_to(full_topic, Box::new(event))
            .key(&letter.key)
            .payload(&letter.payload)
            .headers(headers(&letter.traceparent));
        if let Err((error, record)) = producer.send(record) {
            let event = *record.delivery_opaque;
            self.reports.divert(event, letter, error.to_string(), Sent::Never);
        }
    }

    /// Asks for the topic, so that the first event needn't. Blocks.
    pub(super) fn learn(&self, full_topic: &str) {
        if let Some(producer) = &*self.direct.read().unwrap_or_else(PoisonError::into_inner) {
            // Without an answer the first event asks.
            let _ = producer.client().fetch_metadata(Some(full_topic), LAST_REPORTS);
        }
    }

    /// Ends when no broker can be reached any more, and events wait for one. They needn't wait out their time.
    pub(super) async fn brokers_lost(&self) {
        loop {
            self.reports.brokers_lost.notified().await;
            tokio::time::sleep(WITHOUT_BROKERS).await;
            // Idle connections are closed, too: then nobody waits.
            if self.holds_events() {
                return;
            }
        }
    }

    fn holds_events(&self) -> bool {
        let direct = self.direct.read().unwrap_or_else(PoisonError::into_inner);
        direct.as_ref().is_some_and(|producer| producer.in_flight_count() > 0)
    }

    /// Closes the direct road. When this returns, what was on its way has arrived, or has come back. Blocks.
    pub(super) fn close(&self) {
        let closed = self.direct.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(producer) = closed else { return };
        warn!("Kafka doesn't take admissions in time: they are kept as dead letters until it does");
        producer.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = producer.flush(LAST_REPORTS) {
            warn!(%error, "a purged producer still holds events: their outcome is unknown");
        }
    }

    /// Whether events are diverted.
    pub(super) fn is_closed(&self) -> bool {
        self.direct.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// How many events were diverted so far, once it is known of all whether they are kept: to be asked
    /// before the backlog is looked at, and handed to [`Road::reopen`].
    pub(super) fn turned(&self) -> Option<u64> {
        let turned = self.reports.turned.load(Ordering::Acquire);
        (self.reports.undecided.load(Ordering::Acquire) == 0).then_some(turned)
    }

    /// Opens the direct road again, unless one more event was diverted since `seen`: it is part of a backlog
    /// that nobody has looked at.
    pub(super) fn reopen(&self, seen: u64) -> Result<(), KafkaError> {
        let producer = self.config.create_with_context(self.reports.clone())?;
        let mut direct = self.direct.write().unwrap_or_else(PoisonError::into_inner);
        if self.turned() == Some(seen) && direct.is_none() {
            *direct = Some(producer);
            tracing::info!("the backlog of admissions is worked off: they go straight to their topic again");
        }
        Ok(())
    }

    /// Waits until what is on its way has arrived, or `at_most` so long. Blocks.
    pub(super) fn flush(&self, at_most: Duration) -> Result<(), KafkaError> {
        match &*self.direct.read().unwrap_or_else(PoisonError::into_inner) {
            Some(producer) => producer.flush(at_most),
            None => Ok(()),
        }
    }
}
