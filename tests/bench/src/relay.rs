//! From the outbox to Kafka: the real program against Kafka's own benchmark of a producer.

use std::{
    collections::HashMap,
    env,
    net::UdpSocket,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common_events::Service;
use hdrhistogram::Histogram;
use messaging::topics::{Cluster, Names, Wanted};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use service_runtime::settings::{Env, KafkaSettings};
use system::{Parts, eventually, suite::Process};
use test_support::Database;
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const ROWS: i64 = 100_000;
/// More than our rows: Java is slow at first, and the tool counts from its first record.
const TOOL_RECORDS: i64 = 500_000;
/// About what an order's events have.
const RECORD_BYTES: usize = 900;
const PARTITIONS: i32 = 3;
const TOPIC: &str = "order-created";
const LIMIT: Duration = Duration::from_mins(1);
/// Rows one by one, for the added latency.
const LIGHT_ROWS: usize = 300;
const LIGHT_GAP: Duration = Duration::from_millis(20);

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let bench = Bench::start().await?;
    bench.fill(ROWS / 10).await?;
    bench.until_empty().await?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        ours.push(bench.rows_per_second().await?);
        bare.push(bench.producer_perf_test().await?);
    }
    let latency = bench.added_latency().await?;
    bench.end().await?;
    let row = |what: &str, unit, ours, bare, goal| Row { what: what.to_owned(), unit, ours, bare, goal };
    Ok(vec![
        row("relay: outbox → acked, against a producer", "rows/s", ours, Some(bare), Goal::AtLeast(0.25)),
        row("relay: written → to be read, p50", "ms", latency.into(), None, Goal::AtMost(10.0)),
    ])
}

struct Bench {
    database: Database,
    names: Names,
    cluster: Cluster,
    brokers: String,
    wake: UdpSocket,
    relay: Process,
}

impl Bench {
    async fn start() -> anyhow::Result<Self> {
        let database = Database::new(&[messaging::MIGRATIONS]).await;
        let prefix = format!("bench{}.", Uuid::now_v7().simple());
        let names = Names::with_prefix(prefix.clone());
        let brokers = Parts::from_env().kafka;
        let kafka = KafkaSettings::read(&Env::of([("KAFKA_BROKERS", &*brokers)])).context("Kafka's address")?;
        let cluster = Cluster::connect(&kafka)?;
        let wanted = Wanted { name: names.topic(TOPIC), partitions: PARTITIONS, config: <_>::default() };
        cluster.apply(&cluster.plan(&[wanted]).await?).await?;

        let [http, wake_address] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let variables = [
            ("HTTP_ADDR", http.clone()),
            ("DATABASE_URLS", database.url.clone()),
            ("KAFKA_BROKERS", brokers.clone()),
            ("TOPIC_PREFIX", prefix),
            ("OUTBOX_WAKE_ADDR", wake_address.clone()),
            ("OTEL_TRACES_EXPORTER", "none".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let settings = settings();
        std::fs::create_dir_all(&settings.logs).context("the folder of logs")?;
        let log = settings.logs.join("outbox-relay.log");
        let relay = Process::spawn(&settings.bin_dir, Service::OutboxRelay.name(), &variables, &log)?;
        eventually("the relay is ready", LIMIT, async || {
            let answer = reqwest::get(format!("http://{http}/health/ready")).await?;
            ensure!(answer.status().is_success(), "{}", answer.status());
            Ok(())
        })
        .await?;
        let wake = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
        wake.connect(wake_address).context("hints")?;
        Ok(Self { database, names, cluster, brokers, wake, relay })
    }

    async fn end(self) -> anyhow::Result<()> {
        drop(self.relay);
        self.cluster.delete(&[&self.names.topic(TOPIC)]).await
    }

    /// Rows that become visible all at once, each with a key of its own.
    async fn fill(&self, rows: i64) -> anyhow::Result<()> {
        let client = self.database.pool.get().await?;
        let sql = format!(
            "INSERT INTO outbox (topic, key, payload, traceparent)
             SELECT '{TOPIC}', md5(row::text)::bytea, convert_to(repeat('x', {RECORD_BYTES}), 'UTF8'),
                    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'
             FROM generate_series(1, $1::bigint) AS row"
        );
        client.execute(&sql, &[&rows]).await?;
        self.hint();
        Ok(())
    }

    async fn rows_per_second(&self) -> anyhow::Result<f64> {
        self.fill(ROWS).await?;
        let began = Instant::now();
        self.until_empty().await?;
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let rate = ROWS as f64 / began.elapsed().as_secs_f64();
        println!("  relay: {rate:.0} rows/s");
        Ok(rate)
    }

    async fn until_empty(&self) -> anyhow::Result<()> {
        let client = self.database.pool.get().await?;
        eventually("the outbox is empty", LIMIT, async || {
            let is_empty: bool = client.query_one("SELECT NOT EXISTS (SELECT FROM outbox)", &[]).await?.get(0);
            ensure!(is_empty, "it isn't");
            Ok(())
        })
        .await
    }

    /// What Kafka's own tool reaches, by its own account.
    async fn producer_perf_test(&self) -> anyhow::Result<f64> {
        let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set (make bench sets it)"));
        let output = Command::new(variable("TEST_JAVA")?)
            .args(["-cp", &format!("{}/*", variable("TEST_KAFKA_LIBS")?)])
            .arg("org.apache.kafka.tools.ProducerPerformance")
            .args(["--topic", &self.names.topic(TOPIC)])
            .args(["--num-records", &TOOL_RECORDS.to_string()])
            .args(["--record-size", &RECORD_BYTES.to_string()])
            .args(["--throughput", "-1"])
            .args(["--producer-props", &format!("bootstrap.servers={}", self.brokers), "acks=all"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, output).await.context("the perf test hangs")??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = || format!("the perf test said: {said}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), error());
        // "100000 records sent, 81234.567890 records/sec (69.73 MB/sec), …" is its last line.
        let rate = said.lines().rev().find_map(|line| {
            line.split(", ").find_map(|part| part.split_once(" records/sec")?.0.trim().parse::<f64>().ok())
        });
        let rate = rate.with_context(error)?;
        println!("  kafka-producer-perf-test: {rate:.0} records/s");
        Ok(rate)
    }

    /// The median time from a commit with a hint, as services make it, until a reader has the record, in ms:
    /// a little more than until the ack.
    async fn added_latency(&self) -> anyhow::Result<f64> {
        let read = Arc::new(Mutex::new(HashMap::new()));
        let enough = Arc::new(AtomicBool::new(false));
        let reading = {
            let (consumer, read, enough) = (self.reader()?, Arc::clone(&read), Arc::clone(&enough));
            tokio::task::spawn_blocking(move || read_keys(&consumer, &read, &enough))
        };
        let client = self.database.pool.get().await?;
        let insert =
            client.prepare("INSERT INTO outbox (topic, key, payload, traceparent) VALUES ($1, $2, $3, $4)").await?;
        let payload = vec![b'x'; RECORD_BYTES];
        let mut written = HashMap::new();
        for _ in 0..LIGHT_ROWS {
            tokio::time::sleep(LIGHT_GAP).await;
            let key = Uuid::now_v7().simple().to_string().into_bytes();
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
            client.execute(&insert, &[&TOPIC, &key, &payload, &trace]).await?;
            written.insert(key, Instant::now());
            self.hint();
        }
        eventually("the rows are read", LIMIT, async || {
            let read = read.lock().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
            ensure!(written.keys().all(|key| read.contains_key(key)), "{} of {LIGHT_ROWS}", read.len());
            Ok(())
        })
        .await?;
        enough.store(true, Ordering::Relaxed);
        reading.await.context("the reader")?;
        let read = read.lock().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let mut latencies = Histogram::<u64>::new(3).context("a histogram")?;
        for (key, at) in &written {
            let took = read[key].saturating_duration_since(*at).as_micros();
            latencies.record(u64::try_from(took).unwrap_or(u64::MAX)).context("a latency")?;
        }
        println!("  written → read: {}", load::Latency::of(&latencies));
        Ok(load::Latency::of(&latencies).p50)
    }

    /// Reads what comes from now on.
    fn reader(&self) -> anyhow::Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", self.names.topic("reader"))
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().context("a reader")?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let topic = self.names.topic(TOPIC);
            let (_, end) = consumer.fetch_watermarks(&topic, partition, LIMIT).context("the end")?;
            partitions.add_partition_offset(&topic, partition, Offset::Offset(end)).context("the end")?;
        }
        consumer.assign(&partitions).context("reading")?;
        Ok(consumer)
    }

    fn hint(&self) {
        let name = self.database.url.rsplit('/').next().unwrap_or_default();
        let _ = self.wake.send(name.as_bytes());
    }
}

fn read_keys(consumer: &BaseConsumer, read: &Mutex<HashMap<Vec<u8>, Instant>>, enough: &AtomicBool) {
    while !enough.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50))
            && let (Some(key), Ok(mut read)) = (message.key(), read.lock())
        {
            read.insert(key.to_vec(), Instant::now());
        }
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?.port())
}
