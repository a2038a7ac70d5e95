//! The seam: records go in, effects and answers come out, once (DESIGN §4, Consuming and Failing).
//!
//! A batch is one transaction: (1) its ids go into the inbox, and only new ones go on; (2) handlers do
//! their work; (3) what they published goes into the outbox; (4) COMMIT. Whoever called moves his
//! offsets after that, never before. A batch that fails is halved, in offset order, until the one
//! record that can't be handled stands alone.

mod attempt;

use std::{collections::BTreeSet, error::Error, time::Duration};

use chrono::{NaiveDate, Utc};
use metrics::counter;
use service_runtime::{chain, database::Pool};
use tracing::{error, warn};

use crate::{
    dead_letters::{self, Death},
    failure::Failure,
    inbox::{self, Arrival},
    partitions::{self, Days},
    record::Record,
    subscriptions::{Decoded, Hearing, Subscriptions},
    tx::Tx,
};

/// The pause before the second immediate attempt; each further one is twice as long, up to a limit.
const FIRST_IMMEDIATE_DELAY: Duration = Duration::from_millis(100);
const LONGEST_IMMEDIATE_DELAY: Duration = Duration::from_secs(2);
/// How often a batch that lost a deadlock or a serialization race is tried again at once; then the
/// partition waits, as it is nobody's fault.
const MAX_CONFLICTS: u32 = 20;

/// A consumer group and what it needs to apply events: its subscriptions and its own database.
pub struct Group {
    pool: Pool,
    subscriptions: Subscriptions,
    immediate_attempts: u32,
    days: Days,
}

/// What became of delivered records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Handled now.
    pub applied: usize,
    /// Handled before, or set aside before.
    pub duplicates: usize,
    /// Set aside as dead letters.
    pub dead: usize,
    /// Asked for by `x-resume`, and answered again from the kept answers.
    pub resumed: usize,
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, more: Self) {
        self.applied += more.applied;
        self.duplicates += more.duplicates;
        self.dead += more.dead;
        self.resumed += more.resumed;
    }
}

/// The service's own database is away: not the message's fault, so the partition waits and nothing is
/// counted. What was delivered before in the same call stays delivered, and is found out by its id.
#[derive(Debug, thiserror::Error)]
#[error("the service's own database is away")]
pub struct Stalled(#[source] Box<dyn Error + Send + Sync>);

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
struct Heard<'r> {
    record: &'r Record,
    reading: Reading<'r>,
}

enum Reading<'r> {
    Event { decoded: Decoded, hearing: &'r dyn Hearing },
    Refused { class: &'static str, message: String },
}

impl Group {
    /// `immediate_attempts`: how often a record is tried in place before it is set aside (at least once).
    pub fn new(pool: Pool, subscriptions: Subscriptions, immediate_attempts: u32) -> Self {
        Self { pool, subscriptions, immediate_attempts: immediate_attempts.max(1), days: Days::default() }
    }

    /// Who hears what.
    pub const fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Applies records of one partition, in their order, each event once. When it returns, every record
    /// is applied, known already, or set aside.
    ///
    /// # Errors
    /// [`Stalled`] when the group's database is away; deliver the same records again later.
    pub async fn deliver(&self, records: &[Record]) -> Result<Delivered, Stalled> {
        let heard: Vec<Heard<'_>> = records.iter().map(|record| self.hear(record)).collect();
        let days: BTreeSet<NaiveDate> = heard.iter().filter_map(|heard| Some(heard.arrival()?.day)).collect();
        self.days.ensure(&self.pool, &days).await?;
        let delivered = self.apply_all(&heard).await;
        if delivered.is_err() {
            // Whatever comes back may be another machine, without the partitions of today.
            self.days.forget_known();
        }
        delivered
    }

    async fn apply_all(&self, heard: &[Heard<'_>]) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        let mut conflicts = 0;
        let mut waiting = vec![heard];
        while let Some(part) = waiting.pop() {
            match self.attempt(part).await? {
                Ok(done) => delivered += done,
                Err(failure) if failure.is_conflict() && conflicts == MAX_CONFLICTS => {
                    return Err(Stalled(chain(&failure).into()));
                }
                Err(failure) if failure.is_conflict() => {
                    conflicts += 1;
                    counter!("event_conflicts_total").increment(1);
                    waiting.push(part);
                }
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(failure) => delivered += self.try_again(part, failure).await?,
            }
        }
        Ok(delivered)
    }

    /// Drops what is remembered of events past the maximum age. Returns how many day partitions went.
    ///
    /// # Errors
    /// [`Stalled`] when the group's database is away.
    pub async fn forget_old(&self) -> Result<usize, Stalled> {
        self.days.drop_old(&self.pool).await
    }

    /// Whether the group's database answers.
    ///
    /// # Errors
    /// [`Stalled`] when it doesn't.
    pub async fn probe(&self) -> Result<(), Stalled> {
        let client = self.pool.get().await?;
        client.simple_query("SELECT 1").await?;
        Ok(())
    }

    fn hear<'r>(&'r self, record: &'r Record) -> Heard<'r> {
        let reading = self.read(record).unwrap_or_else(|(class, message)| Reading::Refused { class, message });
        Heard { record, reading }
    }

    fn read<'r>(&'r self, record: &'r Record) -> Result<Reading<'r>, (&'static str, String)> {
        let topic = record.event_topic();
        let hearing = self
            .subscriptions
            .hearing(topic)
            .ok_or_else(|| ("unknown-topic", format!("{} hears no {topic}", self.subscriptions.group())))?;
        let value = record.value.as_deref().ok_or_else(|| ("undecodable", "a record without a value".to_owned()))?;
        let decoded = hearing.decode(value).map_err(|error| ("undecodable", chain(&error)))?;
        match decoded.day {
            Some(day) if !partitions::is_remembered(day) => {
                Err(("out-of-time", format!("an event of {day}: too old, or from the future")))
            }
            Some(_) | None => Ok(Reading::Event { decoded, hearing }),
        }
    }

    /// The remaining immediate attempts of a record that stands alone; then it is set aside.
    async fn try_again(&self, alone: &[Heard<'_>], first: Failure) -> Result<Delivered, Stalled> {
        let first_failed_at = Utc::now();
        let mut failure = first;
        let mut attempts = 1;
        let mut delay = FIRST_IMMEDIATE_DELAY;
        while matches!(failure, Failure::Transient(_)) && attempts < self.immediate_attempts {
            alone[0].log_failed(self, &failure, attempts);
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LONGEST_IMMEDIATE_DELAY);
            match self.attempt(alone).await? {
                Ok(done) => return Ok(done),
                Err(again) if again.is_conflict() => return Err(Stalled(chain(&again).into())),
                Err(again) => failure = again,
            }
            attempts += 1;
        }
        let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        let death = Death { class: failure.class(), message: chain(&failure), attempts, first_failed_at };
        self.set_aside(&alone[0], &death).await
    }

    async fn set_aside(&self, heard: &Heard<'_>, death: &Death) -> Result<Delivered, Stalled> {
        let mut client = self.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        if let Some(arrival) = heard.arrival()
            && !inbox::mark_dead(&tx, &arrival).await?
        {
            return Ok(Delivered { duplicates: 1, ..Delivered::default() });
        }
        dead_letters::insert(&tx, heard.record, death).await?;
        tx.commit().await?;
        heard.log_dead(self, death.class, &death.message);
        Ok(Delivered { dead: 1, ..Delivered::default() })
    }
}

impl Heard<'_> {
    /// What the inbox is to know of it, if anything.
    fn arrival(&self) -> Option<Arrival<'_>> {
        match &self.reading {
            Reading::Event { decoded, .. } => {
                decoded.day.map(|day| Arrival { day, id: decoded.id, record: self.record })
            }
            Reading::Refused { .. } => None,
        }
    }

    /// (event id, trace id), as far as the record could be read.
    fn ids(&self) -> (String, String) {
        match &self.reading {
            Reading::Event { decoded, .. } => (decoded.id.to_string(), decoded.trace.trace_id.to_string()),
            Reading::Refused { .. } => <_>::default(),
        }
    }

    fn log_failed(&self, group: &Group, failure: &Failure, attempts: u32) {
        let (event_id, traceid) = self.ids();
        let (topic, class) = (self.record.event_topic(), failure.class());
        let (group, error) = (group.subscriptions.group().name(), chain(failure));
        warn!(group, topic, event_id, traceid, class, attempts, error, "handling failed, trying again");
        counter!("event_retries_total", "topic" => topic.to_owned(), "class" => class).increment(1);
    }

    fn log_dead(&self, group: &Group, class: &'static str, message: &str) {
        let (event_id, trace_id) = self.ids();
        let topic = self.record.event_topic();
        error!(
            group = group.subscriptions.group().name(),
            topic,
            partition = self.record.partition,
            offset = self.record.offset,
            event_id,
            traceid = trace_id,
            class,
            message,
            "a record is set aside as a dead letter"
        );
        counter!("events_dead_total", "topic" => topic.to_owned(), "class" => class).increment(1);
    }
}
