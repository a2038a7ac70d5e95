//! The seam: records go in, effects and answers come out, once (ARCHITECTURE.md, "The life of an order").
//!
//! A batch is one transaction: (1) its ids go into the inbox, and only new ones go on ([`admission`]); (2)
//! handlers do their work; (3) what they published goes into the outbox; (4) COMMIT. Whoever called moves his
//! offsets after that, never before. A batch that fails is halved, in offset order, until the records that
//! can't be handled stand alone ([`passes`]); those go up the [`ladder`](crate::ladder).

mod admission;
mod attempt;
mod clock;
mod due;
mod notices;
mod passes;
mod rehearsal;
mod remote;

use std::{collections::BTreeSet, error::Error, sync::Arc};

use chrono::{DateTime, NaiveDate, Utc};
use common_events::{
    EventId,
    envelope::{self, DecodeError},
};
pub use due::Due;
use futures::{FutureExt, future::BoxFuture};
pub(crate) use rehearsal::{Effects, Rehearsed};
use service_runtime::{
    chain,
    database::{Pool, is_lock_wait},
};
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::{
    dead_letters,
    faults::{Death, Faults},
    inbox::{self, Arrival},
    ladder::{Alarm, Came, Ladder, OwnTopic},
    partitions::Days,
    record::Record,
    subscriptions::{Decoded, Hearing, Order, Subscriptions},
};

/// The longest key, in bytes, that an order is kept by: ours are shorter, and an index of the database takes
/// little more.
const MAX_ORDER_KEY_BYTES: usize = 1_024;

/// A consumer group and what it needs to apply events: its subscriptions and its own database.
pub struct Group {
    pub(crate) pool: Pool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) ladder: Ladder,
    pub(crate) clock: clock::Clock,
    pub(crate) alarm: Alarm,
    /// Told when followers of a key may be drained.
    pub(crate) released: Arc<Notify>,
    /// Made to fail on purpose.
    pub(crate) faults: Faults,
    days: Days,
}

/// What became of delivered records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Handled now.
    pub applied: usize,
    /// Handled before, set aside before, or stale.
    pub duplicates: usize,
    /// Failed, and on their way to a retry topic.
    pub retrying: usize,
    /// Kept behind a failed event of their key.
    pub waiting: usize,
    /// Failed on the last rung, and kept for a batch.
    pub parked: usize,
    /// Set aside as dead letters.
    pub dead: usize,
    /// Asked for by `x-resume`, and answered again from the kept answers.
    pub resumed: usize,
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, more: Self) {
        self.applied += more.applied;
        self.duplicates += more.duplicates;
        self.retrying += more.retrying;
        self.waiting += more.waiting;
        self.parked += more.parked;
        self.dead += more.dead;
        self.resumed += more.resumed;
    }
}

/// The service's own database, or something else it stands on, is away: not the message's fault, so the
/// partition waits and nothing is counted. What was delivered before in the same call stays delivered, and
/// is found out by its id.
#[derive(Debug, thiserror::Error)]
#[error("what the service stands on is away")]
pub struct Stalled(#[source] pub(crate) Box<dyn Error + Send + Sync>);

/// Another member failed events of the same key at the same time.
#[derive(Debug, thiserror::Error)]
#[error("another member blocked the key of a failed event first")]
pub(crate) struct Outrun;

impl Stalled {
    /// Whether nothing is away: somebody switched a fault on, so that the process seems dead.
    pub fn death(&self) -> Option<Death> {
        self.0.downcast_ref().copied()
    }

    /// Whether nothing is away: another member was faster, and what was delivered comes again.
    pub fn was_outrun(&self) -> bool {
        self.0.is::<Outrun>()
    }

    /// Whether nothing is away: somebody holds a row for too long.
    pub(crate) fn is_lock_wait(&self) -> bool {
        self.0.downcast_ref().is_some_and(is_lock_wait)
    }
}

impl From<tokio_postgres::Error> for Stalled {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for Stalled {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self(error.into())
    }
}

/// A record as this group understands it.
pub(crate) struct Heard<'r> {
    pub(crate) record: &'r Record,
    pub(crate) came: Came,
    pub(crate) history: History,
    pub(crate) reading: Reading<'r>,
}

/// What is known of it from before this delivery.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct History {
    pub(crate) attempts: u32,
    pub(crate) first_failed_at: Option<DateTime<Utc>>,
    /// Its row in the inbox, if it has one: also when it can't be read any more.
    pub(crate) identity: Option<(NaiveDate, EventId)>,
}

pub(crate) enum Reading<'r> {
    Event { decoded: Decoded, hearing: &'r dyn Hearing },
    Refused { class: &'static str, message: String },
}

impl Group {
    /// A group whose failed events climb this ladder.
    pub fn new(pool: Pool, subscriptions: Subscriptions, ladder: Ladder) -> Self {
        let ladder = Ladder { immediate: ladder.immediate.max(1), ..ladder };
        let (clock, days, faults) = <_>::default();
        Self { pool, subscriptions, ladder, clock, alarm: Alarm::silent(), released: Arc::default(), faults, days }
    }

    /// Dead letters are told to whoever listens there.
    #[must_use]
    pub fn with_alarm(self, alarm: Alarm) -> Self {
        Self { alarm, ..self }
    }

    /// Who hears what.
    pub const fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Applies records of one partition, in their order, each event once. When it returns, every record
    /// is applied, known already, on the ladder, or kept behind an event that is.
    ///
    /// # Errors
    /// [`Stalled`] when what the group stands on is away; deliver the same records again later.
    pub fn deliver<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Delivered, Stalled>> {
        // Boxed: an async function is compiled where it is awaited, so in every program and test that delivers.
        self.deliver_in_order(records).boxed()
    }

    async fn deliver_in_order(&self, records: &[Record]) -> Result<Delivered, Stalled> {
        if let Some(outcome) = self.subscriptions.raw.deliver(records).await {
            return outcome;
        }
        let today = self.clock.now(&self.pool).await?.date_naive();
        let mut delivered = Delivered::default();
        let is_notice = |record: &Record| self.own_topic(record) == Some(OwnTopic::Dlt);
        for run in records.chunk_by(|one, next| is_notice(one) == is_notice(next)) {
            let mut heard: Vec<Heard<'_>> = run.iter().map(|record| self.hear(record, today)).collect();
            self.recall(&mut heard).await?;
            let days: BTreeSet<NaiveDate> = heard.iter().filter_map(|heard| heard.event()?.day).collect();
            self.days.ensure(&self.pool, &days).await?;
            let outcome = if is_notice(&run[0]) { self.keep_notices(&heard).await } else { self.work(&heard).await };
            if outcome.is_err() {
                // Whatever comes back may be another machine, without the partitions of today.
                self.days.forget_known();
            }
            delivered += outcome?;
        }
        Ok(delivered)
    }

    /// Nothing for this group lies before that offset any more, whose topic is without the suite's prefix.
    ///
    /// # Errors
    /// [`Stalled`] when what the group stands on is away; say it again later.
    pub fn note_position<'a>(
        &'a self,
        topic: &'a str,
        partition: i32,
        next_offset: i64,
    ) -> BoxFuture<'a, Result<(), Stalled>> {
        self.subscriptions.raw.pass(topic, partition, next_offset).boxed()
    }

    /// How much of this group is set aside: keys that are waited for, events that wait, parked events, dead letters.
    pub(crate) async fn count_set_aside(&self) -> Result<[i64; 4], Stalled> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(
                "SELECT (SELECT count(*) FROM waiting_keys), (SELECT count(*) FROM waiting_events),
                        (SELECT count(*) FROM dead_letters WHERE state = 'PARKED'),
                        (SELECT count(*) FROM dead_letters WHERE state = 'DEAD')",
            )
            .await?;
        let row = client.query_one(&statement, &[]).await?;
        Ok([0, 1, 2, 3].map(|column| row.get(column)))
    }

    /// What waits in the outbox: by topic, how many rows, and for how many seconds the oldest has.
    pub(crate) async fn count_outbox(&self) -> Result<Vec<(String, i64, f64)>, Stalled> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(
                "SELECT topic, count(*), extract(epoch FROM clock_timestamp() - min(written_at))::float8
                 FROM outbox GROUP BY topic",
            )
            .await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Drops what is remembered of events past the maximum age, and makes room for tomorrow's. Returns how many day
    /// partitions went.
    ///
    /// # Errors
    /// [`Stalled`] when the group's database is away.
    pub async fn forget_old(&self) -> Result<usize, Stalled> {
        let today = self.clock.now(&self.pool).await?.date_naive();
        self.days.ensure(&self.pool, &BTreeSet::from([today, today + chrono::Days::new(1)])).await?;
        self.days.drop_old(&self.pool, today).await
    }

    /// Closes dead letters of what could not be read and was applied since. Returns how many.
    ///
    /// # Errors
    /// [`Stalled`] when the group's database is away.
    pub async fn close_applied(&self) -> Result<u64, Stalled> {
        Ok(dead_letters::close_applied(&self.pool.get().await?).await?)
    }

    /// Whether everything that handlers stand on is there: the group's database, and what it said besides.
    ///
    /// # Errors
    /// [`Stalled`] when something isn't.
    pub async fn probe(&self) -> Result<(), Stalled> {
        let client = self.pool.get().await?;
        client.simple_query("SELECT 1").await?;
        drop(client);
        match self.subscriptions.missing().await {
            Some(missing) => Err(Stalled(format!("{missing} doesn't answer").into())),
            None => Ok(()),
        }
    }

    pub(crate) fn own_topic(&self, record: &Record) -> Option<OwnTopic> {
        OwnTopic::of(self.subscriptions.group(), &record.topic)
    }

    pub(crate) fn hear<'r>(&'r self, record: &'r Record, today: NaiveDate) -> Heard<'r> {
        let came = match (self.own_topic(record), record.hop()) {
            (Some(over), Some(number)) => Came::Hop { over, number },
            (Some(_), None) => Came::Asked,
            (None, _) => Came::First,
        };
        let history = match came {
            Came::Hop { .. } => History {
                attempts: record.attempts(),
                first_failed_at: record.first_failed_at(),
                identity: record.peek_identity(),
            },
            Came::First | Came::Asked | Came::Parked { .. } | Came::Waiting => History::default(),
        };
        self.hear_as(record, today, came, history)
    }

    /// Of an event that went up the ladder, and whose topic is unknown by now, this database knows the day.
    async fn recall(&self, heard: &mut [Heard<'_>]) -> Result<(), Stalled> {
        let is_of_unknown =
            |heard: &&mut Heard<'_>| matches!(heard.came, Came::Hop { number: 1.., .. }) && heard.identity().is_none();
        let of_unknown: Vec<(EventId, &mut Heard<'_>)> = heard
            .iter_mut()
            .filter(is_of_unknown)
            .filter_map(|heard| Some((envelope::peek(heard.record.value.as_deref()?).id?, heard)))
            .collect();
        if of_unknown.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = of_unknown.iter().map(|(id, _)| *id).collect();
        let days = inbox::find_days(&self.pool.get().await?, &ids).await?;
        for (id, heard) in of_unknown {
            heard.history.identity = days.get(&id).map(|day| (*day, id));
        }
        Ok(())
    }

    pub(crate) fn hear_as<'r>(
        &'r self,
        record: &'r Record,
        today: NaiveDate,
        came: Came,
        history: History,
    ) -> Heard<'r> {
        let reading = self.read(record, today).unwrap_or_else(|(class, message)| Reading::Refused { class, message });
        Heard { record, came, history, reading }
    }

    fn read<'r>(&'r self, record: &'r Record, today: NaiveDate) -> Result<Reading<'r>, (&'static str, String)> {
        let topic = record.event_topic();
        let hearing = self.subscriptions.hearing(topic).ok_or_else(|| {
            ("unknown-topic", format!("{} hears no {}", self.subscriptions.group(), record.origin().0))
        })?;
        let value = record.value.as_deref().ok_or_else(|| ("undecodable", "a record without a value".to_owned()))?;
        let decoded = hearing.decode(value).map_err(|error| (class_of(&error), chain(&error)))?;
        match decoded.day {
            Some(day) if !crate::partitions::is_remembered(day, today) => {
                Err((OUT_OF_TIME, format!("an event of {day}, seen on {today}: too old, or from the future")))
            }
            Some(_) | None => Ok(Reading::Event { decoded, hearing }),
        }
    }
}

/// The error class of what a later release reads.
pub(crate) const NEWER_VERSION: &str = "newer-version";
/// The error class of what is older than events are remembered, or from the future.
pub(crate) const OUT_OF_TIME: &str = "out-of-time";

/// What can be read once this service is deployed anew is told apart: it is to be replayed then.
const fn class_of(error: &DecodeError) -> &'static str {
    if error.is_of_newer() { NEWER_VERSION } else { "undecodable" }
}

impl<'r> Heard<'r> {
    pub(crate) fn event(&self) -> Option<&Decoded> {
        match &self.reading {
            Reading::Event { decoded, .. } => Some(decoded),
            Reading::Refused { .. } => None,
        }
    }

    /// An event and its row in the inbox, or what would be: that of its day, or a standing one.
    pub(crate) fn arrival(&self) -> Option<Arrival<'r>> {
        let decoded = self.event()?;
        Some(Arrival { day: decoded.day.unwrap_or(inbox::STANDING), id: decoded.id, record: self.record })
    }

    /// The same for what was an event once, and can't be read any more. Of what could never be read, the id
    /// is not to be trusted.
    pub(crate) fn known_arrival(&self) -> Option<Arrival<'r>> {
        let known = || self.history.identity.map(|(day, id)| Arrival { day, id, record: self.record });
        self.arrival().or_else(known)
    }

    pub(crate) fn identity(&self) -> Option<(NaiveDate, EventId)> {
        self.known_arrival().map(|arrival| (arrival.day, arrival.id))
    }

    /// What its order is kept by, where it is: (topic, key).
    pub(crate) fn order_key(&self) -> Option<(&'r str, &'r [u8])> {
        match &self.reading {
            Reading::Event { hearing, .. } if hearing.order() == Order::PerKey => {
                let key = self.record.key.as_deref().filter(|key| key.len() <= MAX_ORDER_KEY_BYTES)?;
                Some((self.record.event_topic(), key))
            }
            Reading::Event { .. } | Reading::Refused { .. } => None,
        }
    }

    /// (event id, trace id), as far as the record could be read.
    fn ids(&self) -> (String, String) {
        self.event().map(|event| (event.id.to_string(), event.trace.trace_id.to_string())).unwrap_or_default()
    }

    pub(crate) fn log_retried(&self, group: &Group, class: &str, error: &str, attempts: u32) {
        let (event_id, traceid) = self.ids();
        let (group, topic) = (group.subscriptions.group().name(), self.record.event_topic());
        warn!(group, topic, event_id, traceid, class, attempts, error, "handling failed, trying again");
    }

    pub(crate) fn log_moved(&self, group: &Group, to: &str, class: &str, error: &str, attempts: u32) {
        let (event_id, traceid) = self.ids();
        let (group, topic) = (group.subscriptions.group().name(), self.record.event_topic());
        warn!(group, topic, event_id, traceid, class, attempts, error, to, "handling failed, to be tried later");
    }

    pub(crate) fn log_dead(&self, group: &Group, class: &str, message: &str) {
        let (event_id, traceid) = self.ids();
        let (topic, partition, offset) = self.record.origin();
        let group = group.subscriptions.group().name();
        error!(
            group,
            topic, partition, offset, event_id, traceid, class, message, "a record is set aside as a dead letter"
        );
    }
}
