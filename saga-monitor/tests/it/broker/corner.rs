//! A corner of the broker: the topics that the monitor hears, under a prefix of their own, deleted in the end.

use std::collections::BTreeSet;

use common_events::Service;
use messaging::{
    Consumer, kafka,
    topics::{self, Cluster, Names},
};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use saga_monitor::{
    events::{self, recorder::Recorder},
    store,
};
use service_runtime::{CommonSettings, Env, Runtime, settings::KafkaSettings};
use test_support::Database;
use uuid::Uuid;

const SEND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Where a record lies: topic, partition, offset.
pub(crate) type Place = (String, i32, i64);

pub(crate) struct Corner {
    pub(crate) settings: KafkaSettings,
    pub(crate) database: Database,
    env: Env,
    names: Names,
    producer: FutureProducer,
    topics: Vec<String>,
}

impl Corner {
    /// With the topics that the monitor hears.
    pub(crate) async fn new() -> Self {
        let heard: BTreeSet<String> = events::topics().collect();
        let corner = Self::with(|topic| heard.contains(topic)).await;
        assert_eq!(corner.topics.len(), heard.len(), "every topic that is heard is made with the others");
        corner
    }

    /// With all the topics that the suite has.
    pub(crate) async fn with_every_topic() -> Self {
        Self::with(|_| true).await
    }

    async fn with(is_wanted: impl Fn(&str) -> bool) -> Self {
        let id = Uuid::now_v7().simple().to_string();
        let prefix = format!("test-{}-", &id[20..]);
        let brokers = test_support::kafka_brokers();
        let env = Env::of([
            ("KAFKA_BROKERS", brokers.as_str()),
            ("TOPIC_PREFIX", &prefix),
            ("AUTH_MODE", "header"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ]);
        let settings = KafkaSettings::read(&env).expect("good settings");
        let names = Names::with_prefix(prefix);
        let all = topics::wanted(&names).into_iter();
        let wanted: Vec<_> = all.filter(|wanted| is_wanted(names.bare(&wanted.name))).collect();
        let cluster = Cluster::connect(&settings).expect("settings of a client");
        let plan = cluster.plan(&wanted).await;
        let plan = plan.unwrap_or_else(|error| panic!("Kafka doesn't answer at {brokers}: {error:#}"));
        cluster.apply(&plan).await.expect("the topics are made");
        let producer = kafka::client(&settings).create().expect("a producer");
        let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let topics = wanted.into_iter().map(|wanted| wanted.name).collect();
        Self { settings, database, env, names, producer, topics }
    }

    pub(crate) fn start_monitor(&self) -> Consumer {
        let settings = CommonSettings::read(Service::SagaMonitor, &self.env).expect("good settings");
        let runtime = Runtime::new(Service::SagaMonitor, self.env.clone(), settings);
        let recorder = std::sync::Arc::new(Recorder::start(&runtime.tasks, self.database.pool.clone()));
        Consumer::start(&runtime, self.database.pool.clone(), events::subscriptions(recorder)).expect("a consumer")
    }

    /// Its topics, without the prefix.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|full| self.names.bare(full).to_owned()).collect()
    }

    /// The full name of a topic.
    pub(crate) fn full(&self, topic: &str) -> String {
        self.names.topic(topic)
    }

    /// Sends anything; returns where it lies.
    pub(crate) async fn send(&self, topic: &str, key: &str, value: &[u8], headers: &[(&str, &str)]) -> Place {
        let full = self.names.topic(topic);
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value.as_bytes()) }));
        let record = FutureRecord::to(&full).key(key).payload(value).headers(headers);
        let sent = self.producer.send(record, SEND_TIMEOUT).await.expect("the broker takes it");
        (topic.to_owned(), sent.partition, sent.offset)
    }

    /// Where everything lies that is in the log.
    pub(crate) async fn logged(&self) -> Vec<Place> {
        let client = self.database.pool.get().await.expect("a connection");
        let rows = client.query(r#"SELECT topic, "partition", "offset" FROM saga_state_log"#, &[]).await;
        rows.expect("PostgreSQL answers").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let (settings, topics) = (self.settings.clone(), std::mem::take(&mut self.topics));
        // A runtime of its own, as the test's may be ending.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let cluster = Cluster::connect(&settings).expect("settings of a client");
                cluster.delete(&topics).await.expect("the test's topics can be deleted");
            });
        });
        let _ = cleaning.join();
    }
}
