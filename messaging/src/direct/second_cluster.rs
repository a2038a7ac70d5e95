//! Another Kafka cluster that holds dead letters while the first is away: `DEAD_LETTER_BROKERS`.
//!
//! It is the faster place, and it isn't the service's own database. From there they are brought into the
//! table, in order, which is where everybody looks for them, and where they go on from. When it is away,
//! too, letters go to the table at once, and may overtake those that it holds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use common_events::{
    Topic,
    envelope::{TRACEPARENT, peek},
};
use futures::{FutureExt, future::join_all};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers},
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};
use service_runtime::{
    Runtime, Tasks,
    database::Pool,
    settings::KafkaSettings,
    tasks::{Next, Rounds, blocking, drop_aside},
};
use tracing::{info, warn};

use super::{
    headers,
    reports::{Diverted, Letter, Sent},
    store,
};
use crate::{
    X_ORIGIN_TOPIC,
    kafka::{self, BrokerWatch},
    topics::Names,
};

/// How long the second cluster may take for a letter.
pub(super) const PRODUCE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// When nothing is heard of a letter for so long, nobody tells any more: the producer's thread is gone.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// After it took none for once, it isn't tried for so long: whoever comes next doesn't wait for it.
const LEFT_ALONE: Duration = Duration::from_secs(5);
const MAX_ON_THE_WAY: usize = 10_000;
/// How long a question about offsets may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the reading passes what holds no letter.
const PASS_EVERY: Duration = Duration::from_secs(1);
/// The pause after the cluster or the database failed: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most letters that are written into the table at once, and how long the first of them waits for company.
const MAX_BATCH: usize = 500;
const COMPANY: Duration = Duration::from_millis(20);
/// One partition: the order of all is kept.
const PARTITION: i32 = 0;
const RETENTION_MS: &str = "2592000000";
/// Why the letter was diverted.
const X_ERROR_MESSAGE: &str = "x-error-message";

pub(super) struct SecondCluster {
    settings: KafkaSettings,
    topic: String,
    group: String,
    /// Another one after a failure: it may know no broker any more.
    producer: Mutex<FutureProducer>,
    asking: kafka::Asking,
    failed: Mutex<Option<Instant>>,
}

impl SecondCluster {
    /// `None` without `DEAD_LETTER_BROKERS`.
    pub(super) fn of(runtime: &Runtime, names: &Names) -> anyhow::Result<Option<Self>> {
        let Some(brokers) = runtime.env.optional::<String>("DEAD_LETTER_BROKERS")? else { return Ok(None) };
        let settings = KafkaSettings { brokers, ..runtime.settings.kafka.clone() };
        let producer = Mutex::new(producer(&settings).context("a producer for DEAD_LETTER_BROKERS")?);
        let topic = names.topic(&crate::topics::producer_dead_letter_topic(runtime.service));
        // Not the service's own: should both clusters be one, Kafka lets no two kinds of member into a group.
        let group = format!("{}-second-cluster", names.group(runtime.service));
        let asking = kafka::Asking::with(consumer(&settings, &group)).context("a client for DEAD_LETTER_BROKERS")?;
        Ok(Some(Self { settings, topic, group, producer, asking, failed: Mutex::default() }))
    }

    /// Sends letters in their order. Returns those that it didn't take, with whether it may have.
    pub(super) async fn send(&self, origin: Topic, letters: Vec<Diverted>) -> Vec<(Diverted, Sent)> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return letters.into_iter().map(|letter| (letter, Sent::Never)).collect();
        }
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sending = letters.into_iter().map(|diverted| {
            let Letter { key, payload, traceparent, .. } = &diverted.letter;
            let headers = headers(traceparent)
                .insert(Header { key: X_ORIGIN_TOPIC, value: Some(origin.name()) })
                .insert(Header { key: X_ERROR_MESSAGE, value: Some(&diverted.error) });
            let record = FutureRecord::to(&self.topic).partition(PARTITION).key(key).payload(payload).headers(headers);
            let sent = producer.send_result(record).map_err(|(error, _)| error);
            (diverted, sent)
        });
        // Handed over one after the other, then waited for together.
        let sending: Vec<_> = sending.collect();
        let outcomes = sending.into_iter().map(|(diverted, sent)| async move {
            let refused = match sent {
                Ok(sent) => match tokio::time::timeout(REPORT_TIMEOUT, sent).await {
                    Ok(Ok(Ok(_))) => None,
                    Ok(Ok(Err(_)) | Err(_)) | Err(_) => Some(Sent::Perhaps),
                },
                Err(_) => Some(Sent::Never),
            };
            (diverted, refused)
        });
        let mut not_taken = Vec::new();
        for (diverted, refused) in join_all(outcomes).await {
            match refused {
                None => diverted.kept(),
                Some(sent) => not_taken.push((diverted, sent)),
            }
        }
        if !not_taken.is_empty() {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            warn!(letters = not_taken.len(), "DEAD_LETTER_BROKERS doesn't take dead letters: they go to the database");
            self.replace_producer();
        }
        not_taken
    }

    fn replace_producer(&self) {
        match producer(&self.settings) {
            Ok(another) => {
                let left =
                    std::mem::replace(&mut *self.producer.lock().unwrap_or_else(PoisonError::into_inner), another);
                // Its thread is waited for.
                drop_aside(left);
            }
            Err(error) => warn!(%error, "no other producer for DEAD_LETTER_BROKERS"),
        }
    }

    /// How many letters lie there that aren't in the table yet.
    pub(super) async fn unread(self: Arc<Self>) -> anyhow::Result<i64> {
        blocking(move || self.count_unread()).await.context("asking the second cluster")
    }

    fn count_unread(&self) -> anyhow::Result<i64> {
        self.asking.ask(|client| {
            let (first, end) = client.fetch_watermarks(&self.topic, PARTITION, ANSWER_TIMEOUT)?;
            let mut asked = TopicPartitionList::new();
            asked.add_partition(&self.topic, PARTITION);
            let committed = client.committed_offsets(asked, ANSWER_TIMEOUT)?;
            let next = match committed.find_partition(&self.topic, PARTITION).map(|at| at.offset()) {
                Some(Offset::Offset(next)) => next.max(first),
                _ => first,
            };
            Ok(end - next)
        })
    }

    /// Brings letters into the table. One process of the service does it at a time.
    pub(super) fn collect(self: Arc<Self>, origin: Topic, pool: Pool, tasks: &Tasks) {
        let rounds = Rounds::on_demand("second-cluster").backing_off(FIRST_PAUSE, LONGEST_PAUSE);
        let collector = Collector { cluster: self, origin, pool, reader: None, batch: Vec::new() };
        tasks.repeat_on_demand(
            rounds,
            collector,
            |collector| collector.read().boxed(),
            |collector| collector.write_down().boxed(),
        );
    }

    fn open_reader(&self) -> anyhow::Result<StreamConsumer<BrokerWatch>> {
        let mut config = consumer(&self.settings, &self.group);
        config.set("statistics.interval.ms", "5000");
        let reader: StreamConsumer<BrokerWatch> = config.create_with_context(BrokerWatch::default())?;
        reader.subscribe(&[&self.topic])?;
        Ok(reader)
    }

    /// The second cluster isn't in the catalogue's care, so its one topic is made here.
    async fn make_topic(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = kafka::client(&self.settings).create()?;
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1)).set("retention.ms", RETENTION_MS);
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT));
        for made in admin.create_topics([&topic], &options).await.context("asking for the topic")? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(KafkaError::AdminOp(code)).with_context(|| format!("making {topic}")),
            }
        }
        Ok(())
    }
}

/// What brings letters into the table.
struct Collector {
    cluster: Arc<SecondCluster>,
    origin: Topic,
    pool: Pool,
    /// Another one after a failure of the cluster's.
    reader: Option<StreamConsumer<BrokerWatch>>,
    /// What was read and isn't in the table yet.
    batch: Vec<Read>,
}

impl Collector {
    /// Waits for letters, but not for longer than [`PASS_EVERY`]. What a round couldn't write is there already.
    async fn read(&mut self) -> anyhow::Result<()> {
        if !self.batch.is_empty() {
            return Ok(());
        }
        if self.reader.is_none() {
            self.cluster.make_topic().await?;
            self.reader = Some(self.cluster.open_reader()?);
        }
        let Some(reader) = &self.reader else { return Ok(()) };
        match read_batch(reader).await {
            Ok(batch) => self.batch = batch,
            Err(error) => return Err(self.leave_reader(error)),
        }
        Ok(())
    }

    /// The database's failures cost no reader: the batch waits for it.
    async fn write_down(&mut self) -> anyhow::Result<Next> {
        let Some(reader) = &self.reader else { return Ok(Next::Now) };
        let topic = &self.cluster.topic;
        let stored = match self.batch.last().map(|read| read.offset) {
            None => pass(reader, topic),
            Some(last) => {
                let letters: Vec<(&Letter, &str)> =
                    self.batch.iter().filter_map(|read| Some((read.letter.as_ref()?, &*read.error))).collect();
                let client = self.pool.get().await?;
                let new = store::insert(&client, self.origin, &letters).await?;
                info!(letters = letters.len(), new, "dead letters of the second cluster are in the table");
                self.batch.clear();
                reader.store_offset(topic, PARTITION, last).map_err(Into::into)
            }
        };
        match stored {
            Ok(()) => Ok(Next::Now),
            Err(error) => Err(self.leave_reader(error)),
        }
    }

    /// Its end may take a while when nobody answers it.
    fn leave_reader(&mut self, error: anyhow::Error) -> anyhow::Error {
        if let Some(reader) = self.reader.take() {
            drop_aside(reader);
        }
        error
    }
}

/// Nothing when none came for [`PASS_EVERY`].
async fn read_batch(reader: &StreamConsumer<BrokerWatch>) -> anyhow::Result<Vec<Read>> {
    let first = tokio::select! {
        () = reader.context().knows_none.cancelled() => anyhow::bail!("the client knows no broker any more"),
        first = reader.recv() => first?,
        () = tokio::time::sleep(PASS_EVERY) => return Ok(Vec::new()),
    };
    let mut batch = vec![read(&first)];
    let until = tokio::time::Instant::now() + COMPANY;
    while batch.len() < MAX_BATCH
        && let Ok(next) = tokio::time::timeout_at(until, reader.recv()).await
    {
        batch.push(read(&next?));
    }
    Ok(batch)
}

/// All that was read is in the table: what is left before the reader's position are ends of transactions.
fn pass(reader: &StreamConsumer<BrokerWatch>, topic: &str) -> anyhow::Result<()> {
    if let Some(next) = kafka::positions(reader)?.get(&(topic.to_owned(), PARTITION)) {
        reader.store_offset(topic, PARTITION, next - 1)?;
    }
    Ok(())
}

fn producer(settings: &KafkaSettings) -> Result<FutureProducer, KafkaError> {
    kafka::direct_producer(settings, PRODUCE_TIMEOUT, MAX_ON_THE_WAY).create()
}

fn consumer(settings: &KafkaSettings, group: &str) -> ClientConfig {
    let mut config = kafka::client(settings);
    config
        .set("group.id", group)
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "3000")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "500")
        .set("queued.max.messages.kbytes", "4096");
    config
}

struct Read {
    offset: i64,
    /// `None` for what isn't an event: nobody but us writes there.
    letter: Option<Letter>,
    error: String,
}

fn read(message: &BorrowedMessage<'_>) -> Read {
    let header = |name: &str| {
        let headers = message.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8_lossy(found.value?).into_owned())
    };
    let payload = message.payload().unwrap_or_default();
    let letter = peek(payload).id.map(|event_id| Letter {
        event_id,
        key: message.key().unwrap_or_default().to_vec(),
        payload: payload.to_vec(),
        traceparent: header(TRACEPARENT).unwrap_or_default(),
    });
    if letter.is_none() {
        warn!(offset = message.offset(), "what lies there is no event");
    }
    Read { offset: message.offset(), letter, error: header(X_ERROR_MESSAGE).unwrap_or_default() }
}
