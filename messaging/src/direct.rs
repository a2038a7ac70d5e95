//! Publishing without an outbox, for who can't wait for a transaction: only coupon admissions (docs/decisions/0013).
//!
//! What Kafka acknowledges (`acks=all`) is published. What it doesn't, within the produce timeout, is
//! *diverted*: kept as a producer dead letter, on the cluster of `DEAD_LETTER_BROKERS` if there is one,
//! else in `producer_dead_letters`. Both are kept: [`Kept`] says which. [`NotKept`] says whether the event
//! can still turn up.
//!
//! | who | does |
//! |---|---|
//! | [`Publisher`] | decides which road an event takes, and tells its caller what became of it |
//! | `diversion` | writes what Kafka didn't take, in the order in which it was published |
//! | `second_cluster` | holds it on another cluster, and brings it from there into the table |
//! | `backlog` | moves it on to the outbox once Kafka answers, in order, and opens the direct road again |
//!
//! While a topic has a backlog, new events queue behind it: they are diverted at once. The last ones wait a
//! moment, so that the direct road can be opened behind it.

mod backlog;
mod diversion;
mod http;
mod reports;
mod road;
mod second_cluster;
mod store;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use anyhow::Context;
pub use http::routes;

use common_events::{
    EventData, Topic, TraceParent,
    envelope::{self, CONTENT_TYPE, TRACEPARENT},
    trace::SpanId,
};
use futures::FutureExt;
use rdkafka::message::{Header, OwnedHeaders};
use service_runtime::{
    Runtime, Tasks,
    database::Pool,
    tasks::blocking,
    telemetry::{self, Span, SpanKind},
};

use crate::{MAX_EVENT_BYTES, figures, topics::Names};
use reports::Letter;
use road::Road;
use second_cluster::SecondCluster;

/// `PRODUCE_TIMEOUT`: how long Kafka may take for an event before it is diverted.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(3);
/// librdkafka looks for messages that took too long about once a second, so one may take that much longer.
const TIMEOUT_SCAN: Duration = Duration::from_secs(1);
const PRODUCE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// How long the database may take for dead letters, until their outcome counts as unknown.
const DIVERSION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stop waits for acknowledgements.
const LAST_ACKS: Duration = Duration::from_secs(3);

/// Where an event is that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// On its topic, on every replica in sync.
    OnTopic,
    /// Among the producer dead letters, from where it goes to its topic.
    AsDeadLetter,
}

/// Why an event isn't certain to arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It was given to nobody: it will never turn up.
    #[error("never sent: {0}")]
    NeverSent(String),
    /// It may be on its topic, or among the dead letters, or nowhere. Publish it again, with the same id
    /// and time.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Publishes the events of one topic. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Publisher {
    road: Arc<Road>,
    second: Option<Arc<SecondCluster>>,
    topic: Topic,
    full_topic: Arc<str>,
    pool: Pool,
    timeout: Duration,
    tasks: Tasks,
}

impl Publisher {
    /// A publisher of `D`, and the tasks that take care of what Kafka doesn't take.
    ///
    /// # Errors
    /// When a setting is wrong, or the backlog can't be looked at.
    pub async fn start<D: EventData>(runtime: &Runtime, pool: Pool) -> anyhow::Result<Self> {
        figures::describe();
        let names = Names::with_prefix(runtime.settings.kafka.topic_prefix.clone());
        let timeout = runtime.env.between("PRODUCE_TIMEOUT", PRODUCE_TIMEOUT, PRODUCE_TIMEOUTS)?;
        let (road, diverted) = Road::open(&runtime.settings.kafka, timeout).context("a producer for admissions")?;
        let road = Arc::new(road);
        // Requests under way publish until they are answered.
        let tasks = runtime.tasks.group();
        let second = SecondCluster::of(runtime, &names)?.map(Arc::new);
        if let Some(second) = &second {
            Arc::clone(second).collect(D::TOPIC, pool.clone(), &tasks);
        }
        let full_topic: Arc<str> = names.topic(D::TOPIC.name()).into();
        let backlog = backlog::Backlog {
            topic: D::TOPIC,
            full_topic: Arc::clone(&full_topic),
            pool: pool.clone(),
            kafka: runtime.settings.kafka.clone(),
            road: Arc::clone(&road),
            second: second.clone(),
            answered: None,
            gave_up: None,
            forgot: None,
        };
        backlog.look().await.context("looking for producer dead letters")?;
        backlog.work_off(&tasks);
        let diversion = diversion::Diversion {
            topic: D::TOPIC,
            pool: pool.clone(),
            road: Arc::clone(&road),
            second: second.clone(),
            at_most: DIVERSION_TIMEOUT,
        };
        tasks.run("diversion", diversion.run(diverted, tasks.stopping().clone()).boxed());
        let (warming, topic) = (Arc::clone(&road), Arc::clone(&full_topic));
        tasks.once("first-metadata", blocking(move || warming.learn(&topic)).boxed());
        Ok(Self { road, second, topic: D::TOPIC, full_topic, pool, timeout, tasks })
    }

    /// Publishes the event as it is. `parent` is the span that publishes it for the first time; the event's
    /// own trace names the span of the publication. Who gives up waiting doesn't
    /// learn the outcome, which is counted all the same.
    ///
    /// # Errors
    /// See [`NotKept`].
    pub async fn publish<D: EventData>(
        &self,
        event: &envelope::Event<D>,
        parent: Option<SpanId>,
    ) -> Result<Kept, NotKept> {
        let payload = envelope::encode(event).map_err(|error| NotKept::NeverSent(error.to_string()))?;
        if payload.len() > MAX_EVENT_BYTES {
            return Err(NotKept::NeverSent(format!("{} bytes, at most {MAX_EVENT_BYTES}", payload.len())));
        }
        let start = std::time::SystemTime::now();
        let letter = Letter {
            event_id: event.id,
            key: event.subject.clone().into_bytes(),
            payload,
            traceparent: event.trace.to_string(),
        };
        let outcome = self.road.take(D::TOPIC, &self.full_topic, letter).await;
        if let Some(parent) = parent {
            tell(D::TOPIC.name(), event.trace, parent, start, &outcome);
        }
        outcome
    }

    /// The longest that [`Publisher::publish`] takes. What was handed over longer ago was either kept, or
    /// its caller was told that it wasn't.
    pub fn longest(&self) -> Duration {
        let second = self.second.as_ref().map_or(Duration::ZERO, |_| second_cluster::PRODUCE_TIMEOUT + TIMEOUT_SCAN);
        road::OPENING_AT_MOST + self.timeout + TIMEOUT_SCAN + second + DIVERSION_TIMEOUT
    }

    /// Whether nothing of this topic waits among the producer dead letters of any process.
    ///
    /// # Errors
    /// When the database or the second cluster can't be asked.
    pub async fn has_no_backlog(&self) -> anyhow::Result<bool> {
        if let Some(second) = &self.second
            && Arc::clone(second).unread().await? > 0
        {
            return Ok(false);
        }
        let client = self.pool.get().await?;
        let none = store::count_backlog(&client, self.topic).await? == store::Counts::default();
        Ok(none && self.road.turned().is_some())
    }

    /// Waits for what is under way, and ends the tasks.
    ///
    /// # Errors
    /// When one of them had ended by itself.
    pub async fn stop(self) -> anyhow::Result<()> {
        let road = Arc::clone(&self.road);
        if let Err(error) = blocking(move || road.end(LAST_ACKS)).await {
            tracing::warn!(%error, "not every publication was acknowledged before the stop");
        }
        Ok(self.tasks.stop().await?)
    }
}

/// The publication's span lasts until the ack.
fn tell(
    topic: &'static str,
    me: TraceParent,
    parent: SpanId,
    start: std::time::SystemTime,
    outcome: &Result<Kept, NotKept>,
) {
    if telemetry::is_recorded(me) {
        telemetry::record(Span {
            name: format!("publish {topic}").into(),
            kind: SpanKind::Producer,
            me,
            parent: Some(parent),
            start,
            end: std::time::SystemTime::now(),
            tags: vec![("messaging.system", "kafka".into())],
            error: outcome.as_ref().err().map(ToString::to_string),
        });
    }
}

/// What every record of an event says beside its value.
fn headers(traceparent: &str) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(2)
        .insert(Header { key: "content-type", value: Some(CONTENT_TYPE) })
        .insert(Header { key: TRACEPARENT, value: Some(traceparent) })
}
