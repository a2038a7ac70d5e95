//! The operators' calls, on a real PostgreSQL. Where no broker matters, what the outbox holds for the group's
//! own topic is carried to the group by hand.

mod audit;
mod discarding;
mod document;
mod dry_run;
mod faults;
mod looking;
mod many;
mod replaying;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use actix_web::{http::Method, test::TestRequest};
use common_events::{EventData, EventId, ReasonCode, Service, envelope};
use futures::FutureExt;
use messaging::{Delivered, Event, Handled, Record, Subscriptions, Tx, admin::Office, delivery::Group, ladder::Ladder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_runtime::{CommonSettings, Env, Health, Runtime, Tasks, database::Pool};
use test_support::{Database, ask, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::toys::{self, Mood, Told, Toy, Toys, event, record};

/// Quick, and never climbed here: what fails is made to fail for good.
const LADDER: Ladder = Ladder {
    immediate: 2,
    delays: [std::time::Duration::from_mins(1); 3],
    parked_attempts: 1,
    parked_interval: std::time::Duration::from_mins(1),
};

/// An event that comes too late for its handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LateToy {
    pub(crate) key: String,
}

impl EventData for LateToy {
    const TOPIC: common_events::Topic = common_events::Topic::OrderReserved;

    fn key(&self) -> std::borrow::Cow<'_, str> {
        (&*self.key).into()
    }
}

#[expect(clippy::unused_async, reason = "a handler, which has nothing to wait for")]
async fn on_late_toy(tx: &Tx<'_>, _: &[&Event<LateToy>]) -> Handled {
    tx.came_too_late(ReasonCode::ORDER_CANCELLED);
    Ok(())
}

#[expect(clippy::unused_async, reason = "a handler, which has nothing to wait for")]
async fn on_discarded(tx: &Tx<'_>, events: &[&Event<Toy>]) -> Handled {
    for event in events {
        let Toy { key, n, .. } = &event.data;
        tx.publish(event.causes(Told { key: key.clone(), n: *n, ballast: String::new() }))?;
    }
    Ok(())
}

/// A service whose operators sit at their desk.
pub(crate) struct Desk {
    pub(crate) toys: Arc<Toys>,
    pub(crate) group: Arc<Group>,
    pub(crate) office: Office,
    pub(crate) runtime: Runtime,
    next_offset: AtomicI64,
    database: Database,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The status, the code, and the field that is to blame.
    pub(crate) fn refusal(&self) -> (u16, &str, &str) {
        let text = |name: &str| self.body[name].as_str().unwrap_or_default();
        (self.status, text("code"), text("field"))
    }

    pub(crate) fn items(&self) -> &[Value] {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body["items"].as_array().expect("items")
    }

    pub(crate) fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("an id in {}", self.body)).to_owned()
    }
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::open_with("true").await
    }

    pub(crate) async fn open_with(fault_injection: &str) -> Self {
        let (database, toys) = (toys::database().await, Toys::new());
        let subscriptions =
            subscriptions(&toys).when_discarded::<Toy, _>(|tx, events| on_discarded(tx, events).boxed());
        let group = Arc::new(Group::new(database.pool.clone(), subscriptions, LADDER));
        let env = Env::of([("AUTH_MODE", "header"), ("FAULT_INJECTION", fault_injection)]);
        let settings = CommonSettings::read(Service::Order, &env).expect("settings");
        let office = Office::of(Arc::clone(&group), &settings);
        let runtime = Runtime::new(Service::Order, env, settings);
        Self { toys, group, office, runtime, next_offset: 0.into(), database }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.database.pool
    }

    /// Where its database is.
    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    async fn send(&self, request: TestRequest) -> Answer {
        let answer = ask(&self.runtime, self.office.routes(), request).await;
        Answer { status: answer.status, body: answer.body }
    }

    /// As an operator.
    pub(crate) async fn call(&self, method: Method, uri: &str, body: &Value) -> Answer {
        let request = TestRequest::with_uri(uri).method(method).insert_header(("X-User-Id", "olga"));
        let request = request.insert_header(("X-Roles", "operator"));
        let request = if body.is_null() { request } else { request.set_payload(body.to_string()) };
        self.send(request).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.call(Method::GET, uri, &Value::Null).await
    }

    pub(crate) async fn post(&self, uri: &str, body: Value) -> Answer {
        self.call(Method::POST, uri, &body).await
    }

    pub(crate) async fn replay(&self, body: Value) -> Answer {
        self.post("/admin/dead-letters/replay", body).await
    }

    pub(crate) async fn discard(&self, body: Value) -> Answer {
        self.post("/admin/dead-letters/discard", body).await
    }

    /// As somebody else.
    pub(crate) async fn call_as(&self, who: &[(&str, &str)], method: Method, uri: &str, body: &str) -> Answer {
        let request = TestRequest::with_uri(uri).method(method).set_payload(body.to_owned());
        self.send(who.iter().fold(request, |request, (name, value)| request.insert_header((*name, *value)))).await
    }

    pub(crate) fn record<T: EventData>(&self, event: &envelope::Event<T>) -> Record {
        record(event, self.next_offset.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) async fn deliver(&self, records: &[Record]) -> Delivered {
        self.group.deliver(records).await.expect("the database answers")
    }

    /// From now on every event fails for good.
    pub(crate) async fn break_everything(&self) {
        let fault = json!({"kind": "unprocessable", "reason": "a test"});
        assert_eq!(self.call(Method::PUT, "/admin/faults", &fault).await.status, 200);
    }

    pub(crate) async fn mend_everything(&self) {
        assert_eq!(self.call(Method::DELETE, "/admin/faults", &Value::Null).await.status, 200);
    }

    /// These died of something that is mended by now. Returns their ids as dead letters, in their order.
    pub(crate) async fn bury(&self, records: &[Record]) -> Vec<String> {
        self.break_everything().await;
        let delivered = self.deliver(records).await;
        assert_eq!(delivered, Delivered { dead: records.len(), ..Delivered::default() });
        self.mend_everything().await;
        let mut ids = Vec::new();
        for record in records {
            ids.push(self.letter_at(record).await);
        }
        ids
    }

    /// Toys that died so.
    pub(crate) async fn bury_toys(&self, toys: impl IntoIterator<Item = Toy>) -> (Vec<EventId>, Vec<String>) {
        let events: Vec<_> = toys.into_iter().map(event).collect();
        let records: Vec<Record> = events.iter().map(|event| self.record(event)).collect();
        (events.iter().map(|event| event.id).collect(), self.bury(&records).await)
    }

    /// The dead letter of what lay there.
    pub(crate) async fn letter_at(&self, record: &Record) -> String {
        let client = self.pool().get().await.expect("a connection");
        let sql = "SELECT id FROM dead_letters WHERE origin_topic = $1 AND origin_offset = $2";
        let row = client.query_one(sql, &[&record.topic, &record.offset]).await.expect("a dead letter");
        row.get::<_, Uuid>(0).to_string()
    }

    pub(crate) async fn state_of_letter(&self, id: &str) -> String {
        self.get(&format!("/admin/dead-letters/{id}")).await.body["state"].as_str().expect("a state").to_owned()
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        toys::count(self.pool(), sql).await
    }

    /// Does what relay and broker would do with what goes to this topic.
    pub(crate) async fn carry(&self, topic: &str) -> Delivered {
        let client = self.pool().get().await.expect("a connection");
        let sql = "DELETE FROM outbox WHERE topic = $1 RETURNING id, key, payload, header_names, header_values";
        let mut rows = client.query(sql, &[&topic]).await.expect("the outbox");
        drop(client);
        rows.sort_by_key(|row| row.get::<_, i64>(0));
        let carried = |row: &tokio_postgres::Row| Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: self.next_offset.fetch_add(1, Ordering::Relaxed),
            timestamp: Some(chrono::Utc::now()),
            key: row.get(1),
            value: row.get(2),
            headers: row.get::<_, Vec<String>>(3).into_iter().zip(row.get::<_, Vec<Vec<u8>>>(4)).collect(),
        };
        let records: Vec<Record> = rows.iter().map(carried).collect();
        self.deliver(&records).await
    }

    /// Until told to stop.
    pub(crate) fn runner(&self) -> Tasks {
        let tasks = Tasks::new(Health::new(CancellationToken::new()));
        self.office.run_replays(&tasks);
        tasks
    }

    /// Carries what the replay sends until it has ended; returns how.
    pub(crate) async fn finish(&self, replay: &Answer, topic: &str) -> Value {
        assert_eq!(replay.status, 202, "{}", replay.body);
        let runner = self.runner();
        let uri = format!("/admin/replays/{}", replay.id());
        let ended = eventually("the replay ends", || async {
            self.carry(topic).await;
            let replay = self.get(&uri).await.body;
            replay["endedAt"].is_string().then_some(replay)
        })
        .await;
        runner.stop().await.expect("in order");
        ended
    }
}

/// Toys, and those that come too late.
pub(crate) fn subscriptions(toys: &Arc<Toys>) -> Subscriptions {
    toys.subscriptions(Service::Order).hear::<LateToy, _>(|tx, events| on_late_toy(tx, events).boxed())
}

/// Where replays to the group go.
pub(crate) const OWN: &str = "order-service.replay";

/// A toy that is applied, answered, and can be told from others.
pub(crate) fn answering(n: i64) -> Toy {
    Toy::new(&format!("bear-{n}"), n, Mood::Answers)
}
