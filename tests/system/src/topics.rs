//! What the topics hold, and where the consumer groups stand on them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use common_events::{CouponId, IssuedCouponId, OrderId, ProductId, Service, Topic, TraceId, UserId};
use messaging::{OwnTopic, kafka, topics::Names};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use serde::Deserialize;
use uuid::Uuid;

const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for the next record before it looks at what is left.
const POLL: Duration = Duration::from_millis(200);
/// How long reading all topics may take without a single record.
const MAX_SILENT_POLLS: u32 = 100;

/// The partitions of a group's own topics (`sagactl topics plan`).
const OWN_PARTITIONS: i32 = 3;

/// How far every partition is written: full topic name and partition → end offset.
pub type Position = BTreeMap<(String, i32), i64>;

/// An event as it lies on its topic, as far as the law looks at it.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    /// Its id: the same however often it lies there.
    pub id: Uuid,
    /// Its type, which is its topic.
    #[serde(rename = "type")]
    pub kind: String,
    /// The trace of the request that began it all.
    pub traceid: TraceId,
    /// What it says.
    pub data: Fact,
}

/// The fields of all events that the law looks at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of the events, under their names")]
pub struct Fact {
    pub order_id: Option<OrderId>,
    pub product_id: Option<ProductId>,
    pub user_id: Option<UserId>,
    pub coupon_id: Option<CouponId>,
    pub issued_coupon_id: Option<IssuedCouponId>,
    pub amount: Option<i64>,
    pub balance: Option<i64>,
    pub lines: Vec<FactLine>,
    pub paid_at: Option<DateTime<Utc>>,
}

/// A line of an order, in an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the events, under their names")]
pub struct FactLine {
    pub product_id: ProductId,
    pub quantity: i64,
    pub amount: i64,
}

/// The topics and consumer groups of one suite.
#[derive(Clone)]
pub struct Groups {
    brokers: String,
    names: Names,
}

impl Groups {
    /// Those with these names, on this cluster.
    pub fn at(brokers: &str, names: Names) -> anyhow::Result<Self> {
        Ok(Self { brokers: brokers.to_owned(), names })
    }

    /// How far everything is written, when these groups have read all of it; else who still has to read what.
    pub async fn nothing_to_read(&self, services: &'static [Service]) -> anyhow::Result<Position> {
        let this = self.clone();
        blocking(move || {
            let ends = this.ends()?;
            for service in services {
                this.has_read_all(*service, &ends)?;
            }
            Ok(ends)
        })
        .await
    }

    /// How far everything is written.
    pub async fn written(&self) -> anyhow::Result<Position> {
        let this = self.clone();
        blocking(move || this.ends()).await
    }

    /// Records on a topic, by its bare name, that has one partition.
    pub async fn records_on(&self, topic: &str) -> anyhow::Result<i64> {
        let (this, topic) = (self.clone(), self.names.topic(topic));
        blocking(move || {
            let ends = this.client("looks")?.fetch_watermarks(&topic, 0, ASK_TIMEOUT);
            let (first, end) = ends.with_context(|| format!("asking for the end of {topic}"))?;
            Ok(end - first)
        })
        .await
    }

    /// Everything on all topics of the catalogue, partition by partition in order.
    pub async fn told(&self) -> anyhow::Result<Vec<Told>> {
        let this = self.clone();
        blocking(move || this.read_all()).await
    }

    /// Sets these groups back to the first record of every topic. None of their members may run.
    pub async fn rewind(&self, services: &'static [Service]) -> anyhow::Result<()> {
        let this = self.clone();
        blocking(move || {
            for service in services {
                let consumer = this.client(&this.names.group(*service))?;
                let mut offsets = this.read_by(*service)?;
                offsets.set_all_offsets(Offset::Offset(0)).context("offset 0")?;
                consumer.commit(&offsets, CommitMode::Sync).with_context(|| format!("rewinding {service}"))?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets these groups.
    pub async fn delete(&self, services: &[Service]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().context("an admin client")?;
        let groups: Vec<String> = services.iter().map(|service| self.names.group(*service)).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        for result in admin.delete_groups(&groups, &options).await.context("deleting groups")? {
            match result {
                // One whose members were killed isn't empty yet; it runs out by itself.
                Ok(_) | Err((_, RDKafkaErrorCode::NonEmptyGroup | RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((group, code)) => bail!("deleting {group}: {code}"),
            }
        }
        Ok(())
    }

    fn has_read_all(&self, service: Service, ends: &Position) -> anyhow::Result<()> {
        let consumer = self.client(&self.names.group(service))?;
        let committed = consumer
            .committed_offsets(self.read_by(service)?, ASK_TIMEOUT)
            .with_context(|| format!("asking where {service} stands"))?;
        for element in committed.elements() {
            let place = (element.topic().to_owned(), element.partition());
            let end = ends.get(&place).copied().unwrap_or_default();
            let read = element.offset().to_raw().unwrap_or_default().max(0);
            let unread = end - read;
            ensure!(unread <= 0, "{service} has {unread} records to read on {}/{}", place.0, place.1);
        }
        Ok(())
    }

    /// High watermarks: what lies behind an open transaction counts.
    fn ends(&self) -> anyhow::Result<Position> {
        let consumer: BaseConsumer = self.config().set("isolation.level", "read_uncommitted").create()?;
        let groups = Service::ALL.iter().filter(|service| Topic::read_by(**service).next().is_some());
        let topics = Topic::ALL.iter().map(|topic| (topic.name().to_owned(), topic.spec().partitions));
        let topics = topics.chain(groups.flat_map(|group| own_topics(*group)));
        let mut ends = Position::new();
        for (topic, partitions) in topics {
            let topic = self.names.topic(&topic);
            for partition in 0..partitions {
                let (_, end) = consumer
                    .fetch_watermarks(&topic, partition, ASK_TIMEOUT)
                    .with_context(|| format!("asking for the end of {topic}/{partition}"))?;
                ends.insert((topic.clone(), partition), end);
            }
        }
        Ok(ends)
    }

    fn read_by(&self, service: Service) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for topic in Topic::read_by(service) {
            list.add_partition_range(&self.names.topic(topic.name()), 0, topic.spec().partitions - 1);
        }
        for (topic, partitions) in own_topics(service) {
            list.add_partition_range(&self.names.topic(&topic), 0, partitions - 1);
        }
        list.set_all_offsets(Offset::Invalid).context("a list of partitions")?;
        Ok(list)
    }

    fn read_all(&self) -> anyhow::Result<Vec<Told>> {
        let consumer = self.client("reads all")?;
        let ends = self.ends()?;
        let mut assignment = TopicPartitionList::new();
        let mut left: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for ((topic, partition), end) in &ends {
            if *end > 0 && self.names.bare(topic).parse::<Topic>().is_ok() {
                assignment.add_partition_offset(topic, *partition, Offset::Beginning).context("assigning")?;
                left.insert((topic.clone(), *partition), *end);
            }
        }
        consumer.assign(&assignment).context("assigning")?;
        let (mut told, mut silent) = (Vec::new(), 0);
        while !left.is_empty() {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    silent = 0;
                    let value = message.payload().context("a record without a value")?;
                    told.push(serde_json::from_slice(value).context("a record that is no event")?);
                    let place = (message.topic().to_owned(), message.partition());
                    if left.get(&place).is_some_and(|end| message.offset() + 1 >= *end) {
                        left.remove(&place);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => return Err(error).context("reading the topics"),
                None => {
                    silent += 1;
                    ensure!(silent < MAX_SILENT_POLLS, "nothing comes from {left:?}");
                    // The end of a transaction is no record, but the position passes it.
                    let read = kafka::positions(&consumer).context("the reader's position")?;
                    left.retain(|place, end| read.get(place).is_none_or(|next| next < end));
                }
            }
        }
        Ok(told)
    }

    fn client(&self, group: &str) -> anyhow::Result<BaseConsumer> {
        let mut config = self.config();
        config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        config.create().context("a consumer")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("allow.auto.create.topics", "false");
        config
    }
}

/// A group's own topics, each with its partitions.
fn own_topics(group: Service) -> [(String, i32); OwnTopic::ALL.len()] {
    OwnTopic::ALL.map(|own| (own.name(group), OWN_PARTITIONS))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread that asks Kafka")?
}
