//! The two roads of an event: straight to its topic, or diverted.
//!
//! Every event gets a number when it sets out, under the same lock under which its road is chosen. What
//! comes back from Kafka is sorted by it, so that dead letters are written in the order in which their
//! events were published. The direct road ends with its producer, and begins again with a new one: what a
//! purged producer would send next could be out of sequence.
//!
//! It opens again behind the last dead letter. There is no moment without one while events keep coming, so
//! for the last of them newcomers wait, for a bounded time, and are the first on the new road.

use std::{
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common_events::Topic;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer, PurgeConfig},
};
use service_runtime::settings::KafkaSettings;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::{
    Kept, NotKept, headers,
    reports::{Diverted, Letter, OnTheWay, Reply, Reports, Sent},
};
use crate::kafka::{self, PolledProducer};

/// How many events may be on their way to Kafka; one more is diverted.
const MAX_ON_THE_WAY: usize = 10_000;
/// How many may wait to be written as dead letters; one more isn't kept. More than can be on their way.
const MAX_DIVERTED: usize = 2 * MAX_ON_THE_WAY;
/// How long events wait for brokers that were all lost a moment ago.
const WITHOUT_BROKERS: Duration = Duration::from_millis(250);
/// How long newcomers wait for the last dead letters. Then they are diverted, and it is tried again later.
pub(super) const OPENING_AT_MOST: Duration = Duration::from_secs(2);
/// How long a purged producer may take to report what it held.
const LAST_REPORTS: Duration = Duration::from_secs(1);

pub(super) struct Road {
    config: ClientConfig,
    reports: Reports,
    way: RwLock<Way>,
    /// How many events set out.
    set_out: AtomicU64,
}

/// Where an event that sets out goes.
enum Way {
    /// Straight to its topic.
    Direct(PolledProducer<Reports>),
    /// Among the dead letters.
    Closed,
    /// It waits until the direct road is open.
    Opening { since: Instant, waiting: Mutex<Vec<(OnTheWay, Letter)>> },
}

impl Road {
    /// The direct road, open; and what comes back from it.
    pub(super) fn open(
        settings: &KafkaSettings,
        timeout: Duration,
    ) -> Result<(Self, mpsc::Receiver<Diverted>), KafkaError> {
        let (diverted, waiting) = mpsc::channel(MAX_DIVERTED);
        let config = kafka::direct_producer(settings, timeout, MAX_ON_THE_WAY);
        let reports = Reports::to(diverted);
        let way = RwLock::new(Way::Direct(PolledProducer::new(&config, reports.clone())?));
        Ok((Self { config, reports, way, set_out: 0.into() }, waiting))
    }

    /// Sends the letter on the road that is open, and waits for what becomes of it.
    pub(super) async fn take(&self, topic: Topic, full_topic: &str, letter: Letter) -> Result<Kept, NotKept> {
        let (reply, outcome) = oneshot::channel();
        self.set_out(full_topic, letter, Reply::to(reply, topic.name()));
        let gone = |_| NotKept::Unknown("the publisher is stopping".to_owned());
        outcome.await.unwrap_or_else(|error| Err(gone(error)))
    }

    fn set_out(&self, full_topic: &str, letter: Letter, reply: Reply) {
        let way = self.way();
        let number = self.set_out.fetch_add(1, Ordering::Relaxed);
        let event = OnTheWay { number, event_id: letter.event_id, traceparent: letter.traceparent.clone(), reply };
        match &*way {
            Way::Direct(producer) => self.send(producer, full_topic, event, letter),
            Way::Closed => self.divert(event, letter),
            Way::Opening { waiting, .. } => {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.len() < MAX_ON_THE_WAY {
                    waiting.push((event, letter));
                } else {
                    self.divert(event, letter);
                }
            }
        }
    }

    fn send(&self, producer: &PolledProducer<Reports>, full_topic: &str, event: OnTheWay, letter: Letter) {
        let record = BaseRecord::with_opaque_to(full_topic, Box::new(event))
            .key(&letter.key)
            .payload(&letter.payload)
            .headers(headers(&letter.traceparent));
        if let Err((error, record)) = producer.send(record) {
            let event = *record.delivery_opaque;
            self.reports.divert(event, letter, error.to_string(), Sent::Never);
        }
    }

    fn divert(&self, event: OnTheWay, letter: Letter) {
        let why = "dead letters of this topic wait for Kafka".to_owned();
        self.reports.divert(event, letter, why, Sent::Never);
    }

    /// Asks for the topic, so that the first event needn't. Blocks.
    pub(super) fn learn(&self, full_topic: &str) {
        if let Way::Direct(producer) = &*self.way() {
            // Without an answer the first event asks.
            let _ = producer.client().fetch_metadata(Some(full_topic), LAST_REPORTS);
        }
    }

    /// Ends when no broker can be reached any more, and events wait for one. They needn't wait out their time.
    pub(super) async fn brokers_lost(&self) {
        loop {
            self.reports.brokers_lost().await;
            tokio::time::sleep(WITHOUT_BROKERS).await;
            // Idle connections are closed, too: then nobody waits.
            if self.holds_events() {
                return;
            }
        }
    }

    fn holds_events(&self) -> bool {
        matches!(&*self.way(), Way::Direct(producer) if producer.in_flight_count() > 0)
    }

    /// Closes the direct road. When this returns, what was on its way has arrived, or has come back. Blocks.
    pub(super) fn close(&self) {
        let producer = {
            let mut way = self.way_mut();
            match std::mem::replace(&mut *way, Way::Closed) {
                Way::Direct(producer) => producer,
                closed @ (Way::Closed | Way::Opening { .. }) => {
                    *way = closed;
                    return;
                }
            }
        };
        warn!("Kafka doesn't take admissions in time: they are kept as dead letters until it does");
        producer.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = producer.flush(LAST_REPORTS) {
            warn!(%error, "a purged producer still holds events: their outcome is unknown");
        }
        producer.close();
    }

    /// Whether nobody learns any more what becomes of events on the direct road.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(&*self.way(), Way::Direct(producer) if producer.has_ended())
    }

    /// Whether the direct road isn't open.
    pub(super) fn is_closed(&self) -> bool {
        !matches!(&*self.way(), Way::Direct(_))
    }

    /// How many events were diverted so far, once it is known of all whether they are kept: to be asked
    /// before the backlog is looked at, and handed to [`Road::reopen`].
    pub(super) fn turned(&self) -> Option<u64> {
        self.reports.turned()
    }

    /// From now on newcomers wait for the direct road, which is about to be opened.
    pub(super) fn begin_opening(&self) {
        let mut way = self.way_mut();
        if matches!(&*way, Way::Closed) {
            *way = Way::Opening { since: Instant::now(), waiting: Mutex::default() };
        }
    }

    /// Whoever has waited for the direct road for so long is diverted, with those behind him. True when somebody
    /// was told so.
    pub(super) fn give_up_opening(&self, after: Duration) -> bool {
        let mut way = self.way_mut();
        if !matches!(&*way, Way::Opening { since, .. } if since.elapsed() >= after) {
            return false;
        }
        for (event, letter) in in_order(std::mem::replace(&mut *way, Way::Closed)) {
            self.divert(event, letter);
        }
        true
    }

    /// Opens the direct road again, unless one more event was diverted since `seen`: it is part of a backlog
    /// that nobody has looked at.
    pub(super) fn reopen(&self, full_topic: &str, seen: u64) -> Result<(), KafkaError> {
        let producer = PolledProducer::new(&self.config, self.reports.clone())?;
        let mut way = self.way_mut();
        if self.turned() == Some(seen) && !matches!(&*way, Way::Direct(_)) {
            for (event, letter) in in_order(std::mem::replace(&mut *way, Way::Closed)) {
                self.send(&producer, full_topic, event, letter);
            }
            *way = Way::Direct(producer);
            info!("the backlog of admissions is worked off: they go straight to their topic again");
        }
        Ok(())
    }

    /// Waits until what is on its way has arrived, or `at_most` so long, and closes the road. Blocks.
    pub(super) fn end(&self, at_most: Duration) -> Result<(), KafkaError> {
        self.give_up_opening(Duration::ZERO);
        let way = std::mem::replace(&mut *self.way_mut(), Way::Closed);
        match way {
            Way::Direct(producer) => {
                let flushed = producer.flush(at_most);
                producer.close();
                flushed
            }
            Way::Closed | Way::Opening { .. } => Ok(()),
        }
    }

    fn way(&self) -> RwLockReadGuard<'_, Way> {
        self.way.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn way_mut(&self) -> RwLockWriteGuard<'_, Way> {
        self.way.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who wait, as they set out.
fn in_order(way: Way) -> Vec<(OnTheWay, Letter)> {
    let Way::Opening { waiting, .. } = way else { return Vec::new() };
    let mut waiting = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    waiting.sort_unstable_by_key(|(event, _)| event.number);
    waiting
}
