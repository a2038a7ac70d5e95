//! A consumer group without a broker: events go in, rows and published events come out.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{SubsecRound, Utc};
use common_events::{EventData, EventId, envelope};
use messaging::{Delivered, Record, Subscriptions, delivery::Group, ladder::Ladder};
use service_runtime::{database::Pool, telemetry};
use uuid::Uuid;

/// Every attempt is immediate here; two, so that a failing one is tried again.
const IMMEDIATE_ATTEMPTS: u32 = 2;

/// An event as its writer would publish it: new id, now, a trace of its own.
pub fn event<T: EventData>(data: T) -> envelope::Event<T> {
    envelope::Event {
        id: EventId::new(Uuid::now_v7()),
        time: Utc::now().trunc_subsecs(3),
        subject: data.key().into_owned(),
        trace: telemetry::root(),
        data,
    }
}

/// The record in which the event would lie on its topic.
///
/// # Panics
/// When the event can't be written as JSON.
pub fn record<T: EventData>(event: &envelope::Event<T>, offset: i64) -> Record {
    Record {
        topic: T::TOPIC.name().to_owned(),
        partition: 0,
        offset,
        timestamp: Some(event.time),
        key: Some(event.subject.clone().into_bytes()),
        value: Some(envelope::encode(event).expect("events are JSON")),
        headers: Vec::new(),
    }
}

/// A service's handlers on a test's database.
pub struct Seam {
    pool: Pool,
    group: Arc<Group>,
    next_offset: AtomicI64,
}

impl Seam {
    /// The group of these subscriptions, on this database.
    pub fn new(database: &crate::Database, subscriptions: Subscriptions) -> Self {
        let pool = database.pool.clone();
        let ladder = Ladder { immediate: IMMEDIATE_ATTEMPTS, ..Ladder::default() };
        Self { group: Arc::new(Group::new(pool.clone(), subscriptions, ladder)), pool, next_offset: 0.into() }
    }

    /// The group itself, for its operators' calls.
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// An event as its writer would publish it: new id, now, a trace of its own.
    pub fn event<T: EventData>(&self, data: T) -> envelope::Event<T> {
        event(data)
    }

    /// The record in which the event would lie on its topic, at a new offset.
    ///
    /// # Panics
    /// When the event can't be written as JSON.
    pub fn record<T: EventData>(&self, event: &envelope::Event<T>) -> Record {
        record(event, self.next_offset.fetch_add(1, Ordering::Relaxed))
    }

    /// Delivers one event. Again for the same event: a duplicate, at another offset.
    pub async fn deliver<T: EventData>(&self, event: &envelope::Event<T>) -> Delivered {
        self.deliver_records(&[self.record(event)]).await
    }

    /// Delivers events as one batch.
    pub async fn deliver_batch<T: EventData>(&self, events: &[envelope::Event<T>]) -> Delivered {
        let records: Vec<Record> = events.iter().map(|event| self.record(event)).collect();
        self.deliver_records(&records).await
    }

    /// Delivers records as they are.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn deliver_records(&self, records: &[Record]) -> Delivered {
        self.group.deliver(records).await.expect("the database answers")
    }

    /// Everything published so far of this type, in order.
    ///
    /// # Panics
    /// When the outbox can't be read.
    pub async fn told<T: EventData>(&self) -> Vec<envelope::Event<T>> {
        let client = self.pool.get().await.expect("a connection");
        let rows = client
            .query("SELECT payload FROM outbox WHERE topic = $1 ORDER BY id", &[&T::TOPIC.name()])
            .await
            .expect("the outbox can be read");
        let decode = |row: &tokio_postgres::Row| envelope::decode(row.get::<_, &[u8]>(0)).expect("a published event");
        rows.iter().map(decode).collect()
    }
}
