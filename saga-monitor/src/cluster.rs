//! What Kafka knows of groups and topics: where topics end, where groups stand, and whether anybody is there.
//! Asks only; joins nothing, commits nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use common_events::{Service, Topic};
use messaging::{
    OwnTopic,
    kafka::{self, Asking},
    topics::Names,
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use service_runtime::{settings::KafkaSettings, tasks::blocking};

use crate::{domain::Place, events, services::readers};

/// How long one question to the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// By topic, without the suite's prefix, and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// How the cluster stood at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Each partition's high watermark: what is written is before it, also what nobody gets before a transaction ends,
    /// and the ends of transactions themselves, which nobody ever gets. Topics that aren't there are missing.
    pub ends: Offsets,
    /// The first offset that is still there.
    pub begins: Offsets,
    /// Partitions that nobody leads: where they begin and end can't be asked, and nothing is written to them meanwhile.
    pub leaderless: BTreeSet<(String, i32)>,
    /// What each group has committed; nothing of partitions it never read. A group that couldn't be asked is missing.
    pub committed: BTreeMap<Service, Offsets>,
    /// How many members each group has, as far as it could be asked.
    pub members: BTreeMap<Service, usize>,
}

impl Standing {
    /// Whether the group has that record still before it. Of a group that couldn't be asked it isn't said.
    pub fn is_unread(&self, group: Service, topic: &str, place: Place) -> bool {
        let at = (topic.to_owned(), place.partition);
        let next = |offsets: &Offsets| offsets.get(&at).copied().unwrap_or_default();
        self.committed.get(&group).is_some_and(|offsets| next(offsets) <= place.offset)
    }

    /// Whether anybody of the group is there. Of a group that couldn't be asked it isn't said that it is dead.
    pub fn is_alive(&self, group: Service) -> bool {
        self.members.get(&group).is_none_or(|members| *members > 0)
    }

    /// How many records of a partition the group has before it, if both could be asked.
    pub fn lag(&self, group: Service, at: &(String, i32)) -> Option<i64> {
        let end = *self.ends.get(at)?;
        let begin = self.begins.get(at).copied().unwrap_or_default();
        let committed = self.committed.get(&group)?.get(at).copied().unwrap_or(begin);
        Some((end - committed.max(begin)).max(0))
    }
}

/// Partitions, by whether somebody leads them.
#[derive(Default)]
struct Partitions {
    led: BTreeSet<(String, i32)>,
    leaderless: BTreeSet<(String, i32)>,
}

/// A cluster that is asked. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    settings: KafkaSettings,
    names: Names,
    /// A client per group, as a client asks for its own group's offsets only; made when it is first needed.
    clients: Arc<Mutex<BTreeMap<Service, Arc<Asking>>>>,
}

impl Cluster {
    /// The cluster of these settings. Nothing is asked yet.
    pub fn new(settings: &KafkaSettings) -> Self {
        let names = Names::with_prefix(settings.topic_prefix.clone());
        Self { settings: settings.clone(), names, clients: Arc::default() }
    }

    /// How everything stands now.
    ///
    /// # Errors
    /// When the cluster can't be asked.
    pub async fn look(&self) -> anyhow::Result<Standing> {
        let this = self.clone();
        blocking(move || this.ask()).await
    }

    fn ask(&self) -> anyhow::Result<Standing> {
        let answer = self.ask_everybody();
        if answer.is_err() {
            // What befell this client may have befallen all; each would fail a look of its own.
            self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        answer
    }

    fn ask_everybody(&self) -> anyhow::Result<Standing> {
        let anybody = self.client(Service::SagaMonitor)?;
        let Partitions { led, leaderless } = anybody.ask(|client| self.partitions(client))?;
        let mut standing = Standing { leaderless, ..Standing::default() };
        let all: BTreeSet<(String, i32)> = led.union(&standing.leaderless).cloned().collect();
        // Groups before ends: what is committed later can't be beyond what is written by then.
        for group in readers() {
            let of_group = self.client(group)?;
            let asked = of_group.ask(|client| Ok((self.committed(client, group, &all)?, self.members(client, group)?)));
            match asked {
                Ok((committed, members)) => {
                    standing.committed.insert(group, committed);
                    standing.members.insert(group, members);
                }
                Err(error) => tracing::warn!(%group, error = format!("{error:#}"), "a group can't be asked"),
            }
        }
        anyhow::ensure!(!standing.members.is_empty(), "no group can be asked");
        standing.begins = anybody.ask(|client| self.offsets(client, &led, Offset::Beginning))?;
        standing.ends = anybody.ask(|client| self.offsets(client, &led, Offset::End))?;
        Ok(standing)
    }

    fn client(&self, group: Service) -> anyhow::Result<Arc<Asking>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&group) {
            return Ok(Arc::clone(client));
        }
        let mut config = kafka::client(&self.settings);
        config.set("group.id", self.names.group(group));
        let client = Arc::new(Asking::with(config).context("a client that only asks")?);
        clients.insert(group, Arc::clone(&client));
        Ok(client)
    }

    /// How many members the group has.
    fn members(&self, client: &BaseConsumer, group: Service) -> anyhow::Result<usize> {
        let name = self.names.group(group);
        let list = client.fetch_group_list(Some(&name), ASK_TIMEOUT).context("asking for a group")?;
        Ok(list.groups().iter().filter(|known| known.name() == name).map(|known| known.members().len()).sum())
    }

    /// The partitions of our topics that are there.
    fn partitions(&self, client: &BaseConsumer) -> anyhow::Result<Partitions> {
        let wanted: BTreeSet<String> = topics_of_interest().map(|topic| self.names.topic(&topic)).collect();
        let metadata = client.fetch_metadata(None, ASK_TIMEOUT).context("asking for the topics")?;
        let mut partitions = Partitions::default();
        for topic in metadata.topics().iter().filter(|topic| wanted.contains(topic.name())) {
            for partition in topic.partitions() {
                let at = (self.names.bare(topic.name()).to_owned(), partition.id());
                if partition.leader() < 0 { &mut partitions.leaderless } else { &mut partitions.led }.insert(at);
            }
        }
        Ok(partitions)
    }

    /// Where all partitions begin or end, in one question to each broker: to be asked for the offset at a time,
    /// "the beginning" and "the end" are times like any other.
    fn offsets(&self, client: &BaseConsumer, of: &BTreeSet<(String, i32)>, at: Offset) -> anyhow::Result<Offsets> {
        if of.is_empty() {
            return Ok(Offsets::new());
        }
        let mut list = TopicPartitionList::with_capacity(of.len());
        for (topic, partition) in of {
            list.add_partition_offset(&self.names.topic(topic), *partition, at).context("a list of partitions")?;
        }
        let found = client.offsets_for_times(list, ASK_TIMEOUT).context("asking where topics begin and end")?;
        let offsets = self.known(&found)?;
        // What isn't known must not look as if it were empty.
        anyhow::ensure!(offsets.len() == of.len(), "not every partition says where it begins and ends");
        Ok(offsets)
    }

    fn known(&self, list: &TopicPartitionList) -> anyhow::Result<Offsets> {
        let mut offsets = Offsets::new();
        for element in list.elements() {
            let at = (self.names.bare(element.topic()).to_owned(), element.partition());
            element.error().with_context(|| format!("the offsets of {}/{}", at.0, at.1))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(at, offset);
            }
        }
        Ok(offsets)
    }

    fn committed(
        &self,
        client: &BaseConsumer,
        group: Service,
        partitions: &BTreeSet<(String, i32)>,
    ) -> anyhow::Result<Offsets> {
        let reads: BTreeSet<String> = topics_read_by(group).collect();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions.iter().filter(|(topic, _)| reads.contains(topic)) {
            list.add_partition(&self.names.topic(topic), *partition);
        }
        if list.count() == 0 {
            return Ok(Offsets::new());
        }
        let committed =
            client.committed_offsets(list, ASK_TIMEOUT).with_context(|| format!("asking where {group} stands"))?;
        self.known(&committed)
    }
}

/// What a group reads: its topics of the catalogue, and its own.
pub fn topics_read_by(group: Service) -> Box<dyn Iterator<Item = String>> {
    let own = OwnTopic::ALL.into_iter().filter(|own| *own != OwnTopic::Dlt).map(move |own| own.name(group));
    if group == Service::SagaMonitor {
        return Box::new(events::topics());
    }
    Box::new(Topic::read_by(group).map(|topic| topic.name().to_owned()).chain(own))
}

fn topics_of_interest() -> impl Iterator<Item = String> {
    readers().flat_map(topics_read_by)
}
