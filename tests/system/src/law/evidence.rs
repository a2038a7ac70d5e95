//! What the law is judged by: the services' tables, the topics, and what the shop was promised.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use chrono::{DateTime, Utc};
use common_events::{CouponId, IssuedCouponId, OrderId, ProductId, Service, TraceId, UserId};
use serde::Deserialize;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{
    Suite,
    shop::{Books, Ranking},
    suite::SERVICES,
    topics::Told,
};

/// More products than a ranking shows are compared as far as it goes.
pub const RANKING_LIMIT: u32 = 100;

/// Everything at one quiet moment.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What the shop was promised.
    pub books: Books,
    /// order-service's orders.
    pub orders: BTreeMap<OrderId, Order>,
    /// payment-service's ledger.
    pub ledger: Vec<Entry>,
    /// payment-service's balances.
    pub balances: BTreeMap<UserId, i64>,
    /// product-service's stock.
    pub stock: BTreeMap<ProductId, i64>,
    /// What product-service holds for orders: order, product → pieces.
    pub held: BTreeMap<(OrderId, ProductId), i64>,
    /// coupon-service's coupons.
    pub coupons: BTreeMap<CouponId, Counted>,
    /// Who holds one.
    pub issued: Vec<Issued>,
    /// Dead letters per service.
    pub dead: BTreeMap<&'static str, Vec<String>>,
    /// How many payments the platform outside has taken, each counted once.
    pub taken_outside: u64,
    /// Every event on every topic.
    pub told: Vec<Told>,
    /// What ranking-service answers, by window and order.
    pub rankings: Vec<(&'static str, Ranking)>,
}

/// An order, as its service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// As the contract has it, such as CONFIRMED.
    pub status: String,
    /// Won.
    pub total: i64,
    /// What it is for.
    pub lines: Vec<Line>,
    /// The trace of the request that placed it.
    pub trace: TraceId,
}

impl Order {
    /// Whether it is done, and not undone.
    pub fn is_confirmed(&self) -> bool {
        self.status == "CONFIRMED"
    }
}

/// So many pieces of one product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What.
    pub product_id: ProductId,
    /// Pieces.
    pub quantity: i64,
}

/// A coupon, as its service and its gate have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// How many there are.
    pub quantity: i64,
    /// How many were issued, as the coupon's own row counts.
    pub issued: i64,
    /// What `GET /coupons/{id}` says of the sale, such as `SOLD_OUT`.
    pub state: String,
}

/// One coupon in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// This one.
    pub id: IssuedCouponId,
    /// Which.
    pub coupon: CouponId,
    /// Whose.
    pub user: UserId,
    /// In ranked mode.
    pub rank: Option<i64>,
    /// The order that uses it.
    pub order: Option<OrderId>,
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub user: UserId,
    /// CHARGED, DEDUCTED, REFUNDED.
    pub kind: String,
    /// Won; what was taken is negative.
    pub delta: i64,
    /// For which order.
    pub order: Option<OrderId>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Evidence {
    /// Asks everybody. The suite has to be quiet.
    pub async fn gather(suite: &Suite) -> anyhow::Result<Self> {
        let mut evidence = Self { books: suite.shop.books(), ..Self::default() };
        evidence.ask_order_service(suite).await.context("asking order-service's database")?;
        evidence.ask_payment_service(suite).await.context("asking payment-service's database")?;
        evidence.ask_product_service(suite).await.context("asking product-service's database")?;
        evidence.ask_coupon_service(suite).await.context("asking coupon-service and its database")?;
        for service in SERVICES {
            let database = suite.database(service).await?;
            let rows = database
                .query(
                    "SELECT origin_topic || ' ' || error_class || ': ' || error_message FROM dead_letters
                     WHERE state <> 'REPLAYED' OR closed_at IS NULL",
                    &[],
                )
                .await?;
            evidence.dead.insert(service.name(), rows.iter().map(|row| row.get(0)).collect());
        }
        evidence.taken_outside = suite.outside.taken().await?;
        evidence.told = suite.groups()?.told().await?;
        for (window, by) in [("hour", "quantity"), ("day", "amount"), ("week", "quantity"), ("week", "amount")] {
            evidence.rankings.push((by, suite.shop.ranking(window, by, RANKING_LIMIT).await?));
        }
        Ok(evidence)
    }

    async fn ask_order_service(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let database = suite.database(Service::Order).await?;
        let rows = database.query("SELECT order_id, status, total, lines, traceparent FROM orders", &[]).await?;
        for row in rows {
            let Json(lines): Json<Vec<Line>> = row.try_get("lines")?;
            let traceparent: String = row.try_get("traceparent")?;
            let trace = traceparent.get(3..35).context("a traceparent")?.parse()?;
            let order = Order { status: row.try_get("status")?, total: row.try_get("total")?, lines, trace };
            self.orders.insert(order_id(&row)?, order);
        }
        Ok(())
    }

    async fn ask_payment_service(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let database = suite.database(Service::Payment).await?;
        for row in database.query("SELECT user_id, kind, delta, order_id, at FROM points_ledger", &[]).await? {
            self.ledger.push(Entry {
                user: row.try_get::<_, String>("user_id")?.parse()?,
                kind: row.try_get("kind")?,
                delta: row.try_get("delta")?,
                order: row.try_get::<_, Option<Uuid>>("order_id")?.map(OrderId::new),
                at: row.try_get("at")?,
            });
        }
        for row in database.query("SELECT user_id, balance FROM points_accounts", &[]).await? {
            self.balances.insert(row.try_get::<_, String>(0)?.parse()?, row.try_get(1)?);
        }
        Ok(())
    }

    async fn ask_product_service(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let database = suite.database(Service::Product).await?;
        for row in database.query("SELECT product_id, stock FROM products", &[]).await? {
            self.stock.insert(row.try_get::<_, String>(0)?.parse()?, row.try_get(1)?);
        }
        let sql = "SELECT order_id, product_id, quantity::bigint AS quantity FROM stock_lines WHERE state = 'HELD'";
        for row in database.query(sql, &[]).await? {
            let product = row.try_get::<_, String>("product_id")?.parse()?;
            self.held.insert((order_id(&row)?, product), row.try_get("quantity")?);
        }
        Ok(())
    }

    async fn ask_coupon_service(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let database = suite.database(Service::Coupon).await?;
        for row in database.query("SELECT coupon_id, quantity, issued FROM coupons", &[]).await? {
            let id: CouponId = row.try_get::<_, String>("coupon_id")?.parse()?;
            let state = suite.shop.coupon(&id).await?.state;
            let counted = Counted { quantity: row.try_get("quantity")?, issued: row.try_get("issued")?, state };
            self.coupons.insert(id, counted);
        }
        let sql = "SELECT issued_coupon_id, coupon_id, user_id, rank, order_id FROM issued_coupons";
        for row in database.query(sql, &[]).await? {
            self.issued.push(Issued {
                id: IssuedCouponId::new(row.try_get("issued_coupon_id")?),
                coupon: row.try_get::<_, String>("coupon_id")?.parse()?,
                user: row.try_get::<_, String>("user_id")?.parse()?,
                rank: row.try_get("rank")?,
                order: row.try_get::<_, Option<Uuid>>("order_id")?.map(OrderId::new),
            });
        }
        let sql = "SELECT topic || ': ' || error FROM producer_dead_letters WHERE state <> 'REPUBLISHED'";
        let held = database.query(sql, &[]).await?;
        self.dead.insert("coupon-service's producer", held.iter().map(|row| row.get(0)).collect());
        Ok(())
    }

    /// What confirmed orders hold: order, product → pieces.
    pub fn owed(&self) -> BTreeMap<(OrderId, ProductId), i64> {
        let confirmed = self.orders.iter().filter(|(_, order)| order.is_confirmed());
        confirmed
            .flat_map(|(id, order)| order.lines.iter().map(|line| ((*id, line.product_id.clone()), line.quantity)))
            .collect()
    }

    /// The events of one type, each once, however often it lies on its topic.
    pub fn told_once<'e>(&'e self, kind: &'static str) -> impl Iterator<Item = &'e Told> {
        let mut seen = BTreeSet::new();
        self.told.iter().filter(move |told| told.kind == kind && seen.insert(told.id))
    }
}

fn order_id(row: &Row) -> anyhow::Result<OrderId> {
    Ok(OrderId::new(row.try_get("order_id")?))
}
