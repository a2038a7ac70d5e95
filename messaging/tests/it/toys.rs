//! Toys: events that say by themselves how their handling ends, and a journal of what was handled.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common_events::{EventData, EventId, Service, Topic};
use futures::FutureExt;
use messaging::{
    Delivered, Event, Handled, Record, Stalled, Subscriptions, Transient, Tx, Unprocessable, delivery::Group,
    ladder::Ladder,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_runtime::database::Pool;
use test_support::Database;
pub(crate) use test_support::seam::{event, record};
use tokio::sync::watch;
use uuid::Uuid;

/// How often a record is tried in place.
pub(crate) const ATTEMPTS: u32 = 3;

/// A ladder that nobody climbs to its end while a test runs.
pub(crate) fn ladder() -> Ladder {
    Ladder { immediate: ATTEMPTS, ..Ladder::default() }
}

/// One that is climbed in seconds. Its first attempt in place is the last, so that much climbs.
pub(crate) const QUICK_LADDER: Ladder = Ladder {
    immediate: 1,
    delays: [Duration::from_millis(400); 3],
    // Enough for each member that a test kills.
    parked_attempts: 30,
    parked_interval: Duration::from_millis(400),
};

/// How the handling of a toy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Mood {
    /// It is written into the journal.
    Fine,
    /// The same, and a [`Told`] is published.
    Answers,
    /// The same, and then it turns out to make no sense.
    AnswersAndIsNonsense,
    /// The same, and then something around it fails, each time.
    AnswersAndBreaks,
    /// Something around it fails the first time.
    BreaksOnce,
    /// Something around it fails the first two times that this process handles it alone. Before that, too: what
    /// halves a batch uses up no attempt.
    BreaksTwice,
    /// The handler panics, the first time.
    PanicsOnce,
    /// The handler panics, each time.
    Panics,
    /// The database refuses a statement, and the handler goes on as if nothing were.
    SwallowsAnError,
    /// The answer is larger than an event may be.
    AnswersTooMuch,
    /// Waits until [`Toys::let_go`].
    Waits,
    /// The same, and then a remote system turns out to be away.
    WaitsAndBreaks,
    /// Something around it fails until [`Toys::let_go`].
    BreaksUntilFree,
    /// Something around it fails, and says what the toy says.
    Says,
}

/// What is heard: one of a key's toys, the `n`th.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Toy {
    pub(crate) key: String,
    pub(crate) n: i64,
    pub(crate) mood: Mood,
    #[serde(default)]
    pub(crate) ballast: String,
}

impl Toy {
    pub(crate) fn new(key: &str, n: i64, mood: Mood) -> Self {
        Self { key: key.to_owned(), n, mood, ballast: String::new() }
    }

    pub(crate) fn fine(key: &str, n: i64) -> Self {
        Self::new(key, n, Mood::Fine)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Told {
    pub(crate) key: String,
    pub(crate) n: i64,
    pub(crate) ballast: String,
}

/// The latest of its key, on a compacted topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) n: i64,
}

/// On a topic that is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Coin {
    pub(crate) key: String,
    pub(crate) n: i64,
}

macro_rules! lies_on {
    ($($data:ident => $topic:ident),+) => {$(
        impl EventData for $data {
            const TOPIC: Topic = Topic::$topic;

            fn key(&self) -> Cow<'_, str> {
                (&*self.key).into()
            }
        }
    )+};
}
lies_on!(Toy => OrderCreated, Told => OrderReserved, Label => ProductCatalog, Coin => PointCharged);

/// The records of these toys, from offset 0 on.
pub(crate) fn records(toys: impl IntoIterator<Item = Toy>) -> Vec<Record> {
    (0..).zip(toys).map(|(offset, toy)| record(&event(toy), offset)).collect()
}

/// The handlers, and what they saw.
pub(crate) struct Toys {
    calls: AtomicUsize,
    attempts: Mutex<HashMap<EventId, u32>>,
    /// The same, in a batch of its own.
    alone: Mutex<HashMap<EventId, u32>>,
    /// Whether those who wait may go on.
    free: watch::Sender<bool>,
    /// How long each batch takes on top.
    slowness: watch::Sender<Duration>,
}

impl Toys {
    pub(crate) fn new() -> Arc<Self> {
        let (free, slowness) = (watch::Sender::new(false), watch::Sender::new(Duration::ZERO));
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            attempts: Mutex::default(),
            alone: Mutex::default(),
            free,
            slowness,
        })
    }

    /// Hears all kinds of toys, as `group`.
    pub(crate) fn subscriptions(self: &Arc<Self>, group: Service) -> Subscriptions {
        self.only_toys(group)
            .hear::<Label, _>(|tx, events| on_label(tx, events).boxed())
            .hear::<Coin, _>(|tx, events| on_coin(tx, events).boxed())
    }

    /// Hears no other kind.
    pub(crate) fn only_toys(self: &Arc<Self>, group: Service) -> Subscriptions {
        let toys = Arc::clone(self);
        Subscriptions::of(group).hear::<Toy, _>(move |tx, events| {
            let toys = Arc::clone(&toys);
            async move { toys.on_toy(tx, events).await }.boxed()
        })
    }

    /// How often the handler was called with a batch.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How often the handler saw this event.
    pub(crate) fn attempts(&self, id: EventId) -> u32 {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn let_go(&self) {
        self.free.send_replace(true);
    }

    /// Those who wait wait again.
    pub(crate) fn hold(&self) {
        self.free.send_replace(false);
    }

    pub(crate) fn take_for_each_batch(&self, time: Duration) {
        self.slowness.send_replace(time);
    }

    /// Effects first, then the moods: what fails has written and published already.
    async fn on_toy(&self, tx: &Tx<'_>, events: &[&Event<Toy>]) -> Handled {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let attempts: Vec<u32> = {
            let mut seen = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = |event: &&Event<Toy>| {
                let attempts = seen.entry(event.id).or_default();
                *attempts += 1;
                *attempts
            };
            events.iter().map(&mut next).collect()
        };
        insert_journal(tx, events, |toy| (&toy.key, toy.n)).await?;
        let slowness = *self.slowness.borrow();
        if !slowness.is_zero() {
            tokio::time::sleep(slowness).await;
        }
        let alone = if let [event] = events { self.count_alone(event.id) } else { 0 };
        for (event, attempt) in events.iter().zip(attempts) {
            if event.data.mood == Mood::BreaksTwice && alone <= 2 {
                return Err(Transient::new("platform-unavailable", "the toy platform is away").into());
            }
            self.end(tx, event, attempt).await?;
        }
        Ok(())
    }

    fn count_alone(&self, id: EventId) -> u32 {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let times = alone.entry(id).or_default();
        *times += 1;
        *times
    }

    async fn end(&self, tx: &Tx<'_>, event: &Event<Toy>, attempt: u32) -> Handled {
        let answer = |ballast: usize| {
            let Toy { key, n, .. } = &event.data;
            tx.publish(event.causes(Told { key: key.clone(), n: *n, ballast: "x".repeat(ballast) }))
        };
        let broken = || Transient::new("platform-unavailable", "the toy platform is away");
        match event.data.mood {
            Mood::Answers => {
                answer(0)?;
            }
            Mood::AnswersAndIsNonsense => {
                answer(0)?;
                return Err(Unprocessable::new("a toy that makes no sense").into());
            }
            Mood::AnswersAndBreaks => {
                answer(0)?;
                return Err(broken().into());
            }
            Mood::BreaksOnce if attempt == 1 => return Err(broken().into()),
            Mood::PanicsOnce if attempt == 1 => panic!("a toy broke"),
            Mood::Fine | Mood::BreaksOnce | Mood::BreaksTwice | Mood::PanicsOnce => {}
            Mood::Panics => panic!("a toy broke"),
            Mood::SwallowsAnError => {
                let refused = tx.execute("SELECT 1 / 0", &[]).await;
                assert!(refused.is_err());
            }
            Mood::AnswersTooMuch => {
                answer(messaging::MAX_EVENT_BYTES)?;
            }
            Mood::Waits => self.wait().await,
            Mood::BreaksUntilFree => {
                if !*self.free.borrow() {
                    return Err(broken().into());
                }
            }
            Mood::Says => return Err(Transient::new("platform-unavailable", event.data.ballast.clone()).into()),
            Mood::WaitsAndBreaks => {
                self.wait().await;
                return Err(broken().into());
            }
        }
        Ok(())
    }

    async fn wait(&self) {
        self.free.subscribe().wait_for(|free| *free).await.expect("the toys outlive their handlers");
    }
}

/// Answers, so that an answer to what has no inbox row is tried out as well.
async fn on_label(tx: &Tx<'_>, events: &[&Event<Label>]) -> Handled {
    insert_journal(tx, events, |label| (&label.key, label.n)).await?;
    for event in events {
        tx.publish(event.causes(Told { key: event.data.key.clone(), n: event.data.n, ballast: String::new() }))?;
    }
    Ok(())
}

async fn on_coin(tx: &Tx<'_>, events: &[&Event<Coin>]) -> Handled {
    insert_journal(tx, events, |coin| (&coin.key, coin.n)).await?;
    if events.iter().any(|event| event.data.key == "false") {
        return Err(Unprocessable::new("a false coin").into());
    }
    Ok(())
}

async fn insert_journal<T>(
    tx: &Tx<'_>,
    events: &[&Event<T>],
    read: impl Fn(&T) -> (&String, i64),
) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.uuid()).collect();
    let (keys, numbers): (Vec<&String>, Vec<i64>) = events.iter().map(|event| read(&event.data)).unzip();
    tx.execute(
        "INSERT INTO journal (event_id, key, n)
         SELECT event_id, key, n FROM unnest($1::uuid[], $2::text[], $3::bigint[])
             WITH ORDINALITY AS toy (event_id, key, n, position) ORDER BY position",
        &[&ids, &keys, &numbers],
    )
    .await?;
    Ok(())
}

/// A database with the journal, in which everything that was handled stands in its order, as often as
/// it was handled.
pub(crate) async fn database() -> Database {
    let database = Database::new(&[messaging::MIGRATIONS]).await;
    let client = database.pool.get().await.expect("a connection");
    client
        .batch_execute(
            "CREATE TABLE journal (
                 position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 event_id    uuid NOT NULL,
                 key         text NOT NULL,
                 n           bigint NOT NULL,
                 transaction xid8 NOT NULL DEFAULT pg_current_xact_id())",
        )
        .await
        .expect("a journal");
    drop(client);
    database
}

/// One number from the database.
pub(crate) async fn count(pool: &Pool, sql: &str) -> i64 {
    let client = pool.get().await.expect("a connection");
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// What the journal holds, in its order.
pub(crate) async fn journal(pool: &Pool) -> Vec<(String, i64)> {
    let client = pool.get().await.expect("a connection");
    let rows = client.query("SELECT key, n FROM journal ORDER BY position", &[]).await.expect("the journal");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The numbers of each key, in the order of the journal.
pub(crate) async fn journal_by_key(pool: &Pool) -> HashMap<String, Vec<i64>> {
    let mut by_key: HashMap<String, Vec<i64>> = HashMap::new();
    for (key, n) in journal(pool).await {
        by_key.entry(key).or_default().push(n);
    }
    by_key
}

/// A group of toys on a database of its own, without a broker.
pub(crate) struct ToyShop {
    pub(crate) group: Arc<Group>,
    pub(crate) toys: Arc<Toys>,
    pub(crate) database: Database,
}

impl ToyShop {
    pub(crate) async fn open() -> Self {
        Self::open_with(ladder()).await
    }

    pub(crate) async fn open_with(ladder: Ladder) -> Self {
        let (database, toys) = (database().await, Toys::new());
        let group = Group::new(database.pool.clone(), toys.subscriptions(Service::Order), ladder);
        Self { group: Arc::new(group), toys, database }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.database.pool
    }

    pub(crate) async fn deliver(&self, records: &[Record]) -> Delivered {
        self.group.deliver(records).await.expect("the database answers")
    }

    pub(crate) async fn try_to_deliver(&self, records: &[Record]) -> Result<Delivered, Stalled> {
        self.group.deliver(records).await
    }

    pub(crate) async fn journal(&self) -> Vec<(String, i64)> {
        journal(self.pool()).await
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        count(self.pool(), sql).await
    }

    /// The state of the event in the inbox, if it is known.
    pub(crate) async fn state(&self, id: EventId) -> Option<String> {
        let client = self.pool().get().await.expect("a connection");
        let row = client.query_opt("SELECT state FROM inbox WHERE event_id = $1", &[&id.uuid()]).await;
        row.expect("the inbox").map(|row| row.get(0))
    }

    /// What was published.
    pub(crate) async fn outbox(&self) -> Vec<Sent> {
        let client = self.pool().get().await.expect("a connection");
        let sql = "SELECT topic, key, payload, traceparent, parent_span FROM outbox
                   WHERE header_names IS NULL ORDER BY id";
        let rows = client.query(sql, &[]).await.expect("the outbox");
        let read = |row: &tokio_postgres::Row| Sent {
            topic: row.get(0),
            key: row.get(1),
            payload: row.get(2),
            traceparent: row.get(3),
            parent_span: row.get(4),
        };
        rows.iter().map(read).collect()
    }

    /// What is on its way to the group's own topics, as it will lie there.
    pub(crate) async fn forwarded(&self) -> Vec<Record> {
        let client = self.pool().get().await.expect("a connection");
        let sql = "SELECT topic, id, key, payload, header_names, header_values FROM outbox
                   WHERE header_names IS NOT NULL ORDER BY id";
        let rows = client.query(sql, &[]).await.expect("the outbox");
        let read = |row: &tokio_postgres::Row| Record {
            topic: row.get(0),
            partition: 0,
            offset: row.get(1),
            timestamp: None,
            key: row.get(2),
            value: row.get(3),
            headers: row.get::<_, Vec<String>>(4).into_iter().zip(row.get::<_, Vec<Vec<u8>>>(5)).collect(),
        };
        rows.iter().map(read).collect()
    }

    /// The same, and it is relayed: it lies in the outbox no more.
    pub(crate) async fn relay(&self) -> Vec<Record> {
        let records = self.forwarded().await;
        let ids: Vec<i64> = records.iter().map(|record| record.offset).collect();
        let client = self.pool().get().await.expect("a connection");
        client.execute("DELETE FROM outbox WHERE id = ANY($1)", &[&ids]).await.expect("the outbox");
        records
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        dead_letters(self.pool()).await
    }
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) traceparent: Option<String>,
    pub(crate) parent_span: Option<String>,
}

/// A row of the dead letters.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) state: String,
    pub(crate) place: (String, i32, i64),
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) event_type: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) key_text: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) class: String,
    pub(crate) message: String,
}

/// All dead letters, in the order of their places.
pub(crate) async fn dead_letters(pool: &Pool) -> Vec<DeadLetter> {
    let client = pool.get().await.expect("a connection");
    let rows = client
        .query(
            "SELECT state, origin_topic, origin_partition, origin_offset, key, payload, header_names, header_values,
                    event_id, event_type, trace_id, key_text, attempts, error_class, error_message
             FROM dead_letters ORDER BY origin_topic, origin_partition, origin_offset",
            &[],
        )
        .await
        .expect("the dead letters");
    let read = |row: &tokio_postgres::Row| DeadLetter {
        state: row.get(0),
        place: (row.get(1), row.get(2), row.get(3)),
        key: row.get(4),
        payload: row.get(5),
        headers: row.get::<_, Vec<String>>(6).into_iter().zip(row.get::<_, Vec<Vec<u8>>>(7)).collect(),
        event_id: row.get(8),
        event_type: row.get(9),
        trace_id: row.get(10),
        key_text: row.get(11),
        attempts: row.get(12),
        class: row.get(13),
        message: row.get(14),
    };
    rows.iter().map(read).collect()
}
