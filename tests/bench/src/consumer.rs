//! From the topic into the database: the runtime with its inbox and one UPDATE per event, against a bare
//! loop of the same statements in the same batches on as many connections.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{SubsecRound, Utc};
use common_events::{EventData, EventId, OrderId, Quantity, Service, TraceParent, envelope, events::OrderLinePlaced};
use futures::{FutureExt, future::try_join_all};
use messaging::{
    Consumer, Event, Handled, OwnTopic, Subscriptions, Tx,
    delivery::Group,
    ladder::Ladder,
    topics::{Cluster, Names, Wanted},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use service_runtime::{
    Health, Migrations, Pool, Tasks,
    settings::{Env, KafkaSettings},
};
use system::{Parts, eventually};
use test_support::Database;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::table::{Goal, Row, Samples};

const PAIRS: usize = 3;
const EVENTS: usize = 24_000;
const PARTITIONS: i32 = 3;
/// The runtime's largest batch, which is what it takes from a backlog.
const BATCH: usize = 500;
const LIMIT: Duration = Duration::from_mins(1);
/// The group's name; nobody else's subscriptions are meant.
const GROUP: Service = Service::Product;
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// One UPDATE per event, each of a row of its own: partitions that lock each other's rows in any order would
/// measure deadlocks.
const UPDATE: &str = "UPDATE counters SET pieces = pieces + $2 WHERE id = $1";

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        let rate = through_the_runtime().await?;
        println!("  runtime: {rate:.0} events/s");
        ours.push(rate);
        let rate = bare_loop().await?;
        println!("  bare loop: {rate:.0} events/s");
        bare.push(rate);
    }
    let what = "consumer: inbox and one UPDATE per event, against a bare loop".to_owned();
    Ok(vec![Row { what, unit: "events/s", ours, bare: Some(bare), goal: Goal::AtLeast(0.8) }])
}

async fn database() -> anyhow::Result<Database> {
    let database = Database::new(&[messaging::MIGRATIONS] as &[Migrations]).await;
    let client = database.pool.get().await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE counters (id integer PRIMARY KEY, pieces bigint NOT NULL) WITH (fillfactor = 50);
             INSERT INTO counters SELECT id, 0 FROM generate_series(0, {EVENTS} - 1) AS id"
        ))
        .await?;
    drop(client);
    Ok(database)
}

// --- ours -----------------------------------------------------------------------------------------

/// When the first batch was begun, and how many events are committed.
#[derive(Default)]
struct Progress {
    began: Mutex<Option<Instant>>,
    committed: AtomicUsize,
}

async fn through_the_runtime() -> anyhow::Result<f64> {
    let database = database().await?;
    let brokers = Parts::from_env().kafka;
    let prefix = format!("bench{}.", Uuid::now_v7().simple());
    let variables = [("KAFKA_BROKERS", brokers.as_str()), ("TOPIC_PREFIX", prefix.as_str())];
    let kafka = KafkaSettings::read(&Env::of(variables)).context("Kafka's address")?;
    let names = Names::with_prefix(prefix);
    let own = OwnTopic::ALL.map(|own| own.name(GROUP));
    let topics: Vec<String> = [OrderLinePlaced::TOPIC.name()]
        .into_iter()
        .chain(own.iter().map(String::as_str))
        .map(|name| names.topic(name))
        .collect();
    let cluster = Cluster::connect(&kafka)?;
    let as_wanted = |name: &String| Wanted { name: name.clone(), partitions: PARTITIONS, config: BTreeMap::new() };
    let wanted: Vec<Wanted> = topics.iter().map(as_wanted).collect();
    cluster.apply(&cluster.plan(&wanted).await?).await?;
    produce(brokers, topics[0].clone()).await?;

    let progress = Arc::new(Progress::default());
    let group = Arc::new(Group::new(database.pool.clone(), subscriptions(&progress), Ladder::default()));
    let tasks = Tasks::new(Health::new(CancellationToken::new()));
    let consumer = Consumer::start_group(group, &kafka, &tasks)?;
    eventually("all events are applied", LIMIT, async || {
        let committed = progress.committed.load(Ordering::Relaxed);
        ensure!(committed >= EVENTS, "{committed} of {EVENTS}");
        Ok(())
    })
    .await?;
    let began = progress.began.lock().ok().and_then(|began| *began).context("nothing was applied")?;
    let took = began.elapsed();
    consumer.stop().await?;
    cluster.delete(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(rate(took))
}

fn subscriptions(progress: &Arc<Progress>) -> Subscriptions {
    let progress = Arc::clone(progress);
    Subscriptions::of(GROUP)
        .hear::<OrderLinePlaced, _>(move |tx, events| count_pieces(tx, events, Arc::clone(&progress)).boxed())
}

async fn count_pieces(tx: &Tx<'_>, events: &[&Event<OrderLinePlaced>], progress: Arc<Progress>) -> Handled {
    if let Ok(mut began) = progress.began.lock() {
        began.get_or_insert_with(Instant::now);
    }
    for event in events {
        tx.execute(UPDATE, &[&counter_of(event.data.order_id), &i64::from(event.data.quantity.get())]).await?;
    }
    let count = events.len();
    tx.after_commit(move || {
        progress.committed.fetch_add(count, Ordering::Relaxed);
    });
    Ok(())
}

/// The number is the order's id, and the row's.
fn order_of(number: usize) -> OrderId {
    OrderId::new(Uuid::from_u128(number as u128))
}

fn counter_of(order: OrderId) -> i32 {
    i32::try_from(order.uuid().as_u128()).unwrap_or_default()
}

async fn produce(brokers: String, topic: String) -> anyhow::Result<()> {
    let producing = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("linger.ms", "5").set("acks", "all");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().context("a producer")?;
        for number in 0..EVENTS {
            let event = event(number)?;
            let value = envelope::encode(&event).context("an event")?;
            let record = BaseRecord::to(&topic).key(&event.subject).payload(&value);
            producer.send(record).map_err(|(error, _)| error).context("producing")?;
        }
        producer.flush(LIMIT).context("producing")
    });
    producing.await.context("producing")?
}

fn event(number: usize) -> anyhow::Result<envelope::Event<OrderLinePlaced>> {
    let order_id = order_of(number);
    let trace: TraceParent = TRACE.parse().context("a trace")?;
    // A key of its own for each, so that the partitions get the same.
    let data = OrderLinePlaced {
        order_id,
        order_version: 1,
        user_id: "kim".parse().context("a user")?,
        product_id: format!("p-{number}").parse().context("a product")?,
        quantity: Quantity::try_from(2).context("a quantity")?,
    };
    let subject = data.key().into_owned();
    Ok(envelope::Event { id: EventId::new(Uuid::now_v7()), time: Utc::now().trunc_subsecs(3), subject, trace, data })
}

// --- bare -----------------------------------------------------------------------------------------

async fn bare_loop() -> anyhow::Result<f64> {
    let database = database().await?;
    let today = Utc::now().date_naive();
    let client = database.pool.get().await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE inbox_today PARTITION OF inbox FOR VALUES FROM ('{today}') TO ('{}')",
            today + chrono::Days::new(1)
        ))
        .await?;
    drop(client);
    let began = Instant::now();
    let share = EVENTS / usize::try_from(PARTITIONS).unwrap_or(1);
    let workers = (0..PARTITIONS).map(|partition| {
        let pool = database.pool.clone();
        let first = share * usize::try_from(partition).unwrap_or_default();
        async move { tokio::spawn(bare_worker(pool, partition, first..first + share)).await.context("a bare loop")? }
    });
    try_join_all(workers).await?;
    Ok(rate(began.elapsed()))
}

/// The runtime's own statement for the inbox, the same UPDATEs, the same batches.
async fn bare_worker(pool: Pool, partition: i32, events: Range<usize>) -> anyhow::Result<()> {
    let mut client = pool.get().await?;
    let today = Utc::now().date_naive();
    for first in events.clone().step_by(BATCH) {
        let count = BATCH.min(events.end - first);
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let days = vec![today; count];
        let topics = vec![OrderLinePlaced::TOPIC.name(); count];
        let partitions = vec![partition; count];
        let offsets: Vec<i64> = (first..first + count).filter_map(|offset| i64::try_from(offset).ok()).collect();
        let tx = client.transaction().await?;
        let insert = tx
            .prepare_cached(
                r#"INSERT INTO inbox (day, event_id, topic, "partition", "offset")
                   SELECT * FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[])
                       AS arrival (day, event_id, topic, "partition", "offset")
                   ORDER BY event_id
                   ON CONFLICT DO NOTHING
                   RETURNING event_id"#,
            )
            .await?;
        tx.query(&insert, &[&days, &ids, &topics, &partitions, &offsets]).await?;
        let update = tx.prepare_cached(UPDATE).await?;
        for number in first..first + count {
            tx.execute(&update, &[&counter_of(order_of(number)), &2_i64]).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

fn rate(took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let events = EVENTS as f64;
    events / took.as_secs_f64()
}
