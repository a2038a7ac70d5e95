//! The poll thread: reads the group's topics, feeds the workers, hands partitions over.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::DateTime;
use common_events::Service;
use rdkafka::{
    ClientConfig, ClientContext, Message, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    message::{BorrowedHeaders, BorrowedMessage, Headers},
    types::RDKafkaErrorCode,
};
use service_runtime::{health, tasks::drop_aside};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    backlog::Totals,
    stats,
    worker::{Place, Worker},
};
use crate::{delivery::Group, kafka, ladder::OwnTopic, record::Record, topics::Names};

/// How long one poll waits for a record: also how soon a stop or a resume of a partition is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How often workers with nothing left hear how far the reading is.
const PASS_EVERY: Duration = Duration::from_secs(1);
/// How long a hand-over waits for workers to finish their batch. Well below `max.poll.interval`.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Without a poll for so long, the member may be thrown out of its group any moment (`max.poll.interval.ms`),
/// and would not notice: librdkafka says so only when it is polled.
const POLL_MISSED: Duration = Duration::from_mins(4);
/// From here on it looks bad: nothing is read meanwhile.
const POLL_LATE: Duration = Duration::from_secs(30);

/// What a header is called here whose name is no UTF-8.
const UNREADABLE_NAME: &str = "\u{fffd}";

type Workers = HashMap<(String, i32), Running>;

struct Running {
    worker: Worker,
    paused: bool,
}

/// What librdkafka calls back: rebalances, statistics, errors of the whole client.
pub(super) struct Rebalances {
    names: Names,
    group: Arc<Group>,
    runtime: tokio::runtime::Handle,
    health: health::Part,
    workers: Mutex<Workers>,
    totals: Totals,
    brokers: kafka::BrokerWatch,
    /// Set once the client exists; weak, as the client owns this context.
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
}

impl Rebalances {
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get() else { return };
        let mut workers = self.workers();
        for element in partitions.elements() {
            let place = Place {
                consumer: Weak::clone(consumer),
                full_topic: element.topic().to_owned(),
                topic: self.names.bare(element.topic()).to_owned(),
                partition: element.partition(),
            };
            let key = (place.full_topic.clone(), place.partition);
            let own = OwnTopic::of(self.group.subscriptions().group(), &place.topic);
            let worker = Worker::start(&self.runtime, Arc::clone(&self.group), place, self.totals.backlog(own));
            workers.insert(key, Running { worker, paused: false });
        }
    }

    /// Lets the workers of these partitions (all, for `None`) finish their batch and forgets them.
    fn hand_over(&self, consumer: &BaseConsumer<Self>, partitions: Option<&TopicPartitionList>) {
        let leaving: Workers = {
            let mut workers = self.workers();
            match partitions {
                Some(partitions) => {
                    let keys = partitions.elements().into_iter().map(|e| (e.topic().to_owned(), e.partition()));
                    keys.filter_map(|key| workers.remove_entry(&key)).collect()
                }
                None => std::mem::take(&mut workers),
            }
        };
        for running in leaving.values() {
            running.worker.tell_to_stop();
        }
        let until = Instant::now() + HAND_OVER;
        while !leaving.values().all(|running| running.worker.has_stopped()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        // A pause outlives the assignment: the partition would stand still if it ever came back.
        for ((topic, partition), _) in leaving.iter().filter(|(_, running)| running.paused) {
            switch(consumer, topic, *partition, Flow::Resume);
        }
    }
}

impl ClientContext for Rebalances {
    fn stats(&self, statistics: Statistics) {
        // What another one has replaced tells nothing any more.
        if !self.brokers.knows_none.is_cancelled() {
            stats::record(&statistics, &self.names, &self.health);
            self.brokers.stats(statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.health.lost();
        }
        warn!(group = self.group.subscriptions().group().name(), %error, reason, "Kafka");
    }
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.hand_over(consumer, Some(partitions));
            commit_stored(consumer);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                info!(
                    group = self.group.subscriptions().group().name(),
                    partitions = partitions.count(),
                    "partitions assigned"
                );
                self.begin(partitions);
                self.health.ready();
            }
            Rebalance::Revoke(partitions) => debug!(partitions = partitions.count(), "partitions handed over"),
            Rebalance::Error(error) => warn!(%error, "rebalance failed"),
        }
    }
}

/// Commits what the workers stored. Nothing stored is nothing to do.
fn commit_stored(consumer: &BaseConsumer<Rebalances>) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => warn!(%error, "offsets not committed; the inbox knows what was applied"),
    }
}

/// Who joins which group, to read what.
pub(super) struct Joining {
    pub(super) config: ClientConfig,
    pub(super) topics: Vec<String>,
    pub(super) names: Names,
    pub(super) group: Arc<Group>,
    pub(super) health: health::Part,
    pub(super) runtime: tokio::runtime::Handle,
}

impl Joining {
    fn join(&self) -> anyhow::Result<Arc<BaseConsumer<Rebalances>>> {
        let context = Rebalances {
            names: self.names.clone(),
            group: Arc::clone(&self.group),
            runtime: self.runtime.clone(),
            health: self.health.clone(),
            workers: Mutex::default(),
            totals: Totals::default(),
            brokers: <_>::default(),
            consumer: OnceLock::new(),
        };
        let consumer: Arc<BaseConsumer<Rebalances>> =
            Arc::new(self.config.create_with_context(context).context("a Kafka consumer")?);
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).context("subscribing")?;
        Ok(consumer)
    }

    fn group(&self) -> &'static str {
        self.group.subscriptions().group().name()
    }
}

/// A member of a group, before its thread runs.
pub(super) struct Member {
    joining: Joining,
    consumer: Arc<BaseConsumer<Rebalances>>,
    stopping: CancellationToken,
    last_poll: LastPoll,
}

/// When the poll thread polled last.
#[derive(Clone)]
pub(super) struct LastPoll {
    began: Instant,
    after_ms: Arc<AtomicU64>,
    health: health::Part,
}

impl LastPoll {
    fn new(health: health::Part) -> Self {
        Self { began: Instant::now(), after_ms: Arc::default(), health }
    }

    fn is_now(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(ms, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.after_ms.load(Ordering::Relaxed)))
    }

    /// Ends when it was too long ago; degrades health on the way there.
    pub(super) async fn watch(self, service: Service) {
        loop {
            let age = self.age();
            if age > POLL_MISSED {
                return;
            }
            if age > POLL_LATE {
                self.health.lost();
                warn!(group = service.name(), seconds = age.as_secs(), "the poll thread hangs");
            }
            tokio::time::sleep(POLL_LATE / 6).await;
        }
    }
}

impl Member {
    pub(super) fn join(joining: Joining, stopping: CancellationToken) -> anyhow::Result<Self> {
        let last_poll = LastPoll::new(joining.health.clone());
        Ok(Self { consumer: joining.join()?, joining, stopping, last_poll })
    }

    pub(super) fn last_poll(&self) -> LastPoll {
        self.last_poll.clone()
    }

    /// Polls until told to stop; then hands everything over and leaves. Ends by itself when a worker did.
    pub(super) fn run(mut self) {
        let mut quiet_until = Instant::now();
        let mut pass_at = Instant::now();
        while !self.stopping.is_cancelled() {
            self.last_poll.is_now();
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.feed(&message),
                Some(Err(error)) if Instant::now() >= quiet_until => {
                    warn!(%error, "reading");
                    quiet_until = Instant::now() + Duration::from_secs(5);
                }
                Some(Err(_)) | None => {}
            }
            if Instant::now() >= pass_at {
                self.pass();
                pass_at = Instant::now() + PASS_EVERY;
            }
            if !self.resume_partitions() || (self.knows_no_broker() && !self.join_again()) {
                break;
            }
        }
        self.consumer.context().hand_over(&self.consumer, None);
        commit_stored(&self.consumer);
        self.consumer.unsubscribe();
    }

    fn knows_no_broker(&self) -> bool {
        self.consumer.context().brokers.knows_none.is_cancelled()
    }

    /// Joins with another client. What the one before has applied is in the inbox. False when there is none.
    fn join_again(&mut self) -> bool {
        warn!(group = self.joining.group(), "the client knows no broker any more: another one joins");
        self.consumer.context().hand_over(&self.consumer, None);
        match self.joining.join() {
            Ok(consumer) => {
                let lost = std::mem::replace(&mut self.consumer, consumer);
                // Leaving may take a while, as nobody answers it.
                drop_aside(lost);
                true
            }
            Err(error) => {
                error!(group = self.joining.group(), error = format!("{error:#}"), "no client to join with");
                false
            }
        }
    }

    fn feed(&self, message: &BorrowedMessage<'_>) {
        let mut workers = self.consumer.context().workers();
        let Some(running) = workers.get_mut(&(message.topic().to_owned(), message.partition())) else {
            // Handed over a moment ago: its next owner reads it.
            return;
        };
        running.worker.push(self.owned(message));
        if running.worker.backlog().is_high() && !running.paused {
            running.paused = switch(&self.consumer, message.topic(), message.partition(), Flow::Pause);
        }
    }

    /// Tells workers with nothing left how far the reading is. This thread is the one that reads: what lies before a
    /// position was pushed.
    fn pass(&self) {
        let positions = match kafka::positions(&*self.consumer) {
            Ok(positions) => positions,
            Err(error) => {
                debug!(%error, "no positions");
                return;
            }
        };
        let workers = self.consumer.context().workers();
        for (place, next_offset) in positions {
            if let Some(running) = workers.get(&place)
                && running.worker.backlog().is_empty()
            {
                running.worker.pass(next_offset);
            }
        }
    }

    /// Lets paused partitions flow that caught up. False when a worker ended that nobody told to.
    fn resume_partitions(&self) -> bool {
        let mut workers = self.consumer.context().workers();
        for ((topic, partition), running) in workers.iter_mut() {
            if running.worker.has_stopped() {
                error!(topic, partition, "a partition's worker ended by itself");
                return false;
            }
            if running.paused && running.worker.backlog().is_low() {
                running.paused = !switch(&self.consumer, topic, *partition, Flow::Resume);
            }
        }
        true
    }

    fn owned(&self, message: &BorrowedMessage<'_>) -> Record {
        Record {
            topic: self.joining.names.bare(message.topic()).to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(owned_headers).unwrap_or_default(),
        }
    }
}

/// A name that is no UTF-8 makes rdkafka panic, which must not end the poll thread: such a record
/// would come back at every start.
fn owned_headers(headers: &BorrowedHeaders) -> Vec<(String, Vec<u8>)> {
    let read = |index| {
        let header = headers.get(index);
        (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
    };
    let read_any = |index| {
        catch_unwind(AssertUnwindSafe(|| read(index))).unwrap_or_else(|_| (UNREADABLE_NAME.to_owned(), Vec::new()))
    };
    (0..headers.count()).map(read_any).collect()
}

/// The list must not outlive this call: a living list makes dropping the consumer hang.
fn switch(consumer: &BaseConsumer<Rebalances>, topic: &str, partition: i32, flow: Flow) -> bool {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    let switched = match flow {
        Flow::Pause => consumer.pause(&list),
        Flow::Resume => consumer.resume(&list),
    };
    if let Err(error) = &switched {
        warn!(topic, partition, %error, "pausing or resuming a partition");
    }
    switched.is_ok()
}

#[derive(Clone, Copy)]
enum Flow {
    Pause,
    Resume,
}
