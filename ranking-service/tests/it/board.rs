//! A ranking-service of one test: its database, its handlers, and its call.

use std::collections::BTreeMap;

use actix_web::test::TestRequest;
use chrono::{DateTime, Utc};
use common_events::{
    CancelReason, OrderId, Quantity, Service, Won, envelope,
    events::{OrderLine, PaymentCompleted, PaymentRefunded, ProductCatalog},
};
use ranking_service::{events, http, store};
use serde_json::Value;
use service_runtime::Pool;
use test_support::{Answer, Database, Seam, ask, runtime};
use uuid::Uuid;

pub(crate) struct Board {
    pub(crate) seam: Seam,
    pub(crate) pool: Pool,
    _database: Database,
}

/// What the table holds: kind and start of the window, product; pieces, money.
pub(crate) type Table = BTreeMap<(String, DateTime<Utc>, String), (i64, i64)>;

impl Board {
    pub(crate) async fn new() -> Self {
        let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let seam = Seam::new(&database, events::subscriptions());
        Self { seam, pool: database.pool.clone(), _database: database }
    }

    pub(crate) fn paid(&self, at: &str, lines: &[(&str, i64, i64)]) -> envelope::Event<PaymentCompleted> {
        self.seam.event(payment(time(at), lines.iter().map(|sold| line(*sold)).collect()))
    }

    pub(crate) fn refunded(&self, payment: &PaymentCompleted) -> envelope::Event<PaymentRefunded> {
        self.seam.event(refund(payment))
    }

    pub(crate) fn called(&self, product: &str, name: &str, version: i64) -> envelope::Event<ProductCatalog> {
        self.seam.event(ProductCatalog {
            product_id: product.parse().expect("a product id"),
            name: name.to_owned(),
            price: Won::ZERO,
            version,
        })
    }

    pub(crate) async fn table(&self) -> Table {
        let client = self.pool.get().await.expect("a connection");
        let rows = client
            .query("SELECT window_kind, window_start, product_id, quantity, amount FROM sales", &[])
            .await
            .expect("the sales");
        rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), (row.get(3), row.get(4)))).collect()
    }

    pub(crate) async fn get(&self, query: &str) -> Answer {
        let request = TestRequest::with_uri(&format!("/rankings/products{query}"));
        ask(&runtime(Service::Ranking), http::routes(self.pool.clone()), request).await
    }

    /// Products with pieces and money, in the order of the ranking.
    pub(crate) async fn ranking(&self, query: &str) -> Vec<(String, i64, i64)> {
        let answer = self.get(query).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let number = |item: &Value, field: &str| item[field].as_i64().expect("a number");
        let items = answer.body["items"].as_array().expect("items").clone();
        items.iter().map(|item| (text(item, "productId"), number(item, "quantity"), number(item, "amount"))).collect()
    }
}

pub(crate) fn text(item: &Value, field: &str) -> String {
    item[field].as_str().expect("a text").to_owned()
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A line: product, pieces, won per piece. The product is called by its id.
pub(crate) fn line((product, quantity, unit_price): (&str, i64, i64)) -> OrderLine {
    let quantity = Quantity::try_from(quantity).expect("a quantity");
    let unit_price = Won::try_from(unit_price).expect("an amount");
    OrderLine {
        product_id: product.parse().expect("a product id"),
        name: product.to_owned(),
        quantity,
        unit_price,
        amount: unit_price.checked_times(quantity).expect("an amount"),
    }
}

pub(crate) fn payment(paid_at: DateTime<Utc>, lines: Vec<OrderLine>) -> PaymentCompleted {
    PaymentCompleted {
        order_id: OrderId::new(Uuid::now_v7()),
        user_id: "kim".parse().expect("a user id"),
        lines,
        discount: Won::ZERO,
        total: Won::ZERO,
        paid_at,
    }
}

pub(crate) fn refund(payment: &PaymentCompleted) -> PaymentRefunded {
    PaymentRefunded {
        order_id: payment.order_id,
        user_id: payment.user_id.clone(),
        lines: payment.lines.clone(),
        discount: payment.discount,
        total: payment.total,
        paid_at: payment.paid_at,
        refunded_at: payment.paid_at + chrono::TimeDelta::days(40),
        reason: CancelReason::Customer,
    }
}
