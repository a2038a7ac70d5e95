//! The shop as its customers, admins and visitors use it: verbs over HTTP (docs/contract.md §3).
//!
//! It keeps books of what it was promised (orders answered with 202) and of what it put on the shelves, so
//! that the law can hold the suite to it.

mod answers;
mod call;
mod coupons;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common_events::{CouponId, IssuedCouponId, OrderId, ProductId, UserId};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

pub use answers::{
    Accepted, AccountState, Admitted, Claim, ClaimStatus, Coupon, CouponMode, Discount, Entry, HeldCoupon, NewCoupon,
    Order, OrderLine, OrderStatus, Payment, PaymentStatus, Points, Product, Ranked, Ranking, Reward, WhetherUsed,
};
pub use call::Trouble;
use call::{Call, Page};

/// How long a product may take from product-service to order-service's copy of the catalogue.
const CATALOGUE_PATIENCE: Duration = Duration::from_secs(30);
const CATALOGUE_PAUSE: Duration = Duration::from_millis(20);
/// How long an order may take to its end, unless a test says otherwise.
const ORDER_PATIENCE: Duration = Duration::from_mins(1);
/// The longest that `Prefer: wait` may ask for, in seconds (docs/contract.md §3).
const LONGEST_WAIT_S: u64 = 30;
/// Connections that are idle for longer aren't used again.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// No answer within this counts as none.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// Where the services listen.
#[derive(Debug, Clone)]
pub struct Urls {
    /// order-service.
    pub order: String,
    /// product-service.
    pub product: String,
    /// payment-service.
    pub payment: String,
    /// ranking-service.
    pub ranking: String,
    /// coupon-service.
    pub coupon: String,
}

impl Urls {
    /// Where `deploy/local/suite env` says, else the usual ports.
    pub fn from_env() -> Self {
        let url = |name: &str, port: u16| {
            std::env::var(format!("{name}_SERVICE_URL")).unwrap_or_else(|_| format!("http://127.0.0.1:{port}"))
        };
        Self {
            order: url("ORDER", 8081),
            product: url("PRODUCT", 8085),
            payment: url("PAYMENT", 8082),
            ranking: url("RANKING", 8084),
            coupon: url("COUPON", 8083),
        }
    }
}

/// The shop, for everybody. Cheap to clone; all clones keep the same books.
#[derive(Clone)]
pub struct Shop {
    http: reqwest::Client,
    urls: Arc<Urls>,
    books: Arc<Mutex<Books>>,
}

/// What the shop was promised, what it put on the shelves, and how many coupons it gives out.
#[derive(Debug, Default, Clone)]
pub struct Books {
    /// Every order that was answered with 202.
    pub accepted: Vec<Accepted>,
    /// Pieces put on the shelf, per product: at first, and restocked.
    pub shelved: BTreeMap<ProductId, i64>,
    /// How many there are of each coupon.
    pub coupons: BTreeMap<CouponId, i64>,
    /// Every request for a coupon that was answered with 202.
    pub admissions: Vec<(CouponId, UserId)>,
}

impl Shop {
    /// The shop whose services listen there.
    ///
    /// # Panics
    /// When the TLS library can't be set up.
    pub fn at(urls: Urls) -> Self {
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            // Below the services' keep-alive, so that no request is sent into a connection that is just being closed.
            .pool_idle_timeout(IDLE_LIMIT)
            .build()
            .expect("a client without special settings");
        Self { http, urls: Arc::new(urls), books: Arc::default() }
    }

    /// Where it is.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// What it was promised so far.
    pub fn books(&self) -> Books {
        self.locked_books().clone()
    }

    /// Somebody who looks after products and accounts.
    pub fn admin(&self) -> Admin {
        Admin { shop: self.clone() }
    }

    /// Somebody who may see and cancel everybody's orders.
    pub fn operator(&self) -> Customer {
        Customer { shop: self.clone(), user: user("operator"), roles: "operator" }
    }

    /// Somebody who buys.
    pub fn customer(&self, name: &str) -> Customer {
        Customer { shop: self.clone(), user: user(name), roles: "customer" }
    }

    /// Somebody who was never here before.
    pub fn new_customer(&self, name: &str) -> Customer {
        self.customer(&format!("{name}-{}", Uuid::now_v7().simple()))
    }

    /// A product, as anybody sees it.
    pub async fn product(&self, id: &ProductId) -> Result<Product, Trouble> {
        self.call(Method::GET, &self.urls.product, &format!("/products/{id}")).answer().await
    }

    /// The bestsellers. `window`: hour, day, week; `by`: quantity, amount.
    pub async fn ranking(&self, window: &str, by: &str, limit: u32) -> Result<Ranking, Trouble> {
        let path = format!("/rankings/products?window={window}&by={by}&limit={limit}");
        self.call(Method::GET, &self.urls.ranking, &path).answer().await
    }

    /// What `GET /health/ready` of a service answers, whatever its status.
    pub async fn readiness(&self, base: &str) -> Result<(u16, serde_json::Value), Trouble> {
        self.call(Method::GET, base, "/health/ready").any_answer().await
    }

    /// One figure of a service's `GET /metrics`, all labels together.
    pub async fn figure(&self, base: &str, name: &str) -> Result<f64, Trouble> {
        let text = self.call(Method::GET, base, "/metrics").text().await?;
        let values = text.lines().filter_map(|line| {
            let (labelled, value) = line.rsplit_once(' ')?;
            (labelled.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    fn call(&self, method: Method, base: &str, path: &str) -> Call {
        Call::new(&self.http, method, base, path)
    }

    fn locked_books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn user(name: &str) -> UserId {
    name.parse().expect("a name of A-Za-z0-9._:@-")
}

/// Who looks after products and accounts.
pub struct Admin {
    shop: Shop,
}

impl Admin {
    /// A new product, with an id of its own.
    ///
    /// # Panics
    /// Never: the id is made of letters and digits.
    pub async fn create_product(&self, name: &str, price: i64, stock: i64) -> Result<Product, Trouble> {
        let id: ProductId = format!("p-{}", Uuid::now_v7().simple()).parse().expect("letters and digits");
        // On the books first: an answer that gets lost must not hide what was shelved.
        self.shop.locked_books().shelved.insert(id.clone(), stock);
        let body = json!({ "productId": id, "name": name, "price": price, "stock": stock });
        self.call(Method::POST, &self.shop.urls.product, "/products").body(&body).answer().await
    }

    /// More pieces on the shelf.
    pub async fn restock(&self, id: &ProductId, quantity: i64) -> Result<Product, Trouble> {
        let path = format!("/products/{id}/restock");
        let body = json!({ "quantity": quantity });
        let product = self.call(Method::POST, &self.shop.urls.product, &path).body(&body).answer().await?;
        *self.shop.locked_books().shelved.entry(id.clone()).or_default() += quantity;
        Ok(product)
    }

    /// Opens or closes an account, and bounds what one payment may take.
    pub async fn set_account(&self, user: &UserId, state: AccountState, limit: Option<i64>) -> Result<(), Trouble> {
        let mut body = json!({ "state": state });
        if let Some(limit) = limit {
            body["limitPerPayment"] = limit.into();
        }
        let path = format!("/points/accounts/{user}");
        self.call(Method::PUT, &self.shop.urls.payment, &path).body(&body).any_json().await?;
        Ok(())
    }

    fn call(&self, method: Method, base: &str, path: &str) -> Call {
        self.shop.call(method, base, path).by(&user("admin"), "admin")
    }
}

/// Who buys; or an operator, who sees what customers see.
#[derive(Clone)]
pub struct Customer {
    shop: Shop,
    user: UserId,
    roles: &'static str,
}

impl Customer {
    /// His id.
    pub const fn id(&self) -> &UserId {
        &self.user
    }

    /// Pays points in.
    pub async fn charge(&self, amount: i64) -> Result<Points, Trouble> {
        let call = self.call(Method::POST, &self.shop.urls.payment, "/points/charge");
        call.idempotency_key(&Uuid::now_v7().to_string()).body(&json!({ "amount": amount })).answer().await
    }

    /// His points now.
    pub async fn points(&self) -> Result<Points, Trouble> {
        self.call(Method::GET, &self.shop.urls.payment, "/points").answer().await
    }

    /// His balance now, in won.
    pub async fn balance(&self) -> Result<i64, Trouble> {
        Ok(self.points().await?.balance)
    }

    /// What happened to his points, oldest or newest first as the service has it; the first page.
    pub async fn history(&self) -> Result<Vec<Entry>, Trouble> {
        let page: Page<Entry> = self.call(Method::GET, &self.shop.urls.payment, "/points/history").answer().await?;
        Ok(page.items)
    }

    /// Orders so many pieces of each product. A product that hasn't reached order-service yet is waited for.
    pub async fn place_order(&self, lines: &[(&ProductId, i64)]) -> Result<Accepted, Trouble> {
        self.place(lines, None).await
    }

    async fn place(&self, lines: &[(&ProductId, i64)], coupon: Option<IssuedCouponId>) -> Result<Accepted, Trouble> {
        let key = Uuid::now_v7().to_string();
        let until = Instant::now() + CATALOGUE_PATIENCE;
        loop {
            match self.try_order_with(&key, lines, coupon).await {
                Err(trouble) if trouble.code() == Some("unknown-product") && Instant::now() < until => {
                    tokio::time::sleep(CATALOGUE_PAUSE).await;
                }
                answered => return answered,
            }
        }
    }

    /// Sends an order once, with this `Idempotency-Key`.
    pub async fn try_order(&self, key: &str, lines: &[(&ProductId, i64)]) -> Result<Accepted, Trouble> {
        self.try_order_with(key, lines, None).await
    }

    async fn try_order_with(
        &self,
        key: &str,
        lines: &[(&ProductId, i64)],
        coupon: Option<IssuedCouponId>,
    ) -> Result<Accepted, Trouble> {
        let call = self.call(Method::POST, &self.shop.urls.order, "/orders").idempotency_key(key);
        let accepted: Accepted = call.body(&coupons::order_of(lines, coupon)).answer().await?;
        self.shop.locked_books().accepted.push(accepted.clone());
        Ok(accepted)
    }

    /// The order as it is now.
    pub async fn order(&self, id: OrderId) -> Result<Order, Trouble> {
        self.order_call(id).answer().await
    }

    /// The order once it is confirmed or cancelled.
    pub async fn wait_for(&self, id: OrderId) -> Result<Order, Trouble> {
        self.wait_for_at_most(id, ORDER_PATIENCE).await
    }

    /// The order once it is confirmed or cancelled, or as it is when the time is up.
    pub async fn wait_for_at_most(&self, id: OrderId, patience: Duration) -> Result<Order, Trouble> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_secs().clamp(1, LONGEST_WAIT_S);
            let order: Order = self.order_call(id).prefer_wait(left).answer().await?;
            if order.status.is_final() || Instant::now() >= until {
                return Ok(order);
            }
        }
    }

    /// All his orders, newest first.
    pub async fn orders(&self) -> Result<Vec<Order>, Trouble> {
        let mut orders = Vec::new();
        let mut cursor = None;
        loop {
            let path = match &cursor {
                None => "/orders?limit=200".to_owned(),
                Some(cursor) => format!("/orders?limit=200&cursor={cursor}"),
            };
            let page: Page<Order> = self.call(Method::GET, &self.shop.urls.order, &path).answer().await?;
            orders.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(orders);
            }
        }
    }

    /// Cancels an order, before or after it is confirmed.
    pub async fn cancel(&self, id: OrderId) -> Result<(), Trouble> {
        let path = format!("/orders/{id}/cancel");
        self.call(Method::POST, &self.shop.urls.order, &path).body(&json!({})).any_json().await?;
        Ok(())
    }

    /// The payment of an order.
    pub async fn payment(&self, id: OrderId) -> Result<Payment, Trouble> {
        self.call(Method::GET, &self.shop.urls.payment, &format!("/payments/{id}")).answer().await
    }

    fn order_call(&self, id: OrderId) -> Call {
        self.call(Method::GET, &self.shop.urls.order, &format!("/orders/{id}"))
    }

    fn call(&self, method: Method, base: &str, path: &str) -> Call {
        self.shop.call(method, base, path).by(&self.user, self.roles)
    }
}
