//! One transaction: rows and events that are committed together or not at all.

use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use chrono::{DateTime, SubsecRound, Utc};
use common_events::{EventData, EventId, ReasonCode, Topic, catalogue::Retention, envelope};
use deadpool_postgres::Client;
use futures::FutureExt;
use service_runtime::telemetry;
use tokio_postgres::{Row, types::ToSql};
use uuid::{ContextV7, Timestamp, Uuid};

use crate::{
    event::Draft,
    failure::{Failure, Transient},
    faults::Side,
    outbox::{self, OutboxRow},
    relay,
};

/// The largest event, envelope included. Kafka refuses a record above 1 MiB; an event that large is
/// refused where it is written, not found stuck in the outbox.
pub const MAX_EVENT_BYTES: usize = 900 * 1024;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
type AfterCommit = Box<dyn FnOnce() + Send>;

/// An open transaction of a service's own database. Statements are prepared once per connection.
///
/// Nothing is awaited in it but the database; queries run one after the other. Only what needs no answer
/// before the next statement is pipelined: BEGIN with the first statement, and the outbox rows with COMMIT
/// (a round trip costs more than most statements here).
pub struct Tx<'t> {
    /// Borrowed mutably when it was opened: nobody else speaks on it.
    client: &'t Client,
    open: bool,
    now: DateTime<Utc>,
    ids: Mutex<ContextV7>,
    unwritten: Mutex<Unwritten>,
    /// COMMIT of a transaction in which a statement failed rolls back, and reports no error.
    may_be_aborted: AtomicBool,
}

#[derive(Default)]
struct Unwritten {
    rows: Vec<OutboxRow>,
    after_commit: Vec<AfterCommit>,
    came_too_late: Option<ReasonCode>,
}

/// What would have been published, had the transaction been committed.
pub(crate) struct Foretold {
    pub(crate) published: Vec<(Topic, Vec<u8>)>,
    pub(crate) came_too_late: Option<ReasonCode>,
}

impl<'t> Tx<'t> {
    /// Opens a transaction on `client`.
    ///
    /// # Errors
    /// When the database can't be asked.
    #[expect(clippy::unused_async, reason = "whether opening waits for an answer is nobody's business")]
    pub async fn begin(client: &'t mut Client) -> Result<Self, tokio_postgres::Error> {
        let client: &'t Client = client;
        // Sent, not awaited: it can only fail with the connection, and then so does what follows.
        if let Some(sent) = client.batch_execute("BEGIN").now_or_never() {
            sent?;
        }
        Ok(Self {
            client,
            open: true,
            now: Utc::now().trunc_subsecs(6),
            // An id's first digits are milliseconds; the microseconds are in the next ones.
            ids: Mutex::new(ContextV7::new().with_additional_precision()),
            unwritten: Mutex::default(),
            may_be_aborted: AtomicBool::new(false),
        })
    }

    /// From here on it waits for no lock for long.
    pub(crate) async fn wait_briefly(&self) -> Result<(), tokio_postgres::Error> {
        self.execute("SET LOCAL lock_timeout = '500ms'", &[]).await.map(drop)
    }

    /// The moment this transaction began, to the microsecond: the time of the events published in it.
    pub const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// An id of that moment, so that what is sorted by its id is sorted by its time. Those of one transaction are in
    /// the order in which they were made.
    pub fn new_id(&self) -> Uuid {
        let seconds = u64::try_from(self.now.timestamp()).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(&self.ids, seconds, self.now.timestamp_subsec_nanos()))
    }

    /// Runs a query.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.watch(async { self.client.query(&self.client.prepare_cached(sql).await?, params).await }).await
    }

    /// Runs a query for at most one row.
    ///
    /// # Errors
    /// What the database answers, and when there are several rows.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, tokio_postgres::Error> {
        self.watch(async { self.client.query_opt(&self.client.prepare_cached(sql).await?, params).await }).await
    }

    /// Runs a query for exactly one row.
    ///
    /// # Errors
    /// What the database answers, and when there isn't exactly one row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, tokio_postgres::Error> {
        self.watch(async { self.client.query_one(&self.client.prepare_cached(sql).await?, params).await }).await
    }

    /// Runs a statement; returns how many rows it touched.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, tokio_postgres::Error> {
        self.watch(async { self.client.execute(&self.client.prepare_cached(sql).await?, params).await }).await
    }

    /// Publishes an event with this transaction: it is on its way if and only if the transaction commits.
    ///
    /// # Errors
    /// When the event is larger than [`MAX_EVENT_BYTES`].
    pub fn publish<D: EventData>(&self, draft: Draft<D>) -> Result<EventId, Failure> {
        let parent = draft.cause.parent;
        let event = envelope::Event {
            id: EventId::new(self.new_id()),
            time: self.now,
            subject: draft.data.key().into_owned(),
            trace: telemetry::child_of(parent),
            data: draft.data,
        };
        let payload = envelope::encode(&event).map_err(|error| Transient::new("encode", error))?;
        if payload.len() > MAX_EVENT_BYTES {
            let message = format!("a {} of {} bytes, at most {MAX_EVENT_BYTES}", D::TOPIC, payload.len());
            return Err(Transient::new("oversized-event", message).into());
        }
        let row = OutboxRow {
            topic: D::TOPIC,
            key: event.subject.into_bytes(),
            payload,
            trace: event.trace,
            parent: Some(parent.span_id),
            compacted: D::TOPIC.spec().retention == Retention::Compacted,
            cause: draft.cause.event,
        };
        self.unwritten().rows.push(row);
        Ok(event.id)
    }

    /// Runs `then` once the transaction is committed, in this process only: a hint for waiters, never
    /// the only way something gets done.
    pub fn after_commit(&self, then: impl FnOnce() + Send + 'static) {
        self.unwritten().after_commit.push(Box::new(then));
    }

    /// A handler says that an event came too late for this reason: it is noted at most, and nothing comes of
    /// it. Operators see it when they ask what a replay would do.
    pub fn came_too_late(&self, because: ReasonCode) {
        self.unwritten().came_too_late = Some(because);
    }

    /// What was published since this was asked last; it never will be.
    pub(crate) fn forget_published(&self) -> Foretold {
        let Unwritten { rows, came_too_late, .. } = std::mem::take(&mut *self.unwritten());
        Foretold { published: rows.into_iter().map(|row| (row.topic, row.payload)).collect(), came_too_late }
    }

    /// Writes the published events and commits.
    ///
    /// # Errors
    /// What the database answers, also when a statement failed before and the caller overlooked it. An
    /// error of the commit itself leaves open whether it happened.
    pub async fn commit(self) -> Result<(), tokio_postgres::Error> {
        self.commit_unless(|_| Ok(())).await
    }

    /// The same, unless the process is to seem dead: with everything written, and none of it committed, or committed, and
    /// nobody told.
    pub(crate) async fn commit_unless<E: From<tokio_postgres::Error>>(
        mut self,
        dies: impl Fn(Side) -> Result<(), E>,
    ) -> Result<(), E> {
        let Unwritten { rows, after_commit, came_too_late: _ } = std::mem::take(&mut *self.unwritten());
        if let Err(death) = dies(Side::Before) {
            let insert = outbox::prepare_insert(self.client).await?;
            outbox::insert(self.client, &insert, &rows).await?;
            return Err(death);
        }
        if rows.is_empty() {
            // What is refused in an aborted transaction keeps COMMIT from being run at all; an insert of rows does
            // the same by itself.
            let may_be_aborted = self.may_be_aborted.load(Ordering::Relaxed);
            self.client.batch_execute(if may_be_aborted { "SELECT 1; COMMIT" } else { "COMMIT" }).await?;
        } else {
            let insert = outbox::prepare_insert(self.client).await?;
            let mut inserting = pin!(outbox::insert(self.client, &insert, &rows));
            // The first poll sends the rows, or fails before they are sent; then there is nothing to commit.
            if let Poll::Ready(early) = futures::poll!(inserting.as_mut()) {
                early?;
                self.client.batch_execute("COMMIT").await?;
            } else {
                // Sent behind the rows; when they are refused, it rolls back.
                let (inserted, committed) = futures::join!(inserting, self.client.batch_execute("COMMIT"));
                inserted?;
                committed?;
            }
        }
        self.open = false;
        dies(Side::After)?;
        if !rows.is_empty() {
            outbox::count_written(&rows);
            relay::hint();
        }
        for then in after_commit {
            then();
        }
        Ok(())
    }

    /// Gives everything up.
    ///
    /// # Errors
    /// What the database answers; the transaction is gone all the same.
    pub async fn rollback(mut self) -> Result<(), tokio_postgres::Error> {
        self.open = false;
        self.client.batch_execute("ROLLBACK").await
    }

    /// Commits what went well. Of what didn't, nothing is left: when this returns, its locks are free, too,
    /// and who is refused may ask again at once.
    ///
    /// # Errors
    /// The outcome's, else what the database answers to the commit.
    pub async fn end<T, E: From<tokio_postgres::Error>>(self, outcome: Result<T, E>) -> Result<T, E> {
        match outcome {
            Ok(done) => {
                self.commit().await?;
                Ok(done)
            }
            Err(refused) => {
                // Without an answer the connection is gone, and the transaction with it.
                let _ = self.rollback().await;
                Err(refused)
            }
        }
    }

    /// The connection within this transaction, for what takes one. What fails on it is known to [`Tx::commit`],
    /// too, which asks.
    pub fn transaction(&self) -> &Client {
        self.may_be_aborted.store(true, Ordering::Relaxed);
        self.client
    }

    /// From before a statement is sent until it went well: its caller may give it up half way.
    async fn watch<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let before = self.may_be_aborted.swap(true, Ordering::Relaxed);
        let answer = statement.await?;
        self.may_be_aborted.store(before, Ordering::Relaxed);
        Ok(answer)
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A transaction that was neither committed nor rolled back is rolled back before the connection's next
/// statement.
impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.open {
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}
