//! A product-service of one test: its database, its handlers, and what can be asked about the stock.

use common_events::{
    CancelReason, OrderId, ProductId, StockRefusal, Won, envelope,
    events::{OrderCancelled, OrderLine, OrderLinePlaced, StockDeductFailed, StockDeducted, StockRestored},
};
use product_service::{events, store};
use service_runtime::{Pool, idempotency};
use test_support::{Database, Seam};
use uuid::Uuid;

pub(crate) struct Shop {
    pub(crate) seam: Seam,
    pub(crate) pool: Pool,
    _database: Database,
}

/// What was told about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Deducted,
    Refused(StockRefusal),
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let database = Database::new(&[idempotency::MIGRATIONS, messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let seam = Seam::new(&database, events::subscriptions());
        Self { seam, pool: database.pool.clone(), _database: database }
    }

    /// A shop that sells these products.
    pub(crate) async fn selling(products: &[(&str, i64)]) -> Self {
        let shop = Self::open().await;
        let client = shop.pool.get().await.expect("a connection");
        for (product_id, stock) in products {
            client
                .execute("INSERT INTO products VALUES ($1, $1, 100, $2, 1)", &[product_id, stock])
                .await
                .expect("a product");
        }
        drop(client);
        shop
    }

    pub(crate) fn line(&self, order: OrderId, product: &str, quantity: i64) -> envelope::Event<OrderLinePlaced> {
        self.seam.event(OrderLinePlaced {
            order_id: order,
            order_version: 1,
            user_id: "kim".parse().expect("a user id"),
            product_id: id(product),
            quantity: quantity.try_into().expect("a quantity"),
        })
    }

    pub(crate) fn cancelled(&self, order: OrderId, lines: &[(&str, i64)]) -> envelope::Event<OrderCancelled> {
        self.cancelled_because(CancelReason::Customer, order, lines)
    }

    pub(crate) fn cancelled_because(
        &self,
        reason: CancelReason,
        order: OrderId,
        lines: &[(&str, i64)],
    ) -> envelope::Event<OrderCancelled> {
        let line = |(product, quantity): &(&str, i64)| OrderLine {
            product_id: id(product),
            name: (*product).to_owned(),
            quantity: (*quantity).try_into().expect("a quantity"),
            unit_price: Won::ZERO,
            amount: Won::ZERO,
        };
        self.seam.event(OrderCancelled {
            order_id: order,
            order_version: 2,
            user_id: "kim".parse().expect("a user id"),
            lines: lines.iter().map(line).collect(),
            issued_coupon_id: None,
            reason,
            note: None,
            cancelled_at: chrono::Utc::now(),
        })
    }

    pub(crate) async fn stock(&self, product: &str) -> i64 {
        self.number("SELECT stock FROM products WHERE product_id = $1", product).await
    }

    /// Pieces that are held for orders that aren't cancelled.
    pub(crate) async fn held(&self, product: &str) -> i64 {
        let held = "SELECT coalesce(sum(quantity), 0)::bigint FROM stock_lines JOIN stock_orders USING (order_id)
                    WHERE product_id = $1 AND state = 'HELD' AND NOT cancelled";
        self.number(held, product).await
    }

    async fn number(&self, sql: &str, product: &str) -> i64 {
        let client = self.pool.get().await.expect("a connection");
        client.query_one(sql, &[&product]).await.expect("a number").get(0)
    }

    /// What was told about the lines, in order.
    pub(crate) async fn answers(&self) -> Vec<(OrderId, String, Told)> {
        let deducted = self.seam.told::<StockDeducted>().await;
        let refused = self.seam.told::<StockDeductFailed>().await;
        let deducted =
            deducted.into_iter().map(|told| (told.data.order_id, told.data.product_id.to_string(), Told::Deducted));
        let refused = refused
            .into_iter()
            .map(|told| (told.data.order_id, told.data.product_id.to_string(), Told::Refused(told.data.reason)));
        deducted.chain(refused).collect()
    }

    /// What went back: order, product, pieces.
    pub(crate) async fn restored(&self) -> Vec<(OrderId, String, i32)> {
        let restored = self.seam.told::<StockRestored>().await;
        restored
            .into_iter()
            .map(|told| (told.data.order_id, told.data.product_id.to_string(), told.data.quantity.get()))
            .collect()
    }

    pub(crate) async fn dead_letters(&self) -> i64 {
        let client = self.pool.get().await.expect("a connection");
        client.query_one("SELECT count(*) FROM dead_letters", &[]).await.expect("a count").get(0)
    }
}

pub(crate) fn id(product: &str) -> ProductId {
    product.parse().expect("a product id")
}

pub(crate) fn new_order() -> OrderId {
    OrderId::new(Uuid::now_v7())
}
