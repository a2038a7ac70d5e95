//! A coupon-service of one test: its database, its corner of Kafka and Redis, its processes.

use std::{collections::BTreeSet, sync::Arc};

use chrono::Utc;
use common_events::{
    ClaimRefusal, CouponId, Service, UserId, Won,
    events::{CouponIssueRequested, Discount},
};
use coupon_service::{
    admission::{Admission, Admitted, Refused, Standing},
    domain::{Coupon, Mode},
    events,
    gate::Gate,
    store,
};
use messaging::{
    Consumer, Tx,
    direct::Publisher,
    relay::{self, LeaseTimes, Source},
    topics::{self, Cluster, Names, Wanted},
};
use service_runtime::{
    Pool, Runtime,
    settings::{CommonSettings, Env, KafkaSettings},
    telemetry,
};
use test_support::{Database, eventually};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Short, so that rebuilds take seconds, and long enough for a broker with many tests to serve.
const PRODUCE_TIMEOUT: &str = "2s";
const SHARED_REDIS: &str = "redis://127.0.0.1:16379";

pub(crate) struct Station {
    pub(crate) database: Database,
    pub(crate) runtime: Runtime,
    kafka: KafkaSettings,
    topics: Vec<String>,
}

impl Station {
    /// On the shared parts.
    pub(crate) async fn open() -> Self {
        Self::on(&shared_redis(), &test_support::kafka_brokers(), &[]).await
    }

    pub(crate) async fn on_redis(redis: &str) -> Self {
        Self::on(redis, &test_support::kafka_brokers(), &[]).await
    }

    pub(crate) async fn on(redis: &str, brokers: &str, more: &[(&str, &str)]) -> Self {
        let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let id = Uuid::now_v7().simple().to_string();
        let prefix = format!("test-{}-", &id[20..]);
        let mut env = vec![
            ("HTTP_ADDR", "127.0.0.1:0"),
            ("AUTH_MODE", "header"),
            ("DATABASE_URL", &database.url),
            ("REDIS_URL", redis),
            ("KAFKA_BROKERS", brokers),
            ("TOPIC_PREFIX", &prefix),
            ("PRODUCE_TIMEOUT", PRODUCE_TIMEOUT),
            ("OTEL_TRACES_EXPORTER", "none"),
        ];
        env.extend(more);
        let env = Env::of(env);
        let settings = CommonSettings::read(Service::Coupon, &env).expect("settings");
        let kafka = settings.kafka.clone();
        let topics = make_topics(&kafka).await;
        let runtime = Runtime::new(Service::Coupon, env, settings);
        Self { database, runtime, kafka, topics }
    }

    pub(crate) fn pool(&self) -> Pool {
        self.database.pool.clone()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.kafka.topic_prefix
    }

    pub(crate) fn gate(&self) -> Gate {
        let redis = self.runtime.settings.redis_url.as_ref().expect("set");
        Gate::at(redis, self.prefix(), &self.runtime.tasks).expect("a gate")
    }

    pub(crate) async fn publisher(&self) -> Publisher {
        Publisher::start::<CouponIssueRequested>(&self.runtime, self.pool()).await.expect("a publisher")
    }

    /// A process that admits, but whose issuer hears nothing.
    pub(crate) async fn admits(&self) -> Process {
        let (settled, settling) = mpsc::channel(events::MAX_UNSETTLED_BATCHES);
        let admission = Admission::start(&self.runtime, self.pool(), self.gate(), self.publisher().await, settling);
        Process { admission: admission.expect("an admission"), consumer: None, _settled: settled }
    }

    /// A whole process, and an outbox-relay.
    pub(crate) async fn runs(&self) -> Process {
        self.relay().await;
        let (settled, settling) = mpsc::channel(events::MAX_UNSETTLED_BATCHES);
        let admission = Admission::start(&self.runtime, self.pool(), self.gate(), self.publisher().await, settling);
        let consumer = Consumer::start(&self.runtime, self.pool(), events::subscriptions(settled.clone()));
        let (admission, consumer) = (admission.expect("an admission"), consumer.expect("a consumer"));
        Process { admission, consumer: Some(consumer), _settled: settled }
    }

    /// Until the test ends. A second one stands by.
    async fn relay(&self) {
        let wakes = relay::listen(&Env::default(), &["coupon_service"], &self.runtime.tasks).await;
        let wakes = wakes.expect("no address to listen on")["coupon_service"].clone();
        let source = Source { name: "coupon_service", pool: self.pool() };
        relay::start(&self.runtime, source, LeaseTimes::default(), wakes);
    }

    pub(crate) async fn put_up(&self, process: &Process, mode: Mode, quantity: i64) -> CouponId {
        self.put_up_as(process, mode, quantity, |coupon| coupon).await
    }

    pub(crate) async fn put_up_as(
        &self,
        process: &Process,
        mode: Mode,
        quantity: i64,
        change: impl FnOnce(Coupon) -> Coupon,
    ) -> CouponId {
        let coupon = change(coupon(mode, quantity));
        self.insert(&coupon).await;
        process.admission.open(&coupon).await;
        coupon.coupon_id
    }

    /// In the tables only, as if the process had died before it opened the gate.
    pub(crate) async fn insert(&self, coupon: &Coupon) {
        let mut client = self.database.pool.get().await.expect("a connection");
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        assert!(store::insert_coupon(&tx, coupon).await.expect("the table takes it"));
        tx.commit().await.expect("committed");
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let client = self.database.pool.get().await.expect("a connection");
        client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let client = self.database.pool.get().await.expect("a connection");
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn issued(&self) -> i64 {
        self.number("SELECT count(*) FROM issued_coupons").await
    }

    pub(crate) async fn eventually_issued(&self, quantity: i64) {
        eventually(&format!("{quantity} are issued"), || async { (self.issued().await == quantity).then_some(()) })
            .await;
    }

    /// Every user who holds a coupon, and that each does once.
    pub(crate) async fn holders(&self) -> BTreeSet<String> {
        let client = self.database.pool.get().await.expect("a connection");
        let rows = client.query("SELECT user_id FROM issued_coupons", &[]).await.expect("the table");
        let holders: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(holders.len(), rows.len(), "nobody holds two");
        holders
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.runtime.shutdown.cancel();
        let (settings, topics) = (self.kafka.clone(), std::mem::take(&mut self.topics));
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                // A broker of the test's own may be gone.
                if let Ok(cluster) = Cluster::connect(&settings) {
                    let _ = cluster.delete(&topics).await;
                }
            });
        });
        let _ = cleaning.join();
    }
}

pub(crate) fn shared_redis() -> String {
    std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| SHARED_REDIS.to_owned())
}

/// The topics that coupon-service reads, its own, and those of its answers: a row whose topic isn't there holds
/// up the relay for all.
async fn make_topics(settings: &KafkaSettings) -> Vec<String> {
    let names = Names::with_prefix(settings.topic_prefix.clone());
    let heard = ["coupon-issue-requested", "order-created", "order-cancelled"];
    let told = ["coupon-issued", "coupon-issue-rejected"];
    let is_needed = |wanted: &Wanted| {
        let bare = names.bare(&wanted.name);
        heard.contains(&bare) || told.contains(&bare) || bare.starts_with("coupon-service.")
    };
    let wanted: Vec<Wanted> = topics::wanted(&names).into_iter().filter(is_needed).collect();
    let cluster = Cluster::connect(settings).expect("settings of a client");
    let plan = cluster.plan(&wanted).await;
    let plan = plan.unwrap_or_else(|error| panic!("Kafka doesn't answer at {}: {error:#}", settings.brokers));
    cluster.apply(&plan).await.expect("the topics are made");
    wanted.into_iter().map(|wanted| wanted.name).collect()
}

pub(crate) fn coupon(mode: Mode, quantity: i64) -> Coupon {
    let won = |won: i64| Won::try_from(won).expect("an amount");
    Coupon {
        coupon_id: Uuid::now_v7().to_string().try_into().expect("an id"),
        name: "spring".to_owned(),
        mode,
        quantity,
        discount: Discount::Amount { value: won(1_000) },
        rewards: Vec::new(),
        opens_at: None,
        closes_at: None,
        valid_until: None,
        epoch: 1,
        issued: 0,
        created_at: Utc::now(),
    }
}

pub(crate) fn user(n: usize) -> UserId {
    format!("user-{n}").parse().expect("a user id")
}

pub(crate) struct Process {
    pub(crate) admission: Admission,
    consumer: Option<Consumer>,
    /// Without a consumer nobody settles; the channel stays open all the same.
    _settled: mpsc::Sender<Vec<coupon_service::domain::Settled>>,
}

impl Process {
    pub(crate) async fn asks(&self, coupon_id: &CouponId, user_id: &UserId) -> Result<Admitted, Refused> {
        self.admission.admit(coupon_id, user_id, telemetry::root()).await
    }

    pub(crate) async fn claim(&self, coupon_id: &CouponId, user_id: &UserId) -> Standing {
        eventually("the claim is known", || async { self.admission.standing(coupon_id, user_id).await.ok() }).await
    }

    /// Waits until the user's claim is decided. `Err`: the reason of the rejection.
    pub(crate) async fn decided(&self, coupon_id: &CouponId, user_id: &UserId) -> Result<Option<i64>, ClaimRefusal> {
        eventually("the claim is decided", || async {
            match self.claim(coupon_id, user_id).await {
                Standing::Issued { rank, .. } => Some(Ok(rank)),
                Standing::Rejected(reason) => Some(Err(reason)),
                Standing::Admitted { .. } | Standing::Never => None,
            }
        })
        .await
    }

    /// As many connections, each asking for one user after the other. Returns what each user was told.
    pub(crate) async fn rush(
        &self,
        coupon_id: &CouponId,
        users: &[UserId],
        connections: usize,
    ) -> Vec<(UserId, Result<Admitted, Refused>)> {
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let users: Arc<[UserId]> = users.into();
        let asking = (0..connections).map(|_| {
            let (admission, coupon_id) = (self.admission.clone(), coupon_id.clone());
            let (next, users) = (Arc::clone(&next), Arc::clone(&users));
            tokio::spawn(async move {
                let mut told = Vec::new();
                while let Some(user) = users.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    told.push((user.clone(), admission.admit(&coupon_id, user, telemetry::root()).await));
                }
                told
            })
        });
        let told = futures::future::join_all(asking).await;
        told.into_iter().flat_map(|told| told.expect("a connection")).collect()
    }

    /// Waits until somebody can be admitted or refused for good: not 503.
    pub(crate) async fn is_open_again(&self, coupon_id: &CouponId) {
        eventually("the gate is open again", || async {
            self.admission.gate().standing(coupon_id).await.ok().flatten().map(drop)
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        if let Some(consumer) = self.consumer {
            consumer.stop().await.expect("the consumer stops in order");
        }
        self.admission.stop().await.expect("the admission stops in order");
    }
}

pub(crate) fn admitted(told: &[(UserId, Result<Admitted, Refused>)]) -> Vec<&UserId> {
    told.iter().filter(|(_, answer)| answer.is_ok()).map(|(user, _)| user).collect()
}

pub(crate) fn refused(told: &[(UserId, Result<Admitted, Refused>)], why: Refused) -> usize {
    told.iter().filter(|(_, answer)| *answer == Err(why)).count()
}
