//! Reads topics from their beginning to their end, as it is at that moment. Joins no group and commits
//! nothing, so nobody's progress is touched.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use common_events::{Service, Topic};
use messaging::{
    kafka::{self, Asking, Offsets},
    topics::Names,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use service_runtime::settings::KafkaSettings;

/// How long one question to the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(200);
/// Without a single record for this long, though there are more, reading is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Some topics, and how far each of their partitions was read.
pub(crate) struct TopicsReader {
    consumer: BaseConsumer,
    asking: Asking,
    names: Names,
    next: Offsets,
}

impl TopicsReader {
    /// Opens the topics at their beginning. Blocks.
    pub(crate) fn open(settings: &KafkaSettings, topics: &[Topic]) -> anyhow::Result<Self> {
        let names = Names::with_prefix(settings.topic_prefix.clone());
        // librdkafka wants a group to be named before partitions can be assigned; it isn't joined.
        let mut config = kafka::client(settings);
        config.set("group.id", names.group(Service::Payment));
        let asking = Asking::with(config.clone()).context("a Kafka client that asks")?;
        let consumer: BaseConsumer = config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            // What was there must not be skipped in silence.
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "8192")
            .create()
            .context("a Kafka consumer")?;
        let mut next = Offsets::new();
        for topic in topics {
            let name = names.topic(topic.name());
            asking.ask(|client| {
                for partition in partitions(client, &name)? {
                    let (first, _) = watermarks(client, &name, partition)?;
                    next.insert((name.clone(), partition), first);
                }
                Ok(())
            })?;
        }
        let mut assigned = TopicPartitionList::with_capacity(next.len());
        for ((topic, partition), first) in &next {
            assigned.add_partition_offset(topic, *partition, Offset::Offset(*first))?;
        }
        consumer.assign(&assigned).context("assigning the topics")?;
        Ok(Self { consumer, asking, names, next })
    }

    /// Hands over what lies between where it stopped and the end as it is now: the topic, without
    /// prefix, and the record's value. A transaction that stays open there
    /// hides what is behind it, and fails the reading. Blocks.
    pub(crate) fn read_to_end(&mut self, mut take: impl FnMut(&str, &[u8])) -> anyhow::Result<()> {
        let ends = self.ends()?;
        let (mut last_progress, mut last_look) = (Instant::now(), Instant::now());
        let mut last_error = None;
        while self.first_behind(&ends).is_some() {
            match self.consumer.poll(POLL) {
                Some(Ok(record)) => {
                    take(self.names.bare(record.topic()), record.payload().unwrap_or_default());
                    let place = (record.topic().to_owned(), record.partition());
                    self.next.insert(place, record.offset() + 1);
                    last_progress = Instant::now();
                }
                // Brokers come back; only standing still ends the reading.
                Some(Err(error)) => last_error = Some(error),
                None => {}
            }
            // Where transactions ended, the end lies behind the last record.
            if last_look.elapsed() >= POLL {
                let read = kafka::positions(&self.consumer).context("how far the topics are read")?;
                if read.iter().any(|(place, next)| self.next.get(place) != Some(next)) {
                    last_progress = Instant::now();
                }
                self.next.extend(read);
                last_look = Instant::now();
            }
            if last_progress.elapsed() > STALLED_AFTER
                && let Some(((topic, partition), next)) = self.first_behind(&ends)
            {
                let end = ends[&(topic.clone(), *partition)];
                let why = last_error
                    .map_or_else(|| "no answer, or an open transaction".to_owned(), |error| error.to_string());
                bail!("{topic}/{partition} doesn't get past offset {next}, before its end at {end}: {why}");
            }
        }
        Ok(())
    }

    fn ends(&self) -> anyhow::Result<Offsets> {
        self.asking.ask(|client| {
            let mut ends = Offsets::new();
            for (topic, partition) in self.next.keys() {
                let (_, end) = watermarks(client, topic, *partition)?;
                ends.insert((topic.clone(), *partition), end);
            }
            Ok(ends)
        })
    }

    fn first_behind(&self, ends: &Offsets) -> Option<(&(String, i32), &i64)> {
        self.next.iter().find(|(place, next)| **next < ends[*place])
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT).with_context(|| format!("asking for {topic}"))?;
    let found: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic)
        .flat_map(|found| found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
        .collect();
    anyhow::ensure!(!found.is_empty(), "there is no topic {topic}");
    Ok(found)
}

/// The first offset, and the one after the last. A partition between two leaders is asked again.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    let until = Instant::now() + ASK_TIMEOUT;
    loop {
        match consumer.fetch_watermarks(topic, partition, ASK_TIMEOUT) {
            Ok(watermarks) => return Ok(watermarks),
            Err(error) if is_between_leaders(&error) && Instant::now() < until => thread::sleep(ASK_AGAIN_AFTER),
            Err(error) => {
                return Err(error).with_context(|| format!("asking for the offsets of {topic}/{partition}"));
            }
        }
    }
}

fn is_between_leaders(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}
