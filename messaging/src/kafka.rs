//! The Kafka clients: their settings, each with its reason; and whether a cluster is there for them.

mod polled;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common_events::Service;
use rdkafka::{
    ClientConfig, ClientContext, Offset, Statistics,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    producer::{BaseProducer, Producer},
};
use service_runtime::{health, settings::KafkaSettings, tasks::blocking};
use tokio_util::sync::CancellationToken;

pub(crate) use self::polled::PolledProducer;
use crate::topics::{MAX_OWN_MESSAGE_BYTES, Names};

/// How long the cluster may take to answer whether it is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A client that knows where the cluster is and how to get in.
pub fn client(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in &settings.security {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        // Topics come from the catalogue; a typo must not make one.
        .set("allow.auto.create.topics", "false")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "10000");
    config
}

/// One that produces, too: a key lies on the same partition whoever writes it, as Java clients have it.
pub fn producing(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client(settings);
    config.set("partitioner", "murmur2_random");
    config
}

/// A consumer of a group (docs/decisions/0002).
pub(crate) fn consumer(settings: &KafkaSettings, names: &Names, group: Service) -> ClientConfig {
    let mut config = client(settings);
    config
        .set("group.id", names.group(group))
        .set("client.id", group.name())
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "3000")
        .set("max.poll.interval.ms", "300000")
        .set("auto.offset.reset", "earliest")
        // Offsets are stored after COMMIT, by us; what is stored is committed in the background.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("isolation.level", "read_committed")
        .set("fetch.min.bytes", "1")
        .set("fetch.max.bytes", "5242880")
        .set("fetch.wait.max.ms", "500")
        // Bounded prefetch, so that memory stays flat: all partitions together, and each.
        .set("queued.max.messages.kbytes", "4096")
        .set("queued.min.messages", "2000")
        // A partition whose queue is full is asked again soon; the default of a second leaves workers idle.
        .set("fetch.queue.backoff.ms", "5")
        .set("statistics.interval.ms", "5000");
    config
}

/// A producer that never gives an event up, so that the order of a key can't turn.
pub(crate) fn producer(settings: &KafkaSettings) -> ClientConfig {
    let mut config = producing(settings);
    config
        .set("client.id", Service::OutboxRelay.name())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Whatever would leave a gap in the order ends the producer; the relay begins anew, from the lowest row.
        .set("enable.gapless.guarantee", "true")
        // A topic that isn't there is known as such after this; its rows are set apart then (relay::barred).
        .set("topic.metadata.propagation.max.ms", "10000")
        // 0: no time after which a message is given up.
        .set("message.timeout.ms", "0")
        // What is there is sent at once; under load batches form by themselves.
        .set("linger.ms", "0")
        .set("compression.type", "none")
        // What goes to a group's own topic is larger than what came.
        .set("message.max.bytes", MAX_OWN_MESSAGE_BYTES.to_string())
        .set("queue.buffering.max.messages", "100000")
        .set("statistics.interval.ms", "1000");
    config
}

/// A producer of what has no outbox: it gives an event up after `timeout`, and somebody else keeps it.
pub(crate) fn direct_producer(settings: &KafkaSettings, timeout: Duration, max_messages: usize) -> ClientConfig {
    let mut config = producing(settings);
    config
        .set("client.id", "admissions")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", timeout.as_millis().to_string())
        // An ack takes longer than this; in the meantime company comes, and a batch costs what a record does.
        .set("linger.ms", "0.5")
        .set("compression.type", "none")
        .set("queue.buffering.max.messages", max_messages.to_string());
    config
}

/// Whether the cluster answers now, for who has no client yet that would tell.
pub(crate) async fn answers(settings: &KafkaSettings) -> bool {
    let config = client(settings);
    let asked = blocking(move || {
        let asking: BaseProducer = config.create()?;
        asking.client().fetch_metadata(None, ANSWER_TIMEOUT).map(drop)
    });
    asked.await.is_ok()
}

/// Kafka counts as there while any broker's connection is up.
pub(crate) fn tell_health(statistics: &Statistics, health: &health::Part) {
    if has_broker(statistics) {
        health.ready();
    } else {
        health.lost();
    }
}

/// Whether the connection of any broker is up.
pub(crate) fn has_broker(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP")
}

/// Whether the client still knows a broker that it could ask. One that knows none never learns of one again, and
/// is to be replaced: librdkafka forgets brokers that an answer doesn't name, and the only broker there is, on its
/// way down, names none (librdkafka#5301; docs/decisions/0018).
pub(crate) fn knows_a_broker(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| matches!(&*broker.source, "configured" | "learned"))
}

/// Notices when its client knows no broker any more ([`knows_a_broker`]). The client needs `statistics.interval.ms`.
#[derive(Default)]
pub(crate) struct BrokerWatch {
    /// Cancelled from then on.
    pub(crate) knows_none: CancellationToken,
}

impl ClientContext for BrokerWatch {
    fn stats(&self, statistics: Statistics) {
        if !knows_a_broker(&statistics) {
            self.knows_none.cancel();
        }
    }
}

impl ConsumerContext for BrokerWatch {}

/// By full topic name and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// What a consumer reads next, of each of its partitions of which it has read something. That is the offset after the
/// last record it was given and after the control records behind it, with which transactions end: they take offsets,
/// and nobody is given them. So an end that is compared with the last record alone may never be reached.
///
/// # Errors
/// What librdkafka answers. Nobody else is asked.
pub fn positions<C: ConsumerContext>(consumer: &impl Consumer<C>) -> Result<Offsets, KafkaError> {
    let positions = consumer.position()?;
    let known = positions.elements().into_iter().filter_map(|at| match at.offset() {
        Offset::Offset(next) => Some(((at.topic().to_owned(), at.partition()), next)),
        _ => None,
    });
    Ok(known.collect())
}

/// A client that only asks, and joins nothing. Where a partition ends is its high watermark: what lies behind a
/// transaction that is still open is written, though nobody gets it yet. After a question that failed the next one gets a new client, as this
/// one may know no broker any more, and would never learn of one again (librdkafka#5301).
pub struct Asking {
    config: ClientConfig,
    client: Mutex<Option<Arc<BaseConsumer>>>,
}

impl Asking {
    /// Asks what concerns the group of this `config`.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn with(mut config: ClientConfig) -> Result<Self, KafkaError> {
        config.set("isolation.level", "read_uncommitted");
        let client = Mutex::new(Some(Arc::new(config.create()?)));
        Ok(Self { config, client })
    }

    /// Blocks. No list of partitions may outlive the question: it would make the client's end hang.
    ///
    /// # Errors
    /// What the question fails with, and when the settings make no client.
    pub fn ask<T>(&self, question: impl FnOnce(&BaseConsumer) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let client = self.client()?;
        let answer = question(&client);
        if answer.is_err() {
            let _left = self.current().take_if(|current| Arc::ptr_eq(current, &client));
        }
        answer
    }

    fn client(&self) -> Result<Arc<BaseConsumer>, KafkaError> {
        let mut current = self.current();
        if let Some(client) = &*current {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.config.create()?);
        *current = Some(Arc::clone(&client));
        Ok(client)
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<BaseConsumer>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
