//! The services without their processes: each with its own database and its handlers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use chrono::TimeDelta;
use common_events::{
    IssuedCouponId, OrderId, ProductId, Quantity, Service, Topic, UserId, Won, events::ProductCatalog,
};
use coupon_service::domain::Coupon;
use messaging::{
    Cause, Delivered, OwnTopic, Record, Subscriptions, Tx,
    delivery::{Group, Stalled},
    ladder::Ladder,
};
use order_service::{
    domain::{AskedLine, Basket, Placing},
    orders,
    waiting::Waiting,
};
use service_runtime::{Caller, Pool, auth::Roles, telemetry};
use test_support::Database;
use tokio::sync::mpsc;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{broker::Message, desk::Desk, written};

/// Nobody waits for anything: an event is due wherever it is, as soon as somebody looks.
const LADDER: Ladder =
    Ladder { immediate: 1, delays: [Duration::ZERO; 3], parked_attempts: 2, parked_interval: Duration::ZERO };

/// One service: its database, and two processes that share it, with its handlers behind the seam.
pub(crate) struct Participant {
    database: Database,
    processes: [Process; 2],
    /// Whether it may have told something since its outbox was seen empty.
    may_have_told: AtomicBool,
}

/// One process of a service.
pub(crate) struct Process {
    pub(crate) group: Arc<Group>,
    pub(crate) desk: Desk,
}

/// What came of parked events, and of those that waited.
pub(crate) type LookedAfter = [Result<Delivered, Stalled>; 2];

/// All services of the order saga, ready for one history after the other.
pub struct Shop {
    participants: BTreeMap<Service, Participant>,
    /// What each group reads, its own topics too.
    pub(crate) topics: Vec<(Service, Vec<String>)>,
    waiting: Waiting,
}

impl Shop {
    /// New databases for all services.
    ///
    /// # Panics
    /// When PostgreSQL doesn't answer.
    pub async fn open() -> Self {
        let waiting = Waiting::new(CancellationToken::new());
        let unnoted = written::tables_of_messaging().await;
        // A connection that nobody used for a while may be closed just as it is used again.
        let web = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        let mut participants = BTreeMap::new();
        for service in [Service::Order, Service::Product, Service::Payment, Service::Coupon, Service::Ranking] {
            participants.insert(service, Participant::new(service, &waiting, &unnoted, &web).await);
        }
        let topics = |(service, participant): (&Service, &Participant)| {
            let heard = participant.processes[0].group.subscriptions().topics().map(|topic| topic.name().to_owned());
            (*service, heard.chain(OwnTopic::ALL.map(|own| own.name(*service))).collect())
        };
        let topics = participants.iter().map(topics).collect();
        Self { participants, topics, waiting }
    }

    /// For whatever is done to its tables.
    pub(crate) fn pool(&self, service: Service) -> &Pool {
        &self.touched(service).database.pool
    }

    /// To look at its tables only.
    pub(crate) fn database(&self, service: Service) -> &Pool {
        &self.participants[&service].database.pool
    }

    /// Whether later events of a key wait, in this group, behind one of this topic that failed.
    pub(crate) fn keeps_order_of(&self, group: Service, topic: Topic) -> bool {
        self.participants[&group].processes[0].group.subscriptions().keeps_order_of(topic)
    }

    /// For whatever it does.
    pub(crate) fn process(&self, service: Service, number: usize) -> &Process {
        &self.touched(service).processes[number]
    }

    pub(crate) fn services(&self) -> Vec<Service> {
        self.participants.keys().copied().collect()
    }

    /// Whatever was cut off may have told something since.
    pub(crate) fn touch_all(&self) {
        for service in self.services() {
            self.touched(service);
        }
    }

    /// A process does what a running consumer does beside reading: it tries parked events, and handles those whose turn it
    /// is, whatever their time. `None` when there are none.
    pub(crate) async fn look_after(&self, service: Service, process: usize) -> anyhow::Result<Option<LookedAfter>> {
        if !self.let_time_pass(service).await? {
            return Ok(None);
        }
        let group = &self.process(service, process).group;
        Ok(Some([group.try_parked().await, group.drain().await]))
    }

    fn touched(&self, service: Service) -> &Participant {
        let participant = &self.participants[&service];
        participant.may_have_told.store(true, Relaxed);
        participant
    }

    /// Whatever waits for its time, or for others, has waited long enough. Returns whether anything does.
    async fn let_time_pass(&self, service: Service) -> anyhow::Result<bool> {
        let client = self.pool(service).get().await?;
        let sql =
            "WITH parked AS (UPDATE dead_letters SET due_at = clock_timestamp() WHERE state = 'PARKED' RETURNING id),
                        free AS (SELECT topic, key FROM waiting_keys ORDER BY topic, key FOR UPDATE SKIP LOCKED),
                        keys AS (UPDATE waiting_keys SET drain_after = clock_timestamp() FROM free
                                 WHERE waiting_keys.topic = free.topic AND waiting_keys.key = free.key RETURNING 1)
                   SELECT EXISTS (SELECT FROM parked) OR EXISTS (SELECT FROM waiting_keys)";
        let row = client.query_one(&client.prepare_cached(sql).await?, &[]).await.context("letting time pass")?;
        Ok(row.get(0))
    }

    /// Puts a product on the shelf and tells of it.
    pub(crate) async fn stock(&self, product: &ProductId, price: Won, pieces: i64) -> anyhow::Result<()> {
        let mut client = self.pool(Service::Product).get().await?;
        let tx = Tx::begin(&mut client).await?;
        tx.execute(
            "INSERT INTO products (product_id, name, price, stock, version) VALUES ($1, $1, $2, $3, 1)",
            &[&product.as_str(), &price.get(), &pieces],
        )
        .await?;
        let news = ProductCatalog { product_id: product.clone(), name: product.to_string(), price, version: 1 };
        tx.publish(Cause::trace(telemetry::root()).causes(news))?;
        tx.commit().await.context("stocking a product")
    }

    /// Opens an account with so many points.
    pub(crate) async fn charge(&self, user: &UserId, points: Won, limit: Option<Won>) -> anyhow::Result<()> {
        let client = self.pool(Service::Payment).get().await?;
        client
            .execute(
                "WITH entry AS (
                     INSERT INTO points_ledger (user_id, at, entry_id, kind, delta, balance, trace_id)
                     VALUES ($1, clock_timestamp(), $4, 'CHARGED', $2, $2, '') RETURNING at)
                 INSERT INTO points_accounts (user_id, balance, charged, limit_per_payment, last_at)
                 SELECT $1, $2, $2, $3, at FROM entry",
                &[&user.as_str(), &points.get(), &limit.map(Won::get), &Uuid::now_v7()],
            )
            .await
            .context("charging points")?;
        Ok(())
    }

    /// Puts up a coupon.
    pub(crate) async fn put_up(&self, coupon: &Coupon) -> anyhow::Result<()> {
        let mut client = self.pool(Service::Coupon).get().await?;
        let tx = Tx::begin(&mut client).await?;
        anyhow::ensure!(coupon_service::store::insert_coupon(&tx, coupon).await?, "a coupon's id is taken");
        tx.commit().await.context("putting up a coupon")
    }

    /// What these users hold, in the order in which they got it.
    pub(crate) async fn held_by(&self, users: &[UserId]) -> anyhow::Result<Vec<(UserId, IssuedCouponId)>> {
        let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let client = self.pool(Service::Coupon).get().await?;
        let held = "SELECT user_id, issued_coupon_id FROM issued_coupons WHERE user_id = ANY($1)
                    ORDER BY issued_coupon_id";
        let rows = client.query(&client.prepare_cached(held).await?, &[&users]).await?;
        rows.iter().map(|row| Ok((row.get::<_, String>(0).try_into()?, IssuedCouponId::new(row.get(1))))).collect()
    }

    /// Places an order.
    pub(crate) async fn place(
        &self,
        user: &UserId,
        lines: &[(ProductId, Quantity)],
        issued_coupon_id: Option<IssuedCouponId>,
    ) -> anyhow::Result<OrderId> {
        let asked = |(product_id, quantity): &(ProductId, Quantity)| AskedLine {
            product_id: product_id.clone(),
            quantity: *quantity,
        };
        let basket = Basket::new(lines.iter().map(asked).collect())?;
        let placing = Placing {
            order_id: OrderId::new(Uuid::now_v7()),
            user_id: user.clone(),
            issued_coupon_id,
            trace: telemetry::root(),
        };
        let mut client = self.pool(Service::Order).get().await?;
        let tx = Tx::begin(&mut client).await?;
        let order = orders::place_order(&tx, placing, basket).await?;
        tx.commit().await?;
        Ok(order.id)
    }

    /// An operator cancels an order.
    pub(crate) async fn cancel(&self, order: OrderId) -> anyhow::Result<()> {
        let operator = Caller { user_id: "olga".parse()?, roles: Roles { operator: true, ..Roles::default() } };
        let mut client = self.pool(Service::Order).get().await?;
        let tx = Tx::begin(&mut client).await?;
        orders::cancel_order(&tx, &operator, order, None, &self.waiting).await?.context("an order that was placed")?;
        tx.commit().await.context("cancelling")
    }

    /// Time is up for every order that is open.
    pub(crate) async fn time_out(&self) -> anyhow::Result<()> {
        order_service::timeout::sweep(self.pool(Service::Order), &self.waiting, TimeDelta::zero()).await?;
        Ok(())
    }

    /// What lies in a service's outbox, at most so much, in order.
    pub(crate) async fn outbox(&self, service: Service, at_most: i64) -> anyhow::Result<Vec<OutboxRow>> {
        let participant = &self.participants[&service];
        if !participant.may_have_told.load(Relaxed) {
            return Ok(Vec::new());
        }
        let client = participant.database.pool.get().await?;
        let sql = "SELECT id, topic, key, payload, header_names, header_values FROM outbox ORDER BY id LIMIT $1";
        let rows = client.query(&client.prepare_cached(sql).await?, &[&at_most]).await?;
        participant.may_have_told.store(!rows.is_empty(), Relaxed);
        Ok(rows.iter().map(OutboxRow::read).collect())
    }

    /// The relay's last step.
    pub(crate) async fn delete_relayed(&self, service: Service, ids: &[i64]) -> anyhow::Result<()> {
        let client = self.pool(service).get().await?;
        let statement = client.prepare_cached("DELETE FROM outbox WHERE id = ANY($1)").await?;
        client.execute(&statement, &[&ids]).await?;
        Ok(())
    }

    /// Delivers to one of the service's processes, and waits for it.
    pub(crate) async fn deliver(
        &self,
        (service, number): (Service, usize),
        records: &[Record],
    ) -> Result<Delivered, Stalled> {
        self.process(service, number).group.deliver(records).await
    }
}

impl Participant {
    async fn new(service: Service, waiting: &Waiting, unnoted: &[String], web: &reqwest::Client) -> Self {
        let database = Database::new(&[messaging::MIGRATIONS, migrations(service)]).await;
        written::note(&database.pool, unnoted).await;
        let process = || {
            let group = Arc::new(Group::new(database.pool.clone(), subscriptions(service, waiting), LADDER));
            Process { desk: Desk::of(service, &group, web), group }
        };
        let processes = [process(), process()];
        Self { database, processes, may_have_told: AtomicBool::new(true) }
    }
}

fn migrations(service: Service) -> service_runtime::database::Migrations {
    match service {
        Service::Order => order_service::store::MIGRATIONS,
        Service::Product => product_service::store::MIGRATIONS,
        Service::Payment => payment_service::store::MIGRATIONS,
        Service::Coupon => coupon_service::store::MIGRATIONS,
        Service::Ranking => ranking_service::store::MIGRATIONS,
        other => panic!("{other} has no part in it"),
    }
}

fn subscriptions(service: Service, waiting: &Waiting) -> Subscriptions {
    match service {
        Service::Order => order_service::events::subscriptions(waiting),
        Service::Product => product_service::events::subscriptions(),
        Service::Payment => payment_service::events::subscriptions(),
        // No gate stands here: nobody is told how admissions ended.
        Service::Coupon => coupon_service::events::subscriptions(mpsc::channel(1).0),
        Service::Ranking => ranking_service::events::subscriptions(),
        other => panic!("{other} has no part in it"),
    }
}

/// One row of an outbox.
pub(crate) struct OutboxRow {
    pub(crate) id: i64,
    pub(crate) message: Message,
}

impl OutboxRow {
    fn read(row: &Row) -> Self {
        // What hands on a record has its headers; an event of ours gets them from the relay.
        let (names, values): (Option<Vec<String>>, Option<Vec<Vec<u8>>>) = (row.get(4), row.get(5));
        let headers = names.unwrap_or_default().into_iter().zip(values.unwrap_or_default()).collect();
        Self { id: row.get(0), message: Message { topic: row.get(1), key: row.get(2), value: row.get(3), headers } }
    }
}
