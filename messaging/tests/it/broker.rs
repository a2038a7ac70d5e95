//! The real broker: topics of a test's own, records on their way there and back, members of groups.

pub(crate) mod leaving;
pub(crate) mod raw;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use common_events::{EventData, Service, envelope};
use futures::future::try_join_all;
use messaging::{
    Consumer,
    delivery::Group,
    kafka,
    topics::{self, Cluster, Names, Wanted},
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use service_runtime::{Health, Tasks, database::Pool, health::Readiness, settings::KafkaSettings};
use test_support::{PATIENCE, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::toys::{self, Toys};

/// How long one question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A corner of the broker under a prefix of its own. Dropping it deletes its topics and groups.
pub(crate) struct Broker {
    pub(crate) settings: KafkaSettings,
    pub(crate) names: Names,
    topics: Vec<String>,
    producer: FutureProducer,
}

impl Broker {
    /// With these topics of the catalogue, or of groups, and no others.
    pub(crate) async fn with(topics: &[&str]) -> Self {
        Self::with_partitions(topics, None).await
    }

    /// The same, with this many partitions each instead of the catalogue's.
    pub(crate) async fn with_partitions(topics: &[&str], partitions: Option<i32>) -> Self {
        let id = Uuid::now_v7().simple().to_string();
        let topic_prefix = format!("test-{}-", &id[20..]);
        let names = Names::with_prefix(topic_prefix.clone());
        let brokers = test_support::kafka_brokers();
        let settings = KafkaSettings { brokers: brokers.clone(), topic_prefix, security: Vec::new() };
        let wanted: Vec<Wanted> = topics::wanted(&names)
            .into_iter()
            .filter(|wanted| topics.contains(&names.bare(&wanted.name)))
            .map(|wanted| Wanted { partitions: partitions.unwrap_or(wanted.partitions), ..wanted })
            .collect();
        assert_eq!(wanted.len(), topics.len(), "every one of {topics:?} is in the catalogue");
        let cluster = Cluster::connect(&settings).expect("settings of a client");
        let plan = cluster.plan(&wanted).await;
        let plan = plan.unwrap_or_else(|error| panic!("Kafka doesn't answer at {brokers}: {error:#}"));
        cluster.apply(&plan).await.expect("the topics are made");
        let mut config = kafka::producing(&settings);
        // Without this, keyless records stick to one partition for a while.
        config.set("sticky.partitioning.linger.ms", "0");
        let producer = config.create().expect("a producer");
        let topics = wanted.into_iter().map(|wanted| wanted.name).collect();
        Self { settings, names, topics, producer }
    }

    /// Makes one more topic of the catalogue.
    pub(crate) async fn make(&mut self, topic: &str) {
        let name = self.names.topic(topic);
        let wanted: Vec<Wanted> = topics::wanted(&self.names).into_iter().filter(|one| one.name == name).collect();
        let cluster = Cluster::connect(&self.settings).expect("settings of a client");
        let plan = cluster.plan(&wanted).await.expect("Kafka answers");
        cluster.apply(&plan).await.expect("the topic is made");
        self.topics.push(name);
    }

    /// Deletes what lies before these ends.
    pub(crate) async fn delete_records(&self, topic: &str, ends: &BTreeMap<i32, i64>) {
        let topic = self.names.topic(topic);
        let mut before = TopicPartitionList::new();
        for (partition, end) in ends {
            before.add_partition_offset(&topic, *partition, Offset::Offset(*end)).expect("an offset");
        }
        admin(&self.settings).delete_records(&before, &AdminOptions::new()).await.expect("the broker deletes them");
    }

    /// Sets one thing of a topic, and the rest of it to what is usual.
    pub(crate) async fn configure(&self, topic: &str, name: &str, value: &str) {
        let topic = self.names.topic(topic);
        let config = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set(name, value);
        let set =
            admin(&self.settings).alter_configs([&config], &AdminOptions::new()).await.expect("the broker answers");
        for set in set {
            set.expect("the broker sets it");
        }
    }

    /// Sends an event as the relay would. Returns the partition and offset where it lies.
    pub(crate) async fn send<T: EventData>(&self, event: &envelope::Event<T>) -> (i32, i64) {
        let value = envelope::encode(event).expect("events are JSON");
        self.send_bytes(T::TOPIC.name(), Some(event.subject.as_bytes()), &value, &[]).await
    }

    /// Sends events one after the other into the producer, so in their order per key.
    pub(crate) async fn send_all<T: EventData>(&self, events: &[envelope::Event<T>]) -> Vec<(i32, i64)> {
        let values: Vec<Vec<u8>> = events.iter().map(|event| envelope::encode(event).expect("JSON")).collect();
        let records = events.iter().zip(&values).map(|(event, value)| (Some(event.subject.as_bytes()), &**value));
        self.send_each(T::TOPIC.name(), records).await
    }

    /// The same, without keys.
    pub(crate) async fn send_all_keyless<T: EventData>(&self, events: &[envelope::Event<T>]) -> Vec<(i32, i64)> {
        let values: Vec<Vec<u8>> = events.iter().map(|event| envelope::encode(event).expect("JSON")).collect();
        self.send_each(T::TOPIC.name(), values.iter().map(|value| (None, &**value))).await
    }

    async fn send_each<'r>(
        &self,
        topic: &str,
        records: impl Iterator<Item = (Option<&'r [u8]>, &'r [u8])>,
    ) -> Vec<(i32, i64)> {
        let topic = self.names.topic(topic);
        let mut sent = Vec::new();
        for (key, value) in records {
            let mut record = FutureRecord::<[u8], [u8]>::to(&topic).payload(value);
            record.key = key;
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).expect("room in the queue"));
        }
        let sent = try_join_all(sent).await.expect("the producer lives");
        sent.into_iter().map(|sent| sent.map(|it| (it.partition, it.offset)).expect("the broker takes it")).collect()
    }

    /// Sends anything.
    pub(crate) async fn send_bytes(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> (i32, i64) {
        let topic = self.names.topic(topic);
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic).payload(value).headers(headers);
        record.key = key;
        let sent = self.producer.send(record, TIMEOUT).await.expect("the broker takes it");
        (sent.partition, sent.offset)
    }

    /// Everything that lies on the topic once `enough` of it is there.
    pub(crate) async fn read(&self, topic: &str, enough: impl Fn(&[Lying]) -> bool) -> Vec<Lying> {
        let reader = Reader::of(self, topic);
        let mut read = Vec::new();
        let until = tokio::time::Instant::now() + PATIENCE;
        while !enough(&read) {
            let next = tokio::time::timeout_at(until, reader.next()).await;
            let there = read.len();
            read.push(next.unwrap_or_else(|late| panic!("{late}: {there} records are not enough on {topic}")));
        }
        read
    }

    /// Everything that lies on the topic now.
    pub(crate) async fn read_to_the_end(&self, topic: &str) -> Vec<Lying> {
        let reader = Reader::of(self, topic);
        let (mut read, mut at_their_end) = (Vec::new(), BTreeSet::new());
        while at_their_end.len() < reader.partitions {
            match tokio::time::timeout(PATIENCE, reader.consumer.recv()).await.expect("the broker answers") {
                Ok(message) => read.push(Lying::of(&message)),
                Err(KafkaError::PartitionEOF(partition)) => {
                    at_their_end.insert(partition);
                }
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
        read
    }

    /// The next offset that the group will read, per partition of the topic that it has committed.
    pub(crate) fn committed(&self, group: Service, topic: &str) -> BTreeMap<i32, i64> {
        let consumer = self.asking(group);
        let topic = self.names.topic(topic);
        let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT).expect("the topic");
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition(&topic, partition.id());
        }
        let committed = consumer.committed_offsets(list, TIMEOUT).expect("the group's offsets");
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        committed.elements().iter().filter_map(|at| Some((at.partition(), offset(at.offset())?))).collect()
    }

    /// The state of the group, and its members' ids.
    pub(crate) fn group(&self, group: Service) -> (String, Vec<String>) {
        let list = self.asking(group).fetch_group_list(Some(&self.names.group(group)), TIMEOUT);
        let list = list.expect("the broker knows its groups");
        let Some(group) = list.groups().first() else { return ("none".to_owned(), Vec::new()) };
        (group.state().to_owned(), group.members().iter().map(|member| member.id().to_owned()).collect())
    }

    fn asking(&self, group: Service) -> BaseConsumer {
        let mut config = kafka::client(&self.settings);
        config.set("group.id", self.names.group(group)).create().expect("a client that only asks")
    }
}

fn admin(settings: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    kafka::client(settings).create().expect("settings of a client")
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (settings, topics, names) = (self.settings.clone(), std::mem::take(&mut self.topics), self.names.clone());
        // A runtime of its own, as the test's may be ending.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let cluster = Cluster::connect(&settings).expect("settings of a client");
                cluster.delete(&topics).await.expect("the test's topics can be deleted");
                let groups: Vec<String> = Service::ALL.iter().map(|service| names.group(*service)).collect();
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                // Those that never were, or whose members were killed, are none of our trouble.
                let _ = admin(&settings).delete_groups(&groups, &AdminOptions::new()).await;
            });
        });
        let _ = cleaning.join();
    }
}

/// A record that lies on a topic.
#[derive(Debug, Clone)]
pub(crate) struct Lying {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: HashMap<String, String>,
}

impl Lying {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let header = |header: Header<'_, &[u8]>| (header.key.to_owned(), text(header.value));
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default(),
        }
    }

    pub(crate) fn event<T: EventData>(&self) -> envelope::Event<T> {
        envelope::decode(&self.value).expect("an event of its topic")
    }
}

/// Reads a topic from its beginning, in no group.
pub(crate) struct Reader {
    consumer: StreamConsumer,
    partitions: usize,
}

impl Reader {
    pub(crate) fn of(broker: &Broker, topic: &str) -> Self {
        let consumer: StreamConsumer = kafka::client(&broker.settings)
            .set("group.id", "reads in no group")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a reader");
        let topic = broker.names.topic(topic);
        let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT).expect("the topic");
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(&topic, partition.id(), Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("the topic's partitions");
        Self { consumer, partitions: list.count() }
    }

    pub(crate) async fn next(&self) -> Lying {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Lying::of(&message),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => panic!("reading back: {error}"),
            }
        }
    }
}

/// A member of a group of toys.
pub(crate) struct Member {
    pub(crate) toys: Arc<Toys>,
    pub(crate) health: Health,
    tasks: Tasks,
    consumer: Consumer,
}

impl Member {
    /// Joins the group of this service, which hears toys only.
    pub(crate) fn join(broker: &Broker, pool: &Pool, service: Service) -> Self {
        Self::join_with(broker, pool, service, Toys::new())
    }

    pub(crate) fn join_with(broker: &Broker, pool: &Pool, service: Service, toys: Arc<Toys>) -> Self {
        let group = Group::new(pool.clone(), toys.only_toys(service), toys::ladder());
        Self::start(broker, group, toys)
    }

    pub(crate) fn start(broker: &Broker, group: Group, toys: Arc<Toys>) -> Self {
        let health = Health::new(CancellationToken::new());
        let tasks = Tasks::new(health.clone());
        let consumer = Consumer::start_group(Arc::new(group), &broker.settings, &tasks);
        Self { toys, health, tasks, consumer: consumer.expect("a consumer") }
    }

    /// Waits until it has partitions.
    pub(crate) async fn has_joined(&self) {
        eventually("the member has partitions", || async {
            (self.health.readiness().await == Readiness::Ready).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.consumer.stop().await.expect("the member stops in order");
    }

    /// Cancelled once it can't go on: its process is to stop.
    pub(crate) fn failed(&self) -> CancellationToken {
        self.tasks.stopping().clone()
    }

    /// Stops one that failed.
    pub(crate) async fn stop_failed(self) {
        self.consumer.stop().await.expect_err("it ended by itself");
    }
}
