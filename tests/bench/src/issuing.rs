//! From the topic to the coupons: the real issuer on a backlog, against a bare loop of the same batch inserts
//! into the same tables.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{SubsecRound, Utc};
use common_events::{CouponId, EventData, EventId, Service, TraceParent, envelope, events::CouponIssueRequested};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use system::{
    Suite, eventually,
    shop::{CouponMode, Discount, NewCoupon},
    suite::Instance,
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const COUPONS: usize = 20_000;
/// The runtime's largest batch, which is what it takes from a backlog.
const BATCH: usize = 500;
const LIMIT: Duration = Duration::from_mins(1);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// About what a `coupon-issued` has.
const ANSWER_BYTES: usize = 700;

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    let database = suite.database(Service::Coupon).await?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        suite.run(Service::Coupon).await?;
        let (first, second) = (new_coupon(&suite).await?, new_coupon(&suite).await?);
        suite.terminate(Service::Coupon, Instance::First).await?;

        produce(&suite, first.clone()).await?;
        suite.spawn(Service::Coupon, Instance::First)?;
        let rate = watch_issuing(&database, &first).await?;
        println!("  issuer: {rate:.0} coupons/s");
        ours.push(rate);

        until_the_relay_is_idle(&suite).await?;
        suite.terminate(Service::Coupon, Instance::First).await?;
        let rate = by_a_bare_loop(&suite, &second).await?;
        println!("  bare loop: {rate:.0} coupons/s");
        bare.push(rate);
        until_the_relay_is_idle(&suite).await?;
    }
    let what = "coupons issued from the topic, against a bare loop".to_owned();
    Ok(vec![Row { what, unit: "coupons/s", ours, bare: Some(bare), goal: Goal::AtLeast(0.5) }])
}

async fn new_coupon(suite: &Suite) -> anyhow::Result<CouponId> {
    let quantity = i64::try_from(COUPONS)?;
    let new = NewCoupon::of(CouponMode::Set, quantity, Discount::Amount { value: 1_000 });
    Ok(suite.shop.admin().create_coupon(&new).await?.coupon_id)
}

async fn until_the_relay_is_idle(suite: &Suite) -> anyhow::Result<()> {
    eventually("the answers are published", LIMIT, async || suite.nothing_waits_in_the_outbox_of(Service::Coupon).await)
        .await
}

// --- ours -----------------------------------------------------------------------------------------

/// Admissions as the gate of epoch 1 publishes them, which no coupon had time to leave.
async fn produce(suite: &Suite, coupon: CouponId) -> anyhow::Result<()> {
    let brokers = suite.parts().kafka.clone();
    let topic = suite.names().topic(CouponIssueRequested::TOPIC.name());
    let producing = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("linger.ms", "5").set("acks", "all");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().context("a producer")?;
        for number in 0..COUPONS {
            let event = admission(&coupon, number)?;
            let value = envelope::encode(&event).context("an event")?;
            let record = BaseRecord::to(&topic).key(&event.subject).payload(&value);
            producer.send(record).map_err(|(error, _)| error).context("producing")?;
        }
        producer.flush(LIMIT).context("producing")
    });
    producing.await.context("producing")?
}

fn admission(coupon: &CouponId, number: usize) -> anyhow::Result<envelope::Event<CouponIssueRequested>> {
    let time = Utc::now().trunc_subsecs(3);
    let trace: TraceParent = TRACE.parse().context("a trace")?;
    let user_id = format!("user-{number}").parse().context("a user")?;
    let data = CouponIssueRequested { coupon_id: coupon.clone(), user_id, rank: None, epoch: 1, admitted_at: time };
    Ok(envelope::Event { id: EventId::new(Uuid::now_v7()), time, subject: data.key().into_owned(), trace, data })
}

/// From the beginning of the first batch to that of the last, which say when they began: who asks more often
/// than now and then takes the cores away from who works.
async fn watch_issuing(database: &Client, coupon: &CouponId) -> anyhow::Result<f64> {
    let all = i64::try_from(COUPONS)?;
    eventually("every coupon is issued", LIMIT, async || {
        let sql = "SELECT issued FROM coupons WHERE coupon_id = $1";
        let issued: i64 = database.query_one(sql, &[&coupon.as_str()]).await?.get(0);
        ensure!(issued == all, "{issued} of {all}");
        Ok(())
    })
    .await?;
    let sql = "WITH batches AS (
                   SELECT issued_at AS began, count(*) AS coupons FROM issued_coupons WHERE coupon_id = $1 GROUP BY began
               ), ends AS (SELECT min(began) AS first, max(began) AS last FROM batches)
               SELECT sum(coupons)::bigint, extract(epoch FROM last - first)::float8
               FROM batches, ends WHERE began < last GROUP BY first, last";
    let row = database.query_opt(sql, &[&coupon.as_str()]).await?.context("several batches")?;
    Ok(rate(row.get(0), Duration::try_from_secs_f64(row.get(1))?))
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn rate(coupons: i64, took: Duration) -> f64 {
    coupons as f64 / took.as_secs_f64()
}

// --- bare -----------------------------------------------------------------------------------------

/// One connection, as one coupon is one partition and so one worker.
async fn by_a_bare_loop(suite: &Suite, coupon: &CouponId) -> anyhow::Result<f64> {
    let mut client = suite.database(Service::Coupon).await?;
    let statements = Statements::prepare(&client).await?;
    let began = Instant::now();
    for first in (0..COUPONS).step_by(BATCH) {
        insert_batch(&mut client, &statements, coupon, first).await?;
    }
    let took = began.elapsed();
    let sql = "SELECT issued FROM coupons WHERE coupon_id = $1";
    let issued: i64 = client.query_one(sql, &[&coupon.as_str()]).await?.get(0);
    ensure!(usize::try_from(issued)? == COUPONS, "the bare loop issued {issued}");
    Ok(rate(issued, took))
}

/// What the runtime and the issuer run for a batch in which everybody gets a coupon: the inbox, the coupon's
/// row, the coupons, the answers.
struct Statements {
    inbox: tokio_postgres::Statement,
    lock: tokio_postgres::Statement,
    issue: tokio_postgres::Statement,
    publish: tokio_postgres::Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> anyhow::Result<Self> {
        Ok(Self {
            inbox: client
                .prepare(
                    r#"INSERT INTO inbox (day, event_id, topic, "partition", "offset")
                       SELECT current_date, event_id, 'coupon-issue-requested', 0, 0 FROM unnest($1::uuid[]) AS event_id
                       ON CONFLICT DO NOTHING RETURNING event_id"#,
                )
                .await?,
            lock: client.prepare("SELECT quantity, issued FROM coupons WHERE coupon_id = $1 FOR UPDATE").await?,
            issue: client
                .prepare(
                    "WITH inserted AS (
                         INSERT INTO issued_coupons (issued_coupon_id, coupon_id, user_id, request_id, discount, issued_at)
                         SELECT id, $1, user_id, request_id, $4::jsonb, now()
                         FROM unnest($2::uuid[], $3::text[], $5::uuid[]) AS asked (id, user_id, request_id)
                         ON CONFLICT DO NOTHING RETURNING coupon_id
                     )
                     UPDATE coupons SET issued = issued + (SELECT count(*) FROM inserted) WHERE coupon_id = $1",
                )
                .await?,
            publish: client
                .prepare(
                    "WITH published AS (
                         SELECT cause_id, position FROM unnest($1::uuid[]) WITH ORDINALITY AS row (cause_id, position)
                     ), kept AS (
                         INSERT INTO kept_answers (day, cause_id, position, topic, key, payload, traceparent, compacted)
                         SELECT current_date, cause_id, position, 'coupon-issued', $2, $3, $4, false FROM published
                     )
                     INSERT INTO outbox (topic, key, payload, traceparent)
                     SELECT 'coupon-issued', $2, $3, $4 FROM published",
                )
                .await?,
        })
    }
}

async fn insert_batch(
    client: &mut Client,
    statements: &Statements,
    coupon: &CouponId,
    first: usize,
) -> anyhow::Result<()> {
    let count = BATCH.min(COUPONS - first);
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let requests: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let users: Vec<String> = (first..first + count).map(|number| format!("user-{number}")).collect();
    let discount = serde_json::json!({ "kind": "amount", "value": 1_000 });
    let answer = vec![b'x'; ANSWER_BYTES];
    let coupon = coupon.as_str();
    let tx = client.transaction().await?;
    tx.query(&statements.inbox, &[&requests]).await?;
    tx.query_one(&statements.lock, &[&coupon]).await?;
    tx.execute(&statements.issue, &[&coupon, &ids, &users, &discount, &requests]).await?;
    tx.execute(&statements.publish, &[&requests, &coupon.as_bytes(), &answer, &TRACE]).await?;
    tx.commit().await.context("a batch")
}
