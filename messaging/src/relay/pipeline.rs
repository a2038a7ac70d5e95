//! The way of a row: claimed → produced → acknowledged → deleted, many at a time.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use common_events::{
    TraceParent,
    envelope::{CONTENT_TYPE, TRACEPARENT},
};
use metrics::{counter, gauge, histogram};
use rdkafka::{
    ClientContext, Statistics,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext},
};
use service_runtime::{
    Tasks, health,
    settings::KafkaSettings,
    tasks::{Backoff, blocking},
    telemetry::{self, Span, SpanKind},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Source,
    barred::{Barred, is_refused},
    claim::{self, Room, Row},
    fenced::{Fenced, Generation},
    lease::Lease,
};
use crate::{
    kafka::{self, PolledProducer},
    topics::Names,
};

/// Rows that may be in flight at once: bounds memory, and what a take-over sends twice.
const MAX_IN_FLIGHT: usize = 4_000;
/// The same in bytes of payload, for rows that are large; each lies in memory up to three times on its way.
const MAX_IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;
/// Polling of an outbox that had no more rows the last time: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The first pause where hints come: polling only catches the ones that got lost.
const FIRST_PAUSE_WITH_HINTS: Duration = Duration::from_millis(25);
/// Acknowledged rows are deleted with the next question for rows; so many don't wait for it.
const MAX_UNDELETED: usize = 500;
/// How often the lease is looked at while rows in flight are waited for.
const HOLD_LOOK_EVERY: Duration = Duration::from_millis(200);
/// After a failed row, nothing is sent for so long.
const AFTER_FAILED_ROW: Duration = Duration::from_secs(1);
/// How long Kafka may take for the row by which a topic is tried.
const TRY_TIMEOUT_MS: &str = "10000";
/// How long a stop waits for acknowledgements of what is in flight.
const LAST_ACKS: Duration = Duration::from_secs(3);

/// The outcome of one row.
pub(super) struct Ack {
    pub(super) id: i64,
    pub(super) outcome: Outcome,
}

#[derive(Clone)]
pub(super) enum Outcome {
    /// Kafka has it.
    Published,
    /// Kafka doesn't have it, or that isn't known.
    Failed(KafkaError),
    /// It was never sent, and is to be claimed again.
    GivenBack,
}

/// Sends each delivery report to the pipeline.
pub(super) struct Reports {
    acks: mpsc::UnboundedSender<Ack>,
    health: health::Part,
    brokers: kafka::BrokerWatch,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.health.lost();
        }
        warn!(%error, reason, "Kafka");
    }

    fn stats(&self, statistics: Statistics) {
        kafka::tell_health(&statistics, &self.health);
        self.brokers.stats(statistics);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<i64>) {
        let outcome = match result {
            Ok(_) => Outcome::Published,
            Err((error, _)) => Outcome::Failed(error.clone()),
        };
        // The receiver is gone only when the pipeline is.
        let _ = self.acks.send(Ack { id: *id, outcome });
    }
}

/// What is remembered of a row in flight, for its span and its latency.
struct Flying {
    bytes: usize,
    topic: String,
    traceparent: Option<String>,
    parent_span: Option<String>,
    written_at: SystemTime,
}

pub(super) struct Pipeline<'s> {
    source: &'s Source,
    names: Names,
    health: health::Part,
    settings: &'s KafkaSettings,
    producer: PolledProducer<Reports>,
    /// Of the row by which a topic was tried last: what it is refused must not end the other producer.
    trying: Option<PolledProducer<Reports>>,
    /// The row by which a topic is being tried.
    tried_row: Option<i64>,
    fenced: Fenced,
    barred: &'s mut Barred,
    reports: mpsc::UnboundedSender<Ack>,
    acks: mpsc::UnboundedReceiver<Ack>,
    in_flight: HashMap<i64, Flying>,
    in_flight_bytes: usize,
    acknowledged: Vec<i64>,
    /// Set when a row has to go again: nothing is claimed until nothing is in flight, and so long after.
    /// What was behind that row would overtake it.
    holding: Option<Duration>,
}

impl<'s> Pipeline<'s> {
    pub(super) fn new(
        settings: &'s KafkaSettings,
        names: &Names,
        source: &'s Source,
        (tasks, fenced): (&Tasks, &'static str),
        barred: &'s mut Barred,
    ) -> anyhow::Result<Self> {
        let (reports, acks) = mpsc::unbounded_channel();
        let health = tasks.health().part("kafka");
        let context = Reports { acks: reports.clone(), health: health.clone(), brokers: <_>::default() };
        let producer = PolledProducer::new(&kafka::producer(settings), context).context("a Kafka producer")?;
        let fenced = Fenced::new(settings, names, source.name, reports.clone(), (tasks, fenced))?;
        let (in_flight, in_flight_bytes, acknowledged) = <_>::default();
        Ok(Self {
            source,
            names: names.clone(),
            health,
            settings,
            producer,
            trying: None,
            tried_row: None,
            fenced,
            barred,
            reports,
            acks,
            in_flight,
            in_flight_bytes,
            acknowledged,
            holding: None,
        })
    }

    /// Moves rows while the lease is held. `backoff` learns when it does. In the end nothing is sent any more: what is still
    /// queued is whoever's who leads next.
    pub(super) async fn run(
        mut self,
        lease: &Lease,
        shutdown: &CancellationToken,
        wakes: watch::Receiver<u64>,
        backoff: &mut Backoff<&'static str>,
    ) -> anyhow::Result<()> {
        let ended = self.move_rows(lease, shutdown, wakes, backoff).await;
        blocking(move || self.producer.close()).await;
        ended
    }

    async fn move_rows(
        &mut self,
        lease: &Lease,
        shutdown: &CancellationToken,
        mut wakes: watch::Receiver<u64>,
        backoff: &mut Backoff<&'static str>,
    ) -> anyhow::Result<()> {
        let client = self.source.pool.get().await.context("a connection for the outbox")?;
        client.batch_execute(claim::SESSION).await.context("setting up the session")?;
        let mut pause = FIRST_PAUSE;
        let began = Instant::now();
        while !shutdown.is_cancelled() {
            if !lease.is_held() {
                return Ok(());
            }
            if let Some(lost) = self.has_lost() {
                self.delete_acknowledged(&client).await?;
                bail!(lost);
            }
            self.drain_acks();
            if let Some(length) = self.holding {
                self.hold(&client, length).await?;
                continue;
            }
            let has_published = !self.acknowledged.is_empty();
            let claimed = self.round(&client).await?;
            // An empty outbox says nothing of Kafka: what failed before may fail as soon as there is a row.
            let has_lasted = began.elapsed() > super::LONGEST_PAUSE;
            if has_published || (has_lasted && self.has_only_a_try_in_flight()) {
                backoff.worked();
            }
            self.try_barred(&client).await?;
            let first_pause = if *wakes.borrow() > 0 { FIRST_PAUSE_WITH_HINTS } else { FIRST_PAUSE };
            pause = if claimed > 0 { first_pause } else { (pause * 2).min(LONGEST_PAUSE) };
            if claimed < claim::MAX_CLAIM_ROWS {
                self.idle(pause, &mut wakes, shutdown).await;
            }
        }
        self.wait_for_acks(LAST_ACKS).await;
        self.delete_acknowledged(&client).await
    }

    /// What it can't go on without, in words.
    fn has_lost(&self) -> Option<&'static str> {
        let lost = [
            (
                self.producer.client().context().brokers.knows_none.is_cancelled(),
                "the producer knows no broker any more",
            ),
            (self.producer.has_ended(), "the thread that fetches the producer's reports ended by itself"),
            (self.fenced.has_ended(), "the fenced producer's thread ended by itself"),
        ];
        lost.into_iter().find_map(|(is_lost, what)| is_lost.then_some(what))
    }

    /// One question to the database, and what it brought on its way. Returns how many rows.
    async fn round(&mut self, client: &deadpool_postgres::Client) -> anyhow::Result<usize> {
        let room = Room {
            rows: MAX_IN_FLIGHT.saturating_sub(self.in_flight.len()).min(claim::MAX_CLAIM_ROWS),
            bytes: MAX_IN_FLIGHT_BYTES.saturating_sub(self.in_flight_bytes).min(claim::MAX_CLAIM_BYTES),
        };
        let in_flight: HashSet<i64> = self.in_flight.keys().copied().collect();
        let generation = self.fenced.generation();
        let rows = claim::delete_and_claim(client, &self.acknowledged, &in_flight, room, &self.barred.names())
            .await
            .context("asking for outbox rows")?;
        self.acknowledged.clear();
        let claimed = rows.len();
        for row in rows {
            if self.holding.is_some() {
                break;
            }
            self.send(generation, row);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most MAX_IN_FLIGHT")]
        gauge!("outbox_in_flight", "database" => self.source.name).set(self.in_flight.len() as f64);
        Ok(claimed)
    }

    /// Sends the lowest row of a topic whose time has come.
    async fn try_barred(&mut self, client: &deadpool_postgres::Client) -> anyhow::Result<()> {
        if self.tried_row.is_some() {
            return Ok(());
        }
        let Some(topic) = self.barred.take_due() else { return Ok(()) };
        let in_flight: HashSet<i64> = self.in_flight.keys().copied().collect();
        let generation = self.fenced.generation();
        let lowest = claim::claim_lowest(client, &topic, &in_flight).await.context("asking for a row of a topic")?;
        let Some(row) = lowest else {
            // Whoever led meanwhile has sent all of it.
            self.barred.lift(&topic);
            return Ok(());
        };
        if !row.compacted {
            let context = Reports { acks: self.reports.clone(), health: self.health.clone(), brokers: <_>::default() };
            let mut config = kafka::producer(self.settings);
            config.set("enable.gapless.guarantee", "false").set("message.timeout.ms", TRY_TIMEOUT_MS);
            self.trying = Some(PolledProducer::new(&config, context).context("a Kafka producer")?);
        }
        self.tried_row = Some(row.id);
        self.send(generation, row);
        Ok(())
    }

    fn send(&mut self, claimed_at: Generation, row: Row) {
        let flying = Flying {
            bytes: row.payload.as_ref().map_or(0, Vec::len),
            topic: row.topic.clone(),
            traceparent: row.traceparent.clone(),
            parent_span: row.parent_span.clone(),
            written_at: row.written_at,
        };
        self.in_flight_bytes += flying.bytes;
        self.in_flight.insert(row.id, flying);
        if row.compacted {
            self.fenced.send(claimed_at, row);
            return;
        }
        let topic = self.names.topic(&row.topic);
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic, Box::new(row.id)).headers(headers(&row));
        (record.key, record.payload) = (row.key.as_deref(), row.payload.as_deref());
        let producer = match &self.trying {
            Some(trying) if self.tried_row == Some(row.id) => trying,
            Some(_) | None => &self.producer,
        };
        if let Err((error, record)) = producer.send(record) {
            let id = *record.delivery_opaque;
            self.note(Ack { id, outcome: Outcome::Failed(error) });
        }
    }

    fn drain_acks(&mut self) {
        while let Ok(ack) = self.acks.try_recv() {
            self.note(ack);
        }
    }

    fn note(&mut self, Ack { id, outcome }: Ack) {
        let Some(flying) = self.in_flight.remove(&id) else { return };
        self.in_flight_bytes -= flying.bytes;
        let was_try = self.tried_row.take_if(|tried| *tried == id).is_some();
        if was_try {
            self.trying = None;
        }
        match outcome {
            Outcome::Published => {
                self.health.ready();
                self.acknowledged.push(id);
                flying.tell(self.source.name);
                if was_try && self.barred.lift(&flying.topic) {
                    tracing::info!(database = self.source.name, topic = flying.topic, "the topic takes rows again");
                }
            }
            Outcome::Failed(error) => {
                counter!("outbox_failed_total", "topic" => flying.topic.clone()).increment(1);
                if was_try {
                    self.barred.note_failed_try(&flying.topic);
                    return;
                }
                if self.barred.has(&flying.topic) || is_refused(&error) {
                    if self.barred.bar(&flying.topic) {
                        let (database, topic) = (self.source.name, &flying.topic);
                        tracing::error!(database, topic, %error, "the topic takes nothing: its rows wait, others go on");
                        // What is in flight ends first: something of this topic may be among it.
                        self.holding = self.holding.or(Some(Duration::ZERO));
                    }
                    return;
                }
                if self.holding.is_none_or(|length| length.is_zero()) {
                    let (database, topic) = (self.source.name, &flying.topic);
                    warn!(database, topic, %error, "a row failed; it and what is behind it go again, in order");
                }
                self.holding = Some(AFTER_FAILED_ROW);
            }
            Outcome::GivenBack if was_try => self.barred.try_at_once(&flying.topic),
            Outcome::GivenBack => self.holding = self.holding.or(Some(Duration::ZERO)),
        }
    }

    /// A try may take long, and nothing can overtake it: but for it, nothing is on its way.
    fn has_only_a_try_in_flight(&self) -> bool {
        self.in_flight.len() == usize::from(self.tried_row.is_some())
    }

    /// Rows that Kafka has don't go again because the producer has to.
    async fn delete_acknowledged(&mut self, client: &deadpool_postgres::Client) -> anyhow::Result<()> {
        self.drain_acks();
        let acknowledged = std::mem::take(&mut self.acknowledged);
        claim::delete_and_claim(client, &acknowledged, &HashSet::new(), Room::NONE, &[])
            .await
            .context("deleting the last rows")?;
        Ok(())
    }

    /// Lets what is in flight end, one way or the other.
    async fn hold(&mut self, client: &deadpool_postgres::Client, length: Duration) -> anyhow::Result<()> {
        self.wait_for_acks(HOLD_LOOK_EVERY).await;
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            self.delete_acknowledged(client).await?;
            bail!("the producer ended: {code}: {reason}");
        }
        if self.has_only_a_try_in_flight() {
            self.holding = None;
            tokio::time::sleep(length).await;
        }
        Ok(())
    }

    /// Takes acks until there is a reason to ask the database again: a hint, the end of the pause,
    /// many rows to delete, or a failed one.
    async fn idle(&mut self, pause: Duration, wakes: &mut watch::Receiver<u64>, shutdown: &CancellationToken) {
        let until = tokio::time::Instant::now() + pause;
        while self.acknowledged.len() < MAX_UNDELETED && self.holding.is_none() {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Ok(()) = wakes.changed() => return,
                Some(ack) = self.acks.recv() => self.note(ack),
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    async fn wait_for_acks(&mut self, at_most: Duration) {
        let until = tokio::time::Instant::now() + at_most;
        while !self.in_flight.is_empty() {
            match tokio::time::timeout_at(until, self.acks.recv()).await {
                Ok(Some(ack)) => self.note(ack),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

impl Flying {
    /// The publishing span lasts from the write to the ack: its length is the outbox's delay.
    fn tell(&self, database: &'static str) {
        let waited = self.written_at.elapsed().unwrap_or_default();
        counter!("events_published_total", "topic" => self.topic.clone()).increment(1);
        histogram!("outbox_delay_seconds", "database" => database).record(waited.as_secs_f64());
        let Some(me) = self.traceparent.as_deref().and_then(|text| text.parse::<TraceParent>().ok()) else { return };
        let Some(parent) = self.parent_span.as_deref().and_then(|text| text.parse().ok()) else { return };
        if telemetry::is_recorded(me) {
            telemetry::record(Span {
                name: format!("publish {}", self.topic).into(),
                kind: SpanKind::Producer,
                me,
                parent: Some(parent),
                start: self.written_at,
                end: SystemTime::now(),
                tags: vec![("messaging.system", "kafka".into()), ("outbox.database", database.into())],
                error: None,
            });
        }
    }
}

/// The headers of a row's record.
pub(super) fn headers(row: &Row) -> OwnedHeaders {
    if let Some(headers) = &row.headers {
        let none = OwnedHeaders::new_with_capacity(headers.len());
        return headers.iter().fold(none, |all, (key, value)| all.insert(Header { key, value: Some(value) }));
    }
    let headers = OwnedHeaders::new_with_capacity(2).insert(Header { key: "content-type", value: Some(CONTENT_TYPE) });
    match &row.traceparent {
        Some(traceparent) => headers.insert(Header { key: TRACEPARENT, value: Some(traceparent) }),
        None => headers,
    }
}
