//! The way of a row: claimed → produced → acknowledged → deleted, many at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
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
    museum::{self, Bug},
    settings::KafkaSettings,
    tasks::{Backoff, blocking},
    telemetry::{self, Span, SpanKind},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Source,
    barred::{Barred, Lane, Refused},
    claim::{self, Room, Row},
    fenced::{Fenced, Generation},
    lease::Lease,
};
use crate::{
    kafka::{self, PolledProducer},
    topics::Names,
};

/// Rows that may be in flight at once, but for the [`RESERVE`]: bounds memory, and what a take-over sends twice.
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
/// A row that isn't acknowledged for so long stands still: nobody leads its partition, or Kafka is away.
const STANDS_STILL: Duration = Duration::from_secs(2);
/// Should rows that stand still fill up all there is, others have so much more, in small portions …
const RESERVE: Room = Room { rows: 1_000, bytes: 4 * 1024 * 1024 };
/// … and of a topic with so much standing still nothing more is claimed in any case.
const MOST_STANDING: Room = Room { rows: claim::MAX_CLAIM_ROWS, bytes: claim::MAX_CLAIM_BYTES };
const PORTION: Room = Room { rows: 100, bytes: 1024 * 1024 };
/// How long what is on the wire is waited for when the producer has to go.
const LAST_REPORTS: Duration = Duration::from_millis(200);
/// After a failed row, nothing of its topic is sent for so long.
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

/// What is remembered of a row in flight: where its order is kept, and for its span and its latency.
struct Flying {
    bytes: usize,
    topic: String,
    key: Option<Vec<u8>>,
    compacted: bool,
    sent_at: Instant,
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
    /// Of the row by which a lane was tried last: what it is refused must not end the other producer.
    trying: Option<PolledProducer<Reports>>,
    /// The row by which a lane is being tried.
    tried: Option<(i64, Lane)>,
    fenced: Fenced,
    last_generation: Generation,
    barred: &'s mut Barred,
    reports: mpsc::UnboundedSender<Ack>,
    acks: mpsc::UnboundedReceiver<Ack>,
    in_flight: HashMap<i64, Flying>,
    acknowledged: Vec<i64>,
    /// Topics of which a row has to go again. What was behind that row would overtake it.
    holds: BTreeMap<String, Hold>,
}

/// Nothing of a topic is claimed until nothing of it is in flight, and so long after.
#[derive(Debug, Clone, Copy)]
struct Hold {
    after: Duration,
    until: Option<Instant>,
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
        let last_generation = fenced.generation();
        let (in_flight, acknowledged, holds) = <_>::default();
        Ok(Self {
            source,
            names: names.clone(),
            health,
            settings,
            producer,
            trying: None,
            tried: None,
            fenced,
            last_generation,
            barred,
            reports,
            acks,
            in_flight,
            acknowledged,
            holds,
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
                self.wait_for_acks(LAST_REPORTS).await;
                self.delete_acknowledged(&client).await?;
                bail!(lost);
            }
            self.drain_acks();
            self.end_holds();
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
    fn has_lost(&self) -> Option<String> {
        let has_failed = !self.holds.is_empty() || self.barred.lanes().next().is_some();
        if has_failed && let Some((code, reason)) = self.producer.client().fatal_error() {
            return Some(format!("the producer ended: {code}: {reason}"));
        }
        let lost = [
            (
                self.producer.client().context().brokers.knows_none.is_cancelled(),
                "the producer knows no broker any more",
            ),
            (self.producer.has_ended(), "the thread that fetches the producer's reports ended by itself"),
            (
                self.trying.as_ref().is_some_and(PolledProducer::has_ended),
                "the thread that fetches the reports of a try ended by itself",
            ),
            (self.fenced.has_ended(), "the fenced producer's thread ended by itself"),
        ];
        lost.into_iter().find_map(|(is_lost, what)| is_lost.then(|| what.to_owned()))
    }

    /// One question to the database, and what it brought on its way. Returns how many rows.
    async fn round(&mut self, client: &deadpool_postgres::Client) -> anyhow::Result<usize> {
        let generation = self.generation();
        let (room, standing) = room_beside(&self.in_flight);
        let kept_back: Vec<Lane> =
            standing.into_iter().chain(self.holds.keys().map(|topic| &**topic)).map(Lane::of_topic).collect();
        let in_flight: HashSet<i64> = self.in_flight.keys().copied().collect();
        let waiting = self.barred.lanes().chain(&kept_back);
        let rows = claim::delete_and_claim(client, &self.acknowledged, &in_flight, room, waiting)
            .await
            .context("asking for outbox rows")?;
        self.acknowledged.clear();
        let claimed = rows.len();
        for row in rows {
            if museum::is_back(Bug::OutboxByCursor) && is_passed_over(self.source.name, row.id) {
                continue;
            }
            // One before it may just have failed.
            if !self.holds.contains_key(&row.topic) && !self.barred.has(&row.topic, row.key.as_deref()) {
                self.send(generation, row);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        gauge!("outbox_in_flight", "database" => self.source.name).set(self.in_flight.len() as f64);
        Ok(claimed)
    }

    /// The fenced producer's. When it is another one than before, what was claimed for that one comes back first: nothing of
    /// its topics is to overtake it.
    fn generation(&mut self) -> Generation {
        let generation = self.fenced.generation();
        if std::mem::replace(&mut self.last_generation, generation) != generation {
            let compacted = self.in_flight.values().filter(|flying| flying.compacted);
            let topics: HashSet<String> = compacted.map(|flying| flying.topic.clone()).collect();
            for topic in topics {
                self.hold(topic, Duration::ZERO);
            }
        }
        generation
    }

    /// Sends the lowest row of a barred lane whose time has come.
    async fn try_barred(&mut self, client: &deadpool_postgres::Client) -> anyhow::Result<()> {
        if self.tried.is_some() {
            return Ok(());
        }
        let flying = &self.in_flight;
        let is_on_its_way = |lane: &Lane| flying.values().any(|flying| lane.has(&flying.topic, flying.key.as_deref()));
        let Some(lane) = self.barred.take_due(is_on_its_way) else { return Ok(()) };
        let in_flight: HashSet<i64> = self.in_flight.keys().copied().collect();
        let generation = self.fenced.generation();
        // What is refused by itself says nothing of its topic.
        let apart = self.barred.keys_apart(&lane);
        let lowest =
            claim::claim_lowest(client, &lane, &in_flight, &apart).await.context("asking for a row of a lane")?;
        let Some(row) = lowest else {
            // Whoever led meanwhile has sent all of it.
            self.barred.lift(&lane);
            return Ok(());
        };
        if !row.compacted {
            let context = Reports { acks: self.reports.clone(), health: self.health.clone(), brokers: <_>::default() };
            let mut config = kafka::producer(self.settings);
            config.set("enable.gapless.guarantee", "false").set("message.timeout.ms", TRY_TIMEOUT_MS);
            self.trying = Some(PolledProducer::new(&config, context).context("a Kafka producer")?);
        }
        self.tried = Some((row.id, lane));
        self.send(generation, row);
        Ok(())
    }

    fn send(&mut self, claimed_at: Generation, row: Row) {
        let flying = Flying {
            bytes: row.payload.as_ref().map_or(0, Vec::len),
            topic: row.topic.clone(),
            key: row.key.clone(),
            compacted: row.compacted,
            sent_at: Instant::now(),
            traceparent: row.traceparent.clone(),
            parent_span: row.parent_span.clone(),
            written_at: row.written_at,
        };
        self.in_flight.insert(row.id, flying);
        if museum::is_back(Bug::DeletedBeforeAck) {
            self.acknowledged.push(row.id);
        }
        let is_try = self.tried.as_ref().is_some_and(|(tried, _)| *tried == row.id);
        if row.compacted {
            self.fenced.send(claimed_at, row, is_try);
            return;
        }
        let topic = self.names.topic(&row.topic);
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&topic, Box::new(row.id)).headers(headers(&row));
        (record.key, record.payload) = (row.key.as_deref(), row.payload.as_deref());
        let producer = match &self.trying {
            Some(trying) if is_try => trying,
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
        let tried = self.tried.take_if(|(tried, _)| *tried == id).map(|(_, lane)| lane);
        if tried.is_some() {
            self.trying = None;
        }
        match (outcome, tried) {
            (Outcome::Published, tried) => {
                self.health.ready();
                self.acknowledged.push(id);
                flying.tell(self.source.name);
                if tried.is_some_and(|lane| self.barred.lift(&lane)) {
                    tracing::info!(
                        database = self.source.name,
                        topic = flying.topic,
                        "what was refused is taken again"
                    );
                }
            }
            (Outcome::Failed(error), Some(lane)) => {
                flying.count_failed();
                match Refused::of(&error) {
                    // The topic may well take others.
                    Some(refused @ Refused::Record) if lane.key.is_none() && flying.key.is_some() => {
                        self.barred.set_apart(&lane, refused.lane(&flying.topic, flying.key.as_deref()));
                    }
                    Some(_) | None => self.barred.note_failed_try(&lane),
                }
            }
            (Outcome::Failed(error), None) => {
                flying.count_failed();
                self.keep_back(flying, &error);
            }
            (Outcome::GivenBack, Some(lane)) => self.barred.try_at_once(&lane),
            (Outcome::GivenBack, None) => self.hold(flying.topic, Duration::ZERO),
        }
    }

    /// A row failed: it goes again, and nothing overtakes it.
    fn keep_back(&mut self, flying: Flying, error: &KafkaError) {
        let (database, topic, key) = (self.source.name, &flying.topic, flying.key.as_deref());
        if self.barred.has(topic, key) {
            return;
        }
        if let Some(refused) = Refused::of(error) {
            if self.barred.bar(refused.lane(topic, key)) {
                let (what, key) = (refused.told(), key.map(String::from_utf8_lossy));
                tracing::error!(database, topic, ?key, %error, "{what}");
            }
            return;
        }
        if self.holds.get(topic).is_none_or(|hold| hold.after.is_zero()) {
            warn!(database, topic, %error, "a row failed; it and what is behind it go again, in order");
        }
        self.hold(flying.topic, AFTER_FAILED_ROW);
    }

    fn hold(&mut self, topic: String, after: Duration) {
        let hold = self.holds.entry(topic).or_insert(Hold { after, until: None });
        *hold = Hold { after: hold.after.max(after), until: None };
    }

    /// Topics of which nothing is in flight any more are claimed again when their time has come.
    fn end_holds(&mut self) {
        let in_flight = &self.in_flight;
        self.holds.retain(|topic, hold| {
            if hold.until.is_none() && !in_flight.values().any(|flying| flying.topic == *topic) {
                hold.until = Some(Instant::now() + hold.after);
            }
            hold.until.is_none_or(|until| until > Instant::now())
        });
    }

    /// A try may take long, and nothing can overtake it: but for it, nothing is on its way.
    fn has_only_a_try_in_flight(&self) -> bool {
        self.in_flight.len() == usize::from(self.tried.is_some())
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

    /// Takes acks until there is a reason to ask the database again: a hint, the end of the pause,
    /// or many rows to delete.
    async fn idle(&mut self, pause: Duration, wakes: &mut watch::Receiver<u64>, shutdown: &CancellationToken) {
        let until = tokio::time::Instant::now() + pause;
        while self.acknowledged.len() < MAX_UNDELETED {
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
    fn count_failed(&self) {
        counter!("outbox_failed_total", "topic" => self.topic.clone()).increment(1);
    }

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

/// What one question may bring beside what is in flight, and the topics of which it brings nothing, as something of them
/// stands still.
fn room_beside(in_flight: &HashMap<i64, Flying>) -> (Room, Vec<&str>) {
    let now = Instant::now();
    let mut all = Room::NONE;
    for flying in in_flight.values() {
        all.add(flying.bytes);
    }
    let standing = by_topic(in_flight.values().filter(|flying| now.duration_since(flying.sent_at) > STANDS_STILL));
    let limit = Room { rows: MAX_IN_FLIGHT, bytes: MAX_IN_FLIGHT_BYTES };
    if all.is_within(limit) {
        let full = standing.into_iter().filter(|(_, standing)| !standing.is_within(MOST_STANDING));
        let at_most = Room { rows: claim::MAX_CLAIM_ROWS, bytes: claim::MAX_CLAIM_BYTES };
        return (limit.without(all).at_most(at_most), full.map(|(topic, _)| topic).collect());
    }
    if standing.is_empty() {
        return (Room::NONE, Vec::new());
    }
    let limit = Room { rows: limit.rows + RESERVE.rows, bytes: limit.bytes + RESERVE.bytes };
    // Another one may stand still, too: no topic takes it all.
    let mut of_topics = by_topic(in_flight.values());
    of_topics.retain(|topic, load| standing.contains_key(topic) || !load.is_within(PORTION));
    (limit.without(all).at_most(PORTION), of_topics.into_keys().collect())
}

/// How much of each topic is in flight.
fn by_topic<'f>(in_flight: impl Iterator<Item = &'f Flying>) -> HashMap<&'f str, Room> {
    let mut loads = HashMap::<&str, Room>::new();
    for flying in in_flight {
        loads.entry(&flying.topic).or_insert(Room::NONE).add(flying.bytes);
    }
    loads
}

/// Of a bug: whether a higher id of this database was seen before this one.
fn is_passed_over(source: &'static str, id: i64) -> bool {
    static SEEN: Mutex<BTreeMap<&str, BTreeSet<i64>>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.entry(source).or_default();
    let is_passed_over = !seen.contains(&id) && seen.last().is_some_and(|highest| id < *highest);
    if !is_passed_over {
        seen.insert(id);
    }
    is_passed_over
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
