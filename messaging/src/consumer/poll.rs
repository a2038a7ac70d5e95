//! The poll thread: reads the group's topics, feeds the workers, hands partitions over.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::DateTime;
use rdkafka::{
    ClientConfig, ClientContext, Message, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    message::{BorrowedHeaders, BorrowedMessage, Headers},
    types::RDKafkaErrorCode,
};
use service_runtime::health;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    stats,
    worker::{Place, Worker},
};
use crate::{delivery::Group, record::Record, topics::Names};

/// How long one poll waits for a record: also how soon a stop or a resume of a partition is noticed.
const POLL: Duration = Duration::from_millis(100);
/// A partition with more records or bytes waiting than this is paused …
const PAUSE_ABOVE: (usize, usize) = (4_000, 16 * 1024 * 1024);
/// … until no more than this wait.
const RESUME_BELOW: (usize, usize) = (1_000, 4 * 1024 * 1024);
/// How long a hand-over waits for workers to finish their batch. Well below `max.poll.interval`.
const HAND_OVER: Duration = Duration::from_secs(10);

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
    /// Set once the client exists; weak, as the client owns this context.
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
}

impl Rebalances {
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else { return };
        let mut workers = self.workers();
        for element in partitions.elements() {
            let place = Place {
                consumer: Arc::clone(&consumer),
                topic: element.topic().to_owned(),
                partition: element.partition(),
            };
            let key = (place.topic.clone(), place.partition);
            let worker = Worker::start(&self.runtime, Arc::clone(&self.group), place);
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
        stats::record(&statistics, &self.names, &self.health);
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

/// A member of a group, before its thread runs.
pub(super) struct Member {
    consumer: Arc<BaseConsumer<Rebalances>>,
    names: Names,
    stopping: CancellationToken,
}

impl Member {
    pub(super) fn join(
        config: &ClientConfig,
        topics: &[String],
        names: Names,
        group: Arc<Group>,
        health: health::Part,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let context = Rebalances {
            names: names.clone(),
            group,
            runtime: tokio::runtime::Handle::current(),
            health,
            workers: Mutex::default(),
            consumer: OnceLock::new(),
        };
        let consumer: Arc<BaseConsumer<Rebalances>> =
            Arc::new(config.create_with_context(context).context("a Kafka consumer")?);
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).context("subscribing")?;
        Ok(Self { consumer, names, stopping })
    }

    /// Polls until told to stop; then hands everything over and leaves.
    pub(super) fn run(self) {
        let mut quiet_until = Instant::now();
        while !self.stopping.is_cancelled() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.feed(&message),
                Some(Err(error)) if Instant::now() >= quiet_until => {
                    warn!(%error, "reading");
                    quiet_until = Instant::now() + Duration::from_secs(5);
                }
                Some(Err(_)) | None => {}
            }
            self.resume_partitions();
        }
        self.consumer.context().hand_over(&self.consumer, None);
        commit_stored(&self.consumer);
        self.consumer.unsubscribe();
    }

    fn feed(&self, message: &BorrowedMessage<'_>) {
        let mut workers = self.consumer.context().workers();
        let Some(running) = workers.get_mut(&(message.topic().to_owned(), message.partition())) else {
            // Handed over a moment ago: its next owner reads it.
            return;
        };
        running.worker.push(self.owned(message));
        if running.worker.waiting().is_above(PAUSE_ABOVE.0, PAUSE_ABOVE.1) && !running.paused {
            running.paused = switch(&self.consumer, message.topic(), message.partition(), Flow::Pause);
        }
    }

    fn resume_partitions(&self) {
        let mut workers = self.consumer.context().workers();
        let caught_up =
            |running: &Running| running.paused && !running.worker.waiting().is_above(RESUME_BELOW.0, RESUME_BELOW.1);
        for ((topic, partition), running) in workers.iter_mut().filter(|(_, running)| caught_up(running)) {
            running.paused = !switch(&self.consumer, topic, *partition, Flow::Resume);
        }
    }

    fn owned(&self, message: &BorrowedMessage<'_>) -> Record {
        Record {
            topic: self.names.bare(message.topic()).to_owned(),
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
