//! One of those who hear `order-cancelled`: its database, its handlers, its operators' calls, and what relay and
//! broker would do for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use common_events::{
    CancelReason, EventData, IssuedCouponId, OrderId, ReasonCode, Service, Topic, Won,
    events::{OrderCancelled, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved, v1},
};
use futures::FutureExt;
use messaging::{Delivered, OwnTopic, Record, Subscriptions, admin::Office, delivery::Group, ladder::Ladder};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use service_runtime::{Health, Tasks};
use test_support::{Database, Served, eventually, runtime_with, seam};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Whoever holds something for an order; the monitor, which holds nothing, has tests of its own.
pub(crate) const READERS: [Service; 3] = [Service::Product, Service::Coupon, Service::Payment];

/// No batches of parked events: the third rung is the last.
const LADDER: Ladder =
    Ladder { immediate: 1, delays: [Duration::ZERO; 3], parked_attempts: 0, parked_interval: Duration::ZERO };

/// The same with one batch of parked events, at once.
pub(crate) const WITH_PARKED: Ladder = Ladder { parked_attempts: 1, ..LADDER };

/// How a cancel is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    InVersion1,
    InVersion2,
    /// For a reason that nobody knows yet.
    ForAnUnknownReason,
}

impl Written {
    pub(crate) const ALL: [Self; 3] = [Self::InVersion1, Self::InVersion2, Self::ForAnUnknownReason];

    pub(crate) fn reason(self) -> CancelReason {
        match self {
            Self::InVersion1 | Self::InVersion2 => CancelReason::Timeout,
            Self::ForAnUnknownReason => "RECALLED_2027".parse::<ReasonCode>().expect("a code").into(),
        }
    }
}

pub(crate) struct Reader {
    service: Service,
    pub(crate) group: Arc<Group>,
    office: Office,
    served: Served,
    web: reqwest::Client,
    next_offset: AtomicI64,
    database: Database,
}

fn subscriptions(service: Service) -> Subscriptions {
    match service {
        Service::Product => product_service::events::subscriptions(),
        Service::Coupon => coupon_service::events::subscriptions(mpsc::channel(1).0),
        Service::Payment => payment_service::events::subscriptions(),
        other => panic!("{other} holds nothing for an order"),
    }
}

impl Reader {
    pub(crate) async fn open(service: Service) -> Self {
        Self::open_with(service, LADDER).await
    }

    pub(crate) async fn open_with(service: Service, ladder: Ladder) -> Self {
        let (migrations, stocked) = match service {
            Service::Product => (
                product_service::store::MIGRATIONS,
                "INSERT INTO products (product_id, name, price, stock, version) VALUES ('tea', 'Tea', 100, 1000, 1)",
            ),
            Service::Payment => (
                payment_service::store::MIGRATIONS,
                "WITH entry AS (
                     INSERT INTO points_ledger (user_id, at, entry_id, kind, delta, balance, trace_id)
                     VALUES ('kim', now(), gen_random_uuid(), 'CHARGED', 10000, 10000, '') RETURNING at)
                 INSERT INTO points_accounts (user_id, balance, charged, last_at) SELECT 'kim', 10000, 10000, at FROM entry",
            ),
            Service::Coupon => (coupon_service::store::MIGRATIONS, "SELECT"),
            other => panic!("{other} holds nothing for an order"),
        };
        let database = Database::new(&[messaging::MIGRATIONS, migrations]).await;
        let client = database.pool.get().await.expect("a connection");
        client.batch_execute(stocked).await.expect("something to hold");
        drop(client);
        let group = Arc::new(Group::new(database.pool.clone(), subscriptions(service), ladder));
        let runtime = runtime_with(service, &[("FAULT_INJECTION", "true")]);
        let office = Office::of(Arc::clone(&group), &runtime.settings);
        let served = Served::new(&runtime, office.routes());
        Self { service, group, office, served, web: reqwest::Client::new(), next_offset: 0.into(), database }
    }

    /// The same group in the release before this one, which knows version 1 only.
    pub(crate) fn release_before(&self) -> Group {
        let before = subscriptions(self.service).hear::<v1::OrderCancelled, _>(|_, _| async { Ok(()) }.boxed());
        Group::new(self.database.pool.clone(), before, LADDER)
    }

    // --- what others tell -----------------------------------------------------------------------

    fn record<T: EventData>(&self, data: T) -> Record {
        seam::record(&seam::event(data), self.next_offset.fetch_add(1, Ordering::Relaxed))
    }

    /// An order for which this reader holds something.
    pub(crate) async fn hold(&self) -> OrderId {
        let order_id = OrderId::new(Uuid::now_v7());
        let (user_id, lines) = ("kim".parse().expect("a user"), vec![line()]);
        let (total, discount) = (won(100), Won::ZERO);
        let asked = match self.service {
            Service::Product => {
                let OrderLine { product_id, quantity, .. } = line();
                self.record(OrderLinePlaced { order_id, order_version: 1, user_id, product_id, quantity })
            }
            Service::Coupon => self.record(OrderCreated {
                order_id,
                order_version: 1,
                user_id,
                issued_coupon_id: Some(self.issue(order_id).await),
                lines,
                subtotal: total,
                created_at: Utc::now(),
            }),
            Service::Payment => self.record(OrderReserved {
                order_id,
                order_version: 2,
                user_id,
                lines,
                subtotal: total,
                discount,
                total,
            }),
            other => panic!("{other} holds nothing for an order"),
        };
        assert_eq!(self.deliver(&[asked]).await.applied, 1);
        order_id
    }

    /// The coupon that an order is to use has the order's number.
    async fn issue(&self, order: OrderId) -> IssuedCouponId {
        let client = self.database.pool.get().await.expect("a connection");
        let sql = r#"
            INSERT INTO issued_coupons (issued_coupon_id, coupon_id, user_id, request_id, discount, issued_at)
            VALUES ($1::uuid, 'of-' || $1::uuid, 'kim', $1::uuid, '{"kind": "amount", "value": 10}', now())"#;
        client.execute(sql, &[&order.uuid()]).await.expect("a coupon");
        IssuedCouponId::new(order.uuid())
    }

    /// The order's cancel, as it lies on its topic.
    pub(crate) fn cancel(&self, order: OrderId, written: Written) -> Record {
        let (user_id, lines, cancelled_at) = ("kim".parse().expect("a user"), vec![line()], Utc::now());
        let issued_coupon_id = (self.service == Service::Coupon).then(|| IssuedCouponId::new(order.uuid()));
        match written {
            Written::InVersion1 => self.record(v1::OrderCancelled {
                order_id: order,
                order_version: 4,
                user_id,
                lines,
                issued_coupon_id,
                reason: v1::Reason::Timeout.into(),
                note: None,
                cancelled_at,
            }),
            Written::InVersion2 | Written::ForAnUnknownReason => self.record(OrderCancelled {
                order_id: order,
                order_version: 4,
                user_id,
                lines,
                issued_coupon_id,
                reason: written.reason(),
                note: None,
                cancelled_at,
            }),
        }
    }

    // --- relay and broker -----------------------------------------------------------------------

    pub(crate) async fn deliver(&self, records: &[Record]) -> Delivered {
        self.group.deliver(records).await.expect("the database answers")
    }

    /// Does what relay and broker would do with what goes to this topic of the group's own.
    pub(crate) async fn carry(&self, own: OwnTopic) -> Delivered {
        let topic = own.name(self.service);
        let client = self.database.pool.get().await.expect("a connection");
        let sql = "DELETE FROM outbox WHERE topic = $1 RETURNING id, key, payload, header_names, header_values";
        let mut rows = client.query(sql, &[&topic]).await.expect("the outbox");
        drop(client);
        rows.sort_by_key(|row| row.get::<_, i64>(0));
        let carried = |row: &tokio_postgres::Row| Record {
            topic: topic.clone(),
            partition: 0,
            offset: self.next_offset.fetch_add(1, Ordering::Relaxed),
            timestamp: Some(Utc::now()),
            key: row.get(1),
            value: row.get(2),
            headers: row.get::<_, Vec<String>>(3).into_iter().zip(row.get::<_, Vec<Vec<u8>>>(4)).collect(),
        };
        let records: Vec<Record> = rows.iter().map(carried).collect();
        self.deliver(&records).await
    }

    // --- operators ------------------------------------------------------------------------------

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.web.request(method, format!("{}{path}", self.served.url));
        let request = request.header("X-User-Id", "olga").header("X-Roles", "operator");
        let request = body.iter().fold(request, RequestBuilder::json);
        let answer = request.send().await.expect("the server answers");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// From now on every event fails, and may be tried again.
    pub(crate) async fn break_everything(&self) {
        let fault = json!({"kind": "transient", "reason": "a test"});
        assert_eq!(self.call(Method::PUT, "/admin/faults", Some(fault)).await.0, 200);
    }

    pub(crate) async fn mend_everything(&self) {
        assert_eq!(self.call(Method::DELETE, "/admin/faults", None).await.0, 200);
    }

    /// Has every dead letter handled again; returns how the replay ended, or the code of its refusal.
    pub(crate) async fn replay(&self) -> Result<Value, String> {
        let body = json!({"filter": {"state": "DEAD"}, "reason": "it is mended"});
        let (status, asked) = self.call(Method::POST, "/admin/dead-letters/replay", Some(body)).await;
        if status != 202 {
            return Err(asked["code"].as_str().unwrap_or_default().to_owned());
        }
        let path = format!("/admin/replays/{}", asked["id"].as_str().expect("an id"));
        let tasks = Tasks::new(Health::new(CancellationToken::new()));
        self.office.run_replays(&tasks);
        let ended = eventually("the replay ends", || async {
            self.carry(OwnTopic::Replay).await;
            let (_, replay) = self.call(Method::GET, &path, None).await;
            replay["endedAt"].is_string().then_some(replay)
        })
        .await;
        tasks.stop().await.expect("in order");
        Ok(ended)
    }

    /// What the dead letters died of.
    pub(crate) async fn causes(&self) -> Vec<String> {
        let client = self.database.pool.get().await.expect("a connection");
        let sql = "SELECT error_class FROM dead_letters WHERE state = 'DEAD'";
        client.query(sql, &[]).await.expect("the dead letters").iter().map(|row| row.get(0)).collect()
    }

    // --- what came of it ------------------------------------------------------------------------

    /// What was told of the order's undoing.
    pub(crate) async fn undone(&self, order: OrderId) -> Vec<Value> {
        let undo = match self.service {
            Service::Product => Topic::StockRestored,
            Service::Coupon => Topic::CouponRestored,
            Service::Payment => Topic::PaymentRefunded,
            other => panic!("{other} undoes nothing"),
        };
        let told = self.told(undo, order).await;
        if self.service == Service::Payment {
            let points = self.told(Topic::PointRefunded, order).await;
            assert_eq!(points.len(), told.len(), "points go back with the payment");
            assert!(points.iter().zip(&told).all(|(points, payment)| points["reason"] == payment["reason"]));
        }
        told
    }

    async fn told(&self, topic: Topic, order: OrderId) -> Vec<Value> {
        let client = self.database.pool.get().await.expect("a connection");
        let sql = "SELECT payload FROM outbox WHERE topic = $1 ORDER BY id";
        let rows = client.query(sql, &[&topic.name()]).await.expect("the outbox");
        let data = |row: &tokio_postgres::Row| {
            let event: Value = serde_json::from_slice(row.get(0)).expect("events are JSON");
            Some(event["data"].clone()).filter(|data| data["orderId"] == json!(order))
        };
        rows.iter().filter_map(data).collect()
    }
}

fn line() -> OrderLine {
    OrderLine {
        product_id: "tea".parse().expect("a product"),
        name: "Tea".to_owned(),
        quantity: 1.try_into().expect("a quantity"),
        unit_price: won(100),
        amount: won(100),
    }
}

fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}
