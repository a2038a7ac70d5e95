//! How far a consumer group has come with a topic, asked from outside of it: for who has to know that
//! everything published so far was decided.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use chrono::NaiveDate;
use common_events::{EventId, Service, Topic};
use deadpool_postgres::Client;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, metadata::MetadataPartition};
use service_runtime::{settings::KafkaSettings, tasks::blocking};
use uuid::Uuid;

use crate::{kafka, topics::Names};

/// How long one question to the cluster may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where each partition ends: its high watermark, so that what a transaction that is still open keeps from being read
/// is before it.
pub type Ends = BTreeMap<i32, i64>;

/// Watches a group's progress on one topic. Joins nothing.
#[derive(Clone)]
pub struct Progress {
    asking: Arc<kafka::Asking>,
    full_topic: String,
}

impl Progress {
    /// Of this group on this topic.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn of(settings: &KafkaSettings, group: Service, topic: Topic) -> anyhow::Result<Self> {
        let names = Names::with_prefix(settings.topic_prefix.clone());
        let mut config = kafka::client(settings);
        config.set("group.id", names.group(group));
        Ok(Self { asking: Arc::new(kafka::Asking::with(config)?), full_topic: names.topic(topic.name()) })
    }

    /// Where the topic ends now.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn ends(&self) -> anyhow::Result<Ends> {
        let me = self.clone();
        blocking(move || me.ask_ends()).await.context("asking for the end of a topic")
    }

    /// How many records before these ends the group hasn't handled yet. One that it couldn't handle, and set
    /// aside or sent on, is handled in this sense.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn behind(&self, ends: &Ends) -> anyhow::Result<i64> {
        let (me, ends) = (self.clone(), ends.clone());
        blocking(move || me.ask_behind(&ends)).await.context("asking for a group's offsets")
    }

    fn ask_ends(&self) -> anyhow::Result<Ends> {
        self.asking.ask(|client| {
            let metadata = client.fetch_metadata(Some(&self.full_topic), ANSWER_TIMEOUT)?;
            let topic = metadata.topics().first().context("the topic's metadata")?;
            let ask_end = |partition: &MetadataPartition| {
                let (_, end) = client.fetch_watermarks(&self.full_topic, partition.id(), ANSWER_TIMEOUT)?;
                anyhow::Ok((partition.id(), end))
            };
            topic.partitions().iter().map(ask_end).collect()
        })
    }

    fn ask_behind(&self, ends: &Ends) -> anyhow::Result<i64> {
        self.asking.ask(|client| {
            let mut behind = 0;
            let committed: BTreeMap<i32, Offset> = {
                let mut asked = TopicPartitionList::new();
                for partition in ends.keys() {
                    asked.add_partition(&self.full_topic, *partition);
                }
                let answered = client.committed_offsets(asked, ANSWER_TIMEOUT)?;
                answered.elements().iter().map(|at| (at.partition(), at.offset())).collect()
            };
            for (partition, end) in ends {
                let next = match committed.get(partition) {
                    Some(Offset::Offset(next)) => *next,
                    // A partition that the group never committed is read from its beginning.
                    _ => 0,
                };
                if next < *end {
                    // What is past its retention nobody reads any more.
                    let (begin, _) = client.fetch_watermarks(&self.full_topic, *partition, ANSWER_TIMEOUT)?;
                    behind += (end - next.max(begin)).max(0);
                }
            }
            Ok(behind)
        })
    }
}

/// How many events of the topic this group has begun with and not decided: they wait behind another, are
/// tried again later, or are parked. A dead one is decided.
///
/// # Errors
/// What the database answers.
pub async fn count_undecided(client: &Client, topic: Topic) -> Result<i64, tokio_postgres::Error> {
    let statement = client
        .prepare_cached("SELECT count(*) FROM inbox WHERE topic = $1 AND state IN ('waiting', 'retrying', 'parked')")
        .await?;
    client.query_one(&statement, &[&topic.name()]).await?.try_get(0)
}

/// Those of these events, each with the day of its time, that this group never got.
///
/// # Errors
/// What the database answers.
pub async fn list_unheard(
    client: &Client,
    events: &[(NaiveDate, EventId)],
) -> Result<HashSet<EventId>, tokio_postgres::Error> {
    let days: Vec<NaiveDate> = events.iter().map(|(day, _)| *day).collect();
    let ids: Vec<Uuid> = events.iter().map(|(_, id)| id.uuid()).collect();
    let statement = client
        .prepare_cached(
            "SELECT asked.id FROM unnest($1::date[], $2::uuid[]) AS asked (day, id)
             WHERE NOT EXISTS (SELECT FROM inbox WHERE event_id = asked.id AND inbox.day = asked.day)",
        )
        .await?;
    let rows = client.query(&statement, &[&days, &ids]).await?;
    rows.iter().map(|row| row.try_get(0).map(EventId::new)).collect()
}
