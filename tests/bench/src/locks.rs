//! What first come, first served costs otherwise: a lock in the database, a lock in Redis, and in the gate a
//! rank for everybody instead of a set of users.
//!
//! The locks are bare loops without HTTP, Kafka and process around them; the service is asked over HTTP, and
//! answers 202 only when Kafka has the request. So the ratios are the worst case for the service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use load::{
    Live,
    sale::{self, Held, Kind, Rush, Sale},
};
use redis::aio::MultiplexedConnection;
use service_runtime::Pool;
use system::{
    Suite,
    shop::{CouponMode, Discount, NewCoupon},
};
use test_support::Database;
use uuid::Uuid;

use crate::{
    gate::BareGate,
    settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const USERS: u32 = 5_000;
const REPEATS: u32 = 500;
const QUANTITY: u32 = 1_000;
const CONNECTIONS: u32 = 64;
/// Requests to the bare gate, and users among them.
const BARE_REQUESTS: u32 = 55_000;
const BARE_USERS: u32 = 50_000;
const BARE_QUANTITY: u32 = 10_000;
/// How long a lock in Redis outlives its holder, and how long who waits for it pauses.
const LOCK_MS: u64 = 5_000;
const LOCK_PAUSE: Duration = Duration::from_millis(1);
const MAX_TRIES: usize = 60_000;
const UNLOCK: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    over_http(&suite).await?;
    let mut figures = Figures::default();
    for _ in 0..PAIRS {
        figures.service.push(over_http(&suite).await?);
        figures.database_lock.push(with_lock(&suite, Lock::OfDatabase).await?);
        figures.service_again.push(over_http(&suite).await?);
        figures.redis_lock.push(with_lock(&suite, Lock::OfRedis).await?);
    }
    let mut set = BareGate::like_one_of(&suite, CouponMode::Set, BARE_QUANTITY.into()).await?;
    let mut ranked = BareGate::like_one_of(&suite, CouponMode::Ranked, BARE_QUANTITY.into()).await?;
    for _ in 0..PAIRS {
        figures.set.push(set.answers_per_second(BARE_REQUESTS, BARE_USERS, CONNECTIONS).await?);
        figures.ranked.push(ranked.answers_per_second(BARE_REQUESTS, BARE_USERS, CONNECTIONS).await?);
    }
    set.close().await?;
    ranked.close().await?;
    Ok(figures.rows())
}

#[derive(Default)]
struct Figures {
    service: Samples,
    database_lock: Samples,
    service_again: Samples,
    redis_lock: Samples,
    set: Samples,
    ranked: Samples,
}

impl Figures {
    fn rows(self) -> Vec<Row> {
        let row = |what: &str, ours, bare, goal| {
            let goal = Goal::AtLeast(goal);
            Row { what: what.to_owned(), unit: "answers/s", ours, bare: Some(bare), goal }
        };
        vec![
            row("sale: gate and Kafka, against a database lock", self.service, self.database_lock, 1.0),
            row("sale: gate and Kafka, against a Redis lock", self.service_again, self.redis_lock, 1.0),
            row("gate: ranks (INCR), against a set", self.ranked, self.set, 0.5),
        ]
    }
}

async fn over_http(suite: &Suite) -> anyhow::Result<f64> {
    let new = NewCoupon::of(CouponMode::Set, QUANTITY.into(), Discount::Amount { value: 1_000 });
    let coupon = suite.shop.admin().create_coupon(&new).await?;
    let sale = Sale::of(&suite.shop, coupon.coupon_id, QUANTITY.into());
    let rush = Rush { repeats: REPEATS, ..Rush::of(USERS, CONNECTIONS) };
    let Held { tally, issuing } = sale::hold(&suite.shop, &sale, &rush, &Live::default()).await?;
    ensure!(issuing.drained_after.is_some(), "coupons are missing");
    ensure!(tally.answers.of(Kind::Admitted) == u64::from(QUANTITY), "{:?}", tally.answers);
    println!("  gate and Kafka, over HTTP: {:.0} answers/s, {}", tally.per_second(), tally.latencies());
    Ok(tally.per_second())
}

#[derive(Debug, Clone, Copy)]
enum Lock {
    OfDatabase,
    OfRedis,
}

/// The same requests, decided under a lock by a row per holder and a count.
async fn with_lock(suite: &Suite, lock: Lock) -> anyhow::Result<f64> {
    let database = Database::new(&[]).await;
    let client = database.pool.get().await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE coupon (issued bigint NOT NULL, quantity bigint NOT NULL);
             INSERT INTO coupon VALUES (0, {QUANTITY});
             CREATE TABLE holders (user_id text PRIMARY KEY)"
        ))
        .await?;
    let redis = redis::Client::open(suite.parts().redis.as_str())?.get_multiplexed_async_connection().await?;
    let desk = Arc::new(Desk { pool: database.pool.clone(), redis, lock, name: Uuid::now_v7().to_string() });
    let next = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let askers = (0..CONNECTIONS).map(|_| {
        let (desk, next) = (Arc::clone(&desk), Arc::clone(&next));
        async move { tokio::spawn(ask_in_turns(desk, next)).await.context("an asker")? }
    });
    try_join_all(askers).await?;
    let rate = f64::from(USERS + REPEATS) / began.elapsed().as_secs_f64();
    let row = client.query_one("SELECT issued, (SELECT count(*) FROM holders) FROM coupon", &[]).await?;
    let (issued, holders): (i64, i64) = (row.get(0), row.get(1));
    ensure!((issued, holders) == (QUANTITY.into(), QUANTITY.into()), "{issued} issued to {holders}");
    println!("  under a lock ({lock:?}): {rate:.0} answers/s");
    Ok(rate)
}

async fn ask_in_turns(desk: Arc<Desk>, next: Arc<AtomicU32>) -> anyhow::Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= USERS + REPEATS {
            return Ok(());
        }
        let user = format!("user-{}", number % USERS);
        match desk.lock {
            Lock::OfDatabase => desk.decide(&user, "SELECT issued, quantity FROM coupon FOR UPDATE").await?,
            Lock::OfRedis => desk.decide_under_redis_lock(&user).await?,
        }
    }
}

struct Desk {
    pool: Pool,
    redis: MultiplexedConnection,
    lock: Lock,
    name: String,
}

impl Desk {
    async fn decide(&self, user: &str, look: &str) -> anyhow::Result<()> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let row = tx.query_one(&tx.prepare_cached(look).await?, &[]).await?;
        let (issued, quantity): (i64, i64) = (row.get(0), row.get(1));
        if issued < quantity {
            let insert = tx.prepare_cached("INSERT INTO holders VALUES ($1) ON CONFLICT DO NOTHING").await?;
            if tx.execute(&insert, &[&user]).await? == 1 {
                tx.execute(&tx.prepare_cached("UPDATE coupon SET issued = issued + 1").await?, &[]).await?;
            }
        }
        tx.commit().await.context("a decision")
    }

    async fn decide_under_redis_lock(&self, user: &str) -> anyhow::Result<()> {
        let mut redis = self.redis.clone();
        let token = Uuid::now_v7().to_string();
        for _ in 0..MAX_TRIES {
            let mut set = redis::cmd("SET");
            set.arg(&self.name).arg(&token).arg("NX").arg("PX").arg(LOCK_MS);
            let got: Option<String> = set.query_async(&mut redis).await?;
            if got.is_some() {
                self.decide(user, "SELECT issued, quantity FROM coupon").await?;
                let mut unlock = redis::cmd("EVAL");
                return Ok(unlock.arg(UNLOCK).arg(1).arg(&self.name).arg(&token).exec_async(&mut redis).await?);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        bail!("the lock is never free")
    }
}
