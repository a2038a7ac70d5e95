//! The services without their processes: each with its own database and its handlers.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::TimeDelta;
use common_events::{
    IssuedCouponId, OrderId, ProductId, Quantity, Service, Topic, UserId, Won, events::ProductCatalog,
};
use coupon_service::domain::Coupon;
use messaging::{Cause, Record, Subscriptions, Tx, delivery::Group, ladder::Ladder};
use order_service::{
    domain::{AskedLine, Basket, Placing},
    orders,
    waiting::Waiting,
};
use service_runtime::{Caller, Pool, auth::Roles, telemetry};
use test_support::Database;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// One service: its database, and its handlers behind the seam.
pub(crate) struct Participant {
    pub(crate) database: Database,
    pub(crate) group: Group,
}

/// All services of the order saga, ready for one history after the other.
pub struct Shop {
    pub(crate) participants: BTreeMap<Service, Participant>,
    pub(crate) topics: Vec<(Service, Vec<Topic>)>,
    waiting: Waiting,
}

impl Shop {
    /// New databases for all services.
    pub async fn open() -> Self {
        let waiting = Waiting::new(CancellationToken::new());
        // No gate stands here: nobody is told how admissions ended.
        let (settled, _) = mpsc::channel(1);
        let mut participants = BTreeMap::new();
        for (migrations, subscriptions) in [
            (order_service::store::MIGRATIONS, order_service::events::subscriptions(&waiting)),
            (product_service::store::MIGRATIONS, product_service::events::subscriptions()),
            (payment_service::store::MIGRATIONS, payment_service::events::subscriptions()),
            (coupon_service::store::MIGRATIONS, coupon_service::events::subscriptions(settled)),
            (ranking_service::store::MIGRATIONS, ranking_service::events::subscriptions()),
        ] {
            participants.insert(subscriptions.group(), Participant::new(migrations, subscriptions).await);
        }
        let topics = participants
            .iter()
            .map(|(service, participant)| (*service, participant.group.subscriptions().topics().collect()))
            .collect();
        Self { participants, topics, waiting }
    }

    pub(crate) fn pool(&self, service: Service) -> &Pool {
        &self.participants[&service].database.pool
    }

    pub(crate) fn group(&self, service: Service) -> &Group {
        &self.participants[&service].group
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

    /// What lies in a service's outbox, at most so much, in order: (id, topic, key, payload).
    pub(crate) async fn outbox(&self, service: Service, at_most: i64) -> anyhow::Result<Vec<OutboxRow>> {
        let client = self.pool(service).get().await?;
        let statement =
            client.prepare_cached("SELECT id, topic, key, payload FROM outbox ORDER BY id LIMIT $1").await?;
        let rows = client.query(&statement, &[&at_most]).await?;
        rows.iter()
            .map(|row| {
                let topic: &str = row.get(1);
                Ok(OutboxRow { id: row.get(0), topic: topic.parse()?, key: row.get(2), payload: row.get(3) })
            })
            .collect()
    }

    /// The relay's last step.
    pub(crate) async fn delete_relayed(&self, service: Service, ids: &[i64]) -> anyhow::Result<()> {
        let client = self.pool(service).get().await?;
        let statement = client.prepare_cached("DELETE FROM outbox WHERE id = ANY($1)").await?;
        client.execute(&statement, &[&ids]).await?;
        Ok(())
    }

    /// Delivers, and waits for it.
    pub(crate) async fn deliver(&self, service: Service, records: &[Record]) -> anyhow::Result<()> {
        let delivered = self.group(service).deliver(records).await?;
        // Conflicts aside, nothing fails here by itself.
        let set_aside = delivered.dead + delivered.retrying + delivered.waiting;
        anyhow::ensure!(set_aside == 0, "{service} set {set_aside} records aside");
        Ok(())
    }
}

impl Participant {
    async fn new(migrations: service_runtime::database::Migrations, subscriptions: Subscriptions) -> Self {
        let database = Database::new(&[messaging::MIGRATIONS, migrations]).await;
        let group = Group::new(database.pool.clone(), subscriptions, Ladder::default());
        Self { database, group }
    }
}

/// One row of an outbox.
pub(crate) struct OutboxRow {
    pub(crate) id: i64,
    pub(crate) topic: Topic,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}
