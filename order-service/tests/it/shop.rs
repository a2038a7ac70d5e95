//! A shop with a few products, one customer, and everything that can be told to order-service.

use std::collections::BTreeMap;

use common_events::{
    CancelReason, CouponRefusal, EventData, IssuedCouponId, OrderId, PaymentRefusal, ProductId, Quantity, Service,
    StockRefusal, UserId, Won,
    events::{
        CouponUseFailed, CouponUsed, OrderCancelled, OrderConfirmed, OrderReserved, PaymentCompleted, PaymentFailed,
        PaymentRefunded, ProductCatalog, StockDeductFailed, StockDeducted,
    },
};
use messaging::Delivered;
use order_service::{domain::Order, events, http, store, waiting::Waiting};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service_runtime::idempotency;
use test_support::{Database, Seam, Served, eventually, runtime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const KIM: &str = "kim";
/// What a cup costs, and a pot.
pub(crate) const CUP: i64 = 3_000;
pub(crate) const POT: i64 = 12_000;

/// One instance of order-service on a database of its own.
pub(crate) struct Shop {
    pub(crate) seam: Seam,
    pub(crate) waiting: Waiting,
    pub(crate) database: Database,
    client: reqwest::Client,
    served: Served,
}

impl Shop {
    /// Opens, with `cup` and `pot` in the catalogue.
    pub(crate) async fn open() -> Self {
        let database = Database::new(&[idempotency::MIGRATIONS, messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let waiting = Waiting::new(CancellationToken::new());
        let seam = Seam::new(&database, events::subscriptions(&waiting));
        let routes = http::routes(database.pool.clone(), waiting.clone());
        let served = Served::new(&runtime(Service::Order), routes);
        let shop = Self { seam, waiting, database, client: reqwest::Client::new(), served };
        shop.seam.deliver_batch(&[shop.seam.event(named("cup", CUP, 1)), shop.seam.event(named("pot", POT, 1))]).await;
        shop
    }

    /// A request of Kim's.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as(KIM, "customer", method, path)
    }

    pub(crate) fn ask_as(&self, user: &str, roles: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.served.url));
        request.header("X-User-Id", user).header("X-Roles", roles)
    }

    /// Nobody's request.
    pub(crate) fn ask_as_nobody(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.served.url))
    }

    pub(crate) fn post_order(&self, key: &str, body: &Value) -> RequestBuilder {
        self.ask(Method::POST, "/orders").header("Idempotency-Key", key).json(body)
    }

    /// Kim orders one of each.
    pub(crate) async fn place(&self, products: &[&str]) -> OrderId {
        self.place_with(products, None).await
    }

    pub(crate) async fn place_with(&self, products: &[&str], coupon: Option<IssuedCouponId>) -> OrderId {
        let lines: Vec<Value> = products.iter().map(|product| json!({"productId": product, "quantity": 1})).collect();
        let key = Uuid::now_v7().to_string();
        let mut body = json!({"lines": lines});
        if let Some(coupon) = coupon {
            body["issuedCouponId"] = coupon.to_string().into();
        }
        let (status, taken) = read(self.post_order(&key, &body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{taken}");
        order_id(&taken)
    }

    /// Kim orders a cup, and it is confirmed.
    pub(crate) async fn place_confirmed(&self) -> OrderId {
        let order = self.place(&["cup"]).await;
        self.hear(stock_deducted(order, "cup")).await;
        self.hear(payment_completed(order)).await;
        order
    }

    /// Kim orders a cup and cancels.
    pub(crate) async fn place_cancelled(&self, coupon: Option<IssuedCouponId>) -> OrderId {
        let order = self.place_with(&["cup"], coupon).await;
        self.cancel(order).await;
        order
    }

    pub(crate) async fn cancel(&self, order: OrderId) {
        let (status, _) = read(self.ask(Method::POST, &format!("/orders/{order}/cancel"))).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    }

    /// Hears an event and expects to apply it.
    pub(crate) async fn hear<T: EventData>(&self, data: T) {
        let delivered = self.seam.deliver(&self.seam.event(data)).await;
        assert_eq!(delivered, Delivered { applied: 1, ..Delivered::default() });
    }

    pub(crate) async fn order(&self, id: OrderId) -> Order {
        let client = self.database.pool.get().await.expect("a connection");
        store::find_order(&client, id).await.expect("PostgreSQL answers").expect("the order is there")
    }

    /// How often the order was reserved, confirmed and cancelled, by what was told.
    pub(crate) async fn told_of(&self, id: OrderId) -> (usize, usize, usize) {
        let reserved = self.seam.told::<OrderReserved>().await;
        let confirmed = self.seam.told::<OrderConfirmed>().await;
        let cancelled = self.seam.told::<OrderCancelled>().await;
        (
            reserved.iter().filter(|event| event.data.order_id == id).count(),
            confirmed.iter().filter(|event| event.data.order_id == id).count(),
            cancelled.iter().filter(|event| event.data.order_id == id).count(),
        )
    }

    /// Runs both while the order's row is locked by somebody else, and lets go once both wait for it:
    /// then they really are there at the same time.
    pub(crate) fn at_the_same_time<A: Future, B: Future>(
        &self,
        id: OrderId,
        one: A,
        other: B,
    ) -> impl Future<Output = (A::Output, B::Output)> {
        let (one, other) = (Box::pin(one), Box::pin(other));
        async move {
            let mut blocker = self.database.pool.get().await.expect("a connection");
            let blocking = blocker.transaction().await.expect("a transaction");
            let lock = "SELECT FROM orders WHERE order_id = $1 FOR UPDATE";
            blocking.execute(lock, &[&id.uuid()]).await.expect("the order can be locked");
            let let_go = async {
                self.see_both_wait().await;
                blocking.rollback().await.expect("the lock is given back");
            };
            let (one, other, ()) = futures::join!(one, other, let_go);
            (one, other)
        }
    }

    async fn see_both_wait(&self) {
        let watcher = self.database.pool.get().await.expect("a connection");
        eventually("both wait for the order", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let row = watcher.query_one(waiting, &[]).await.expect("PostgreSQL answers");
            (row.get::<_, i64>(0) == 2).then_some(())
        })
        .await;
    }
}

/// The status and the JSON of the answer.
pub(crate) async fn read(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = send(request).await;
    (answer.status(), answer.json().await.expect("the answer is JSON"))
}

pub(crate) async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("the server answers")
}

/// Sends, and expects this status, code and field of a problem.
pub(crate) async fn refused(request: RequestBuilder, status: u16, code: &str, field: Option<&str>) {
    let answer = send(request).await;
    let content_type = answer.headers()["content-type"].clone();
    assert!(answer.headers().contains_key("x-trace-id"));
    let (actual, problem): (u16, Value) = (answer.status().as_u16(), answer.json().await.expect("a problem is JSON"));
    assert_eq!((actual, problem["code"].as_str(), problem["field"].as_str()), (status, Some(code), field), "{problem}");
    assert_eq!(content_type, "application/problem+json");
    assert!(problem["traceId"].is_string() && problem["detail"].is_string(), "{problem}");
}

pub(crate) fn order_id(answer: &Value) -> OrderId {
    answer["orderId"].as_str().expect("an orderId").parse().expect("an order id")
}

pub(crate) fn named(product: &str, price: i64, version: i64) -> ProductCatalog {
    ProductCatalog { product_id: product_id(product), name: format!("The {product}"), price: won(price), version }
}

pub(crate) fn new_coupon() -> IssuedCouponId {
    IssuedCouponId::new(Uuid::now_v7())
}

pub(crate) fn unknown_order() -> OrderId {
    OrderId::new(Uuid::now_v7())
}

pub(crate) fn product_id(product: &str) -> ProductId {
    product.parse().expect("a product id")
}

pub(crate) fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn kim() -> UserId {
    KIM.parse().expect("a user id")
}

fn one() -> Quantity {
    1.try_into().expect("a quantity")
}

pub(crate) fn stock_deducted(order_id: OrderId, product: &str) -> StockDeducted {
    StockDeducted { order_id, product_id: product_id(product), quantity: one() }
}

pub(crate) fn stock_deduct_failed(order_id: OrderId, product: &str, reason: StockRefusal) -> StockDeductFailed {
    StockDeductFailed { order_id, product_id: product_id(product), quantity: one(), reason }
}

pub(crate) fn coupon_used(order_id: OrderId, coupon: IssuedCouponId, discount: i64) -> CouponUsed {
    CouponUsed {
        order_id,
        issued_coupon_id: coupon,
        coupon_id: "autumn".parse().expect("a coupon id"),
        user_id: kim(),
        discount: won(discount),
    }
}

pub(crate) fn coupon_use_failed(order_id: OrderId, coupon: IssuedCouponId, reason: CouponRefusal) -> CouponUseFailed {
    CouponUseFailed { order_id, issued_coupon_id: coupon, reason }
}

/// A cup is paid.
pub(crate) fn payment_completed(order_id: OrderId) -> PaymentCompleted {
    PaymentCompleted {
        order_id,
        user_id: kim(),
        lines: vec![],
        discount: Won::ZERO,
        total: won(CUP),
        paid_at: chrono::Utc::now(),
    }
}

/// A cup isn't paid.
pub(crate) fn payment_failed(order_id: OrderId, reason: PaymentRefusal) -> PaymentFailed {
    PaymentFailed { order_id, user_id: kim(), total: won(CUP), reason }
}

pub(crate) fn payment_refunded(order_id: OrderId) -> PaymentRefunded {
    PaymentRefunded {
        order_id,
        user_id: kim(),
        lines: vec![],
        discount: Won::ZERO,
        total: won(CUP),
        paid_at: chrono::Utc::now(),
        refunded_at: chrono::Utc::now(),
        reason: CancelReason::Customer,
    }
}

/// Everything of a table, to see that nothing was changed.
pub(crate) async fn table(shop: &Shop, sql: &str) -> BTreeMap<String, Value> {
    let client = shop.database.pool.get().await.expect("a connection");
    let rows = client.query(sql, &[]).await.expect("the table can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
