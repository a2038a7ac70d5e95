//! A payment-service of one test: its database, its handlers, its calls on a port of its own, and what
//! can be asked about the points.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use common_events::{
    CancelReason, OrderId, PaymentRefusal, Service, UserId, Won, envelope,
    events::{
        OrderCancelled, OrderLine, OrderReserved, PaymentCompleted, PaymentFailed, PaymentRefunded, PointCharged,
        PointDeducted, PointRefunded,
    },
};
use messaging::{Delivered, Tx};
use payment_service::{events, http, store};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service_runtime::{Pool, idempotency};
use test_support::{Database, Seam, Served, runtime};
use uuid::Uuid;

pub(crate) struct Cashier {
    pub(crate) seam: Seam,
    pub(crate) pool: Pool,
    pub(crate) url: String,
    web: reqwest::Client,
    _served: Served,
    _database: Database,
}

/// What happened to one order's points: entries of the ledger by kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) deducted: i64,
    pub(crate) refunded: i64,
}

impl Cashier {
    pub(crate) async fn open() -> Arc<Self> {
        let database = Database::new(&[messaging::MIGRATIONS, idempotency::MIGRATIONS, store::MIGRATIONS]).await;
        let seam = Seam::new(&database, events::subscriptions());
        let pool = database.pool.clone();
        let served = Served::new(&runtime(Service::Payment), http::routes(pool.clone()));
        let (url, web) = (served.url.clone(), reqwest::Client::new());
        Arc::new(Self { seam, pool, url, web, _served: served, _database: database })
    }

    // ---- what others tell ----

    pub(crate) fn reserved(&self, order_id: OrderId, who: &str, total: i64) -> envelope::Event<OrderReserved> {
        self.seam.event(OrderReserved {
            order_id,
            order_version: 2,
            user_id: user(who),
            lines: lines(total),
            subtotal: won(total),
            discount: Won::ZERO,
            total: won(total),
        })
    }

    pub(crate) fn cancelled(
        &self,
        order_id: OrderId,
        who: &str,
        reason: CancelReason,
    ) -> envelope::Event<OrderCancelled> {
        self.seam.event(OrderCancelled {
            order_id,
            order_version: 3,
            user_id: user(who),
            lines: lines(0),
            issued_coupon_id: None,
            reason,
            note: None,
            cancelled_at: Utc::now(),
        })
    }

    pub(crate) async fn reserve(&self, order_id: OrderId, who: &str, total: i64) -> Delivered {
        self.seam.deliver(&self.reserved(order_id, who, total)).await
    }

    pub(crate) async fn cancel(&self, order_id: OrderId, who: &str) -> Delivered {
        self.seam.deliver(&self.cancelled(order_id, who, CancelReason::Customer)).await
    }

    // ---- calls ----

    pub(crate) fn call(&self, method: Method, path: &str, who: &str) -> RequestBuilder {
        self.web.request(method, format!("{}{path}", self.url)).header("X-User-Id", who)
    }

    pub(crate) async fn try_charge(&self, who: &str, amount: i64) -> Response {
        let charge =
            self.call(Method::POST, "/points/charge", who).header("Idempotency-Key", Uuid::now_v7().to_string());
        charge.json(&json!({ "amount": amount })).send().await.expect("an answer")
    }

    pub(crate) async fn charge(&self, who: &str, amount: i64) -> Value {
        ok(self.try_charge(who, amount).await).await
    }

    pub(crate) async fn account(&self, who: &str, account: Value) -> Value {
        let put = self.call(Method::PUT, &format!("/points/accounts/{who}"), "boss").header("X-Roles", "admin");
        ok(put.json(&account).send().await.expect("an answer")).await
    }

    pub(crate) async fn get(&self, path: &str, who: &str) -> Response {
        self.call(Method::GET, path, who).send().await.expect("an answer")
    }

    pub(crate) async fn balance(&self, who: &str) -> i64 {
        ok(self.get("/points", who).await).await["balance"].as_i64().expect("a balance")
    }

    pub(crate) async fn balance_at(&self, who: &str, at: DateTime<Utc>) -> Response {
        let at = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        self.get(&format!("/points?at={at}"), who).await
    }

    // ---- what was told and written ----

    pub(crate) async fn completed(&self) -> Vec<PaymentCompleted> {
        self.seam.told().await.into_iter().map(|event| event.data).collect()
    }

    pub(crate) async fn failed(&self) -> Vec<(OrderId, PaymentRefusal)> {
        let failed = self.seam.told::<PaymentFailed>().await;
        failed.into_iter().map(|event| (event.data.order_id, event.data.reason)).collect()
    }

    pub(crate) async fn refunds(&self) -> Vec<PaymentRefunded> {
        self.seam.told().await.into_iter().map(|event| event.data).collect()
    }

    pub(crate) async fn points_told(&self) -> (Vec<PointCharged>, Vec<PointDeducted>, Vec<PointRefunded>) {
        (
            self.seam.told().await.into_iter().map(|event| event.data).collect(),
            self.seam.told().await.into_iter().map(|event| event.data).collect(),
            self.seam.told().await.into_iter().map(|event| event.data).collect(),
        )
    }

    pub(crate) async fn moved(&self, order_id: OrderId) -> Moved {
        let client = self.pool.get().await.expect("a connection");
        let sum = "SELECT coalesce(-sum(delta) FILTER (WHERE kind = 'DEDUCTED'), 0)::bigint,
                          coalesce(sum(delta) FILTER (WHERE kind = 'REFUNDED'), 0)::bigint
                   FROM points_ledger WHERE order_id = $1";
        let row = client.query_one(sum, &[&order_id.uuid()]).await.expect("sums");
        Moved { deducted: row.get(0), refunded: row.get(1) }
    }

    /// The law of the ledger: every entry says the balance after it, in the order of its times; the last
    /// one is the account; every entry was told, and nothing else.
    pub(crate) async fn assert_lawful(&self) {
        let mut client = self.pool.get().await.expect("a connection");
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        assert_eq!(store::list_drifts(&tx).await.expect("drifts"), [], "accounts that aren't their ledger");
        tx.rollback().await.expect("rolled back");
        let broken = "SELECT user_id, at FROM (
                SELECT user_id, at, balance, sum(delta) OVER (PARTITION BY user_id ORDER BY at) AS running
                FROM points_ledger
            ) AS entry WHERE balance <> running";
        assert_eq!(client.query(broken, &[]).await.expect("rows").len(), 0, "an entry with a wrong balance");
        let pending = "SELECT 1 FROM payments WHERE status = 'PENDING'";
        assert_eq!(client.query(pending, &[]).await.expect("rows").len(), 0, "an undecided payment was committed");

        let mut told: Vec<Uuid> = Vec::new();
        let (charged, deducted, refunded) = self.points_told().await;
        told.extend(charged.iter().map(|event| event.entry_id.uuid()));
        told.extend(deducted.iter().map(|event| event.entry_id.uuid()));
        told.extend(refunded.iter().map(|event| event.entry_id.uuid()));
        told.sort();
        let written = client.query("SELECT entry_id FROM points_ledger ORDER BY entry_id", &[]).await.expect("rows");
        assert_eq!(told, written.iter().map(|row| row.get(0)).collect::<Vec<Uuid>>(), "told is what is written");
    }
}

pub(crate) async fn ok(answer: Response) -> Value {
    let (status, body) = (answer.status(), answer.text().await.expect("a body"));
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// The status and the code of a problem, which says what RFC 9457 wants it to.
pub(crate) async fn problem(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").expect("a content type").to_str().expect("text").to_owned();
    let trace = answer.headers().get("x-trace-id").expect("a trace id").to_str().expect("text").to_owned();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(kind, "application/problem+json");
    assert_eq!((&body["status"], &body["traceId"]), (&json!(status), &json!(trace)));
    (status, body["code"].as_str().expect("a code").to_owned())
}

pub(crate) fn order() -> OrderId {
    OrderId::new(Uuid::now_v7())
}

pub(crate) fn user(who: &str) -> UserId {
    who.parse().expect("a user id")
}

pub(crate) fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn lines(total: i64) -> Vec<OrderLine> {
    vec![OrderLine {
        product_id: "tea".parse().expect("a product id"),
        name: "Green tea".to_owned(),
        quantity: 1.try_into().expect("a quantity"),
        unit_price: won(total),
        amount: won(total),
    }]
}
