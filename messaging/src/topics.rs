//! Topics on a cluster: their full names, and making a cluster look like the catalogue.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use common_events::{Service, Topic, catalogue::Retention};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
};
use serde::Serialize;
use service_runtime::museum::{self, Bug};

use crate::{ladder::OwnTopic, record::Record};

/// How long one question to the cluster may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a new partition may be without a leader.
const LED_WITHIN: Duration = Duration::from_secs(30);
const LED_LOOK_EVERY: Duration = Duration::from_millis(20);
/// A group's own topics keep their records longer than any event is remembered.
const GROUP_TOPIC_DAYS: u16 = 60;
const GROUP_TOPIC_PARTITIONS: i32 = 3;
/// Kafka's own default for a record.
const MAX_MESSAGE_BYTES: u32 = 1_048_588;
/// A group's own topics take this much more than the origin, for the headers on the way.
const HEADER_ALLOWANCE_BYTES: u32 = 64 * 1024;
/// The largest record there is.
pub(crate) const MAX_OWN_MESSAGE_BYTES: u32 = MAX_MESSAGE_BYTES + HEADER_ALLOWANCE_BYTES;

/// Full names: `TOPIC_PREFIX` goes before topics and groups, so that suites and tests share a cluster.
#[derive(Debug, Clone, Default)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names with this prefix; an empty one is none.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The full name of a topic of the catalogue, or of a group's own.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The consumer group of a service.
    pub fn group(&self, group: Service) -> String {
        format!("{}{group}", self.prefix)
    }

    /// The name without the prefix.
    pub fn bare<'n>(&self, full: &'n str) -> &'n str {
        full.strip_prefix(&self.prefix).unwrap_or(full)
    }
}

/// What a record takes beside key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 1_024;

/// Whether a group's own topics take this record with what the ladder adds to it. What its own topic took
/// compressed may be larger than it looked there.
pub(crate) fn own_topic_takes(record: &Record) -> bool {
    own_topic_takes_bytes(record.size()) || museum::is_back(Bug::TooLargeForItsTopic)
}

/// The same for so much of key, value and headers.
pub(crate) const fn own_topic_takes_bytes(bytes: usize) -> bool {
    bytes + RECORD_OVERHEAD_BYTES <= MAX_MESSAGE_BYTES as usize
}

/// The topic of a second cluster that holds what a service couldn't publish on the first.
pub fn producer_dead_letter_topic(service: Service) -> String {
    format!("{service}.producer-dlt")
}

/// How a topic should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Its full name.
    pub name: String,
    /// At least so many.
    pub partitions: i32,
    /// Its settings that differ from the cluster's.
    pub config: BTreeMap<String, String>,
}

/// Every topic of the catalogue, and the own topics of every group.
pub fn wanted(names: &Names) -> Vec<Wanted> {
    let of_catalogue = Topic::ALL.iter().map(|topic| {
        let spec = topic.spec();
        Wanted {
            name: names.topic(topic.name()),
            partitions: spec.partitions,
            config: config(spec.retention, MAX_MESSAGE_BYTES),
        }
    });
    let consumes = |service: &Service| Topic::read_by(*service).next().is_some();
    let of_group = |group: Service| {
        OwnTopic::ALL.map(|own| Wanted {
            name: names.topic(&own.name(group)),
            partitions: GROUP_TOPIC_PARTITIONS,
            config: config(Retention::Days(GROUP_TOPIC_DAYS), MAX_OWN_MESSAGE_BYTES),
        })
    };
    let of_groups = Service::ALL.iter().copied().filter(consumes).flat_map(of_group);
    of_catalogue.chain(of_groups).collect()
}

fn config(retention: Retention, max_message_bytes: u32) -> BTreeMap<String, String> {
    let (policy, retention_ms) = match retention {
        Retention::Days(days) => ("delete", (u64::from(days) * 24 * 60 * 60 * 1000).to_string()),
        Retention::ForEver => ("delete", "-1".to_owned()),
        Retention::Compacted => ("compact", "-1".to_owned()),
    };
    BTreeMap::from([
        ("cleanup.policy".to_owned(), policy.to_owned()),
        ("retention.ms".to_owned(), retention_ms),
        ("max.message.bytes".to_owned(), max_message_bytes.to_string()),
    ])
}

/// One thing to change on the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum Change {
    /// The topic isn't there.
    Create(Wanted),
    /// It has fewer partitions. Growing moves keys to other partitions.
    Grow {
        /// Full name.
        topic: String,
        /// Partitions now.
        from: i32,
        /// Partitions wanted.
        to: i32,
    },
    /// Settings differ.
    Configure {
        /// How it should be.
        wanted: Wanted,
        /// Setting → value now, of those that differ.
        now: BTreeMap<String, String>,
        /// What somebody set on the topic beside: it stays.
        others: BTreeMap<String, String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wanted) => {
                write!(f, "create    {} ({} partitions", wanted.name, wanted.partitions)?;
                wanted.config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))?;
                f.write_str(")")
            }
            Self::Grow { topic, from, to } => write!(f, "grow      {topic}: {from} → {to} partitions (moves keys)"),
            Self::Configure { wanted, now, others: _ } => {
                write!(f, "configure {}:", wanted.name)?;
                now.iter().try_for_each(|(key, value)| write!(f, " {key} {value} → {}", wanted.config[key]))
            }
        }
    }
}

/// A topic's settings: all that hold, and those that were set on the topic itself.
#[derive(Default)]
struct Config {
    all: BTreeMap<String, String>,
    set_here: BTreeMap<String, String>,
}

/// A cluster, to be asked and changed.
pub struct Cluster {
    admin: AdminClient<DefaultClientContext>,
}

impl Cluster {
    /// Connects.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn connect(settings: &service_runtime::settings::KafkaSettings) -> anyhow::Result<Self> {
        let admin = crate::kafka::client(settings).create().context("a Kafka admin client")?;
        Ok(Self { admin })
    }

    /// What to change so that the cluster is as wanted. Topics that nobody wants are left alone.
    ///
    /// # Errors
    /// When the cluster can't be asked.
    pub async fn plan(&self, wanted: &[Wanted]) -> anyhow::Result<Vec<Change>> {
        let partitions = self.partitions()?;
        let here: Vec<&Wanted> = wanted.iter().filter(|wanted| partitions.contains_key(&wanted.name)).collect();
        let configs = self.configs(&here).await?;
        let mut changes = Vec::new();
        for wanted in wanted {
            let Some(&from) = partitions.get(&wanted.name) else {
                changes.push(Change::Create(wanted.clone()));
                continue;
            };
            if from < wanted.partitions {
                changes.push(Change::Grow { topic: wanted.name.clone(), from, to: wanted.partitions });
            }
            let is = &configs[&wanted.name];
            let differs = |(key, value): &(&String, &String)| is.all.get(*key) != Some(*value);
            let now: BTreeMap<String, String> = wanted
                .config
                .iter()
                .filter(differs)
                .map(|(key, _)| (key.clone(), is.all.get(key).cloned().unwrap_or_default()))
                .collect();
            if !now.is_empty() {
                let is_other = |(key, _): &(&String, &String)| !wanted.config.contains_key(*key);
                let others = is.set_here.iter().filter(is_other).map(|(key, value)| (key.clone(), value.clone()));
                changes.push(Change::Configure { wanted: wanted.clone(), now, others: others.collect() });
            }
        }
        Ok(changes)
    }

    /// Makes the changes. Doing it again does nothing. New topics can be read and written when it returns.
    ///
    /// # Errors
    /// The first change the cluster refuses, by name; and a new partition that nobody leads in time.
    pub async fn apply(&self, changes: &[Change]) -> anyhow::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT)).request_timeout(Some(ADMIN_TIMEOUT));
        let created: Vec<NewTopic<'_>> = changes.iter().filter_map(as_new_topic).collect();
        if !created.is_empty() {
            for result in self.admin.create_topics(&created, &options).await.context("creating topics")? {
                match result {
                    // Somebody else was faster: that is what was wanted.
                    Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => bail!("creating {topic}: {code}"),
                }
            }
        }
        for change in changes {
            match change {
                Change::Create(_) => {}
                Change::Grow { topic, to, .. } => {
                    let count = usize::try_from(*to).context("a partition count")?;
                    let results = self.admin.create_partitions(&[NewPartitions::new(topic, count)], &options).await?;
                    refuse_failed(results)?;
                }
                Change::Configure { wanted, others, .. } => {
                    // This call takes back whatever it doesn't name.
                    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&wanted.name));
                    for (key, value) in others.iter().chain(&wanted.config) {
                        alter = alter.set(key, value);
                    }
                    for result in self.admin.alter_configs(&[alter], &options).await? {
                        result.map_err(|(_, code)| anyhow::anyhow!("configuring {}: {code}", wanted.name))?;
                    }
                }
            }
        }
        for change in changes {
            if let Change::Create(wanted) = change {
                self.until_led(wanted).await?;
            }
        }
        Ok(())
    }

    /// Waits until each partition of a new topic has a leader that answers. The controller knows of a topic before the
    /// brokers do.
    async fn until_led(&self, new: &Wanted) -> anyhow::Result<()> {
        let until = Instant::now() + LED_WITHIN;
        for partition in 0..new.partitions {
            while let Err(error) = self.admin.inner().fetch_watermarks(&new.name, partition, ADMIN_TIMEOUT) {
                if Instant::now() > until {
                    return Err(error).with_context(|| format!("nobody leads {}/{partition}", new.name));
                }
                tokio::time::sleep(LED_LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Deletes topics by their full names; those that aren't there are deleted already.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn delete(&self, topics: &[&str]) -> anyhow::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        for result in self.admin.delete_topics(topics, &options).await? {
            match result {
                Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => bail!("deleting {topic}: {code}"),
            }
        }
        Ok(())
    }

    fn partitions(&self) -> anyhow::Result<BTreeMap<String, i32>> {
        let metadata = self.admin.inner().fetch_metadata(None, ADMIN_TIMEOUT).context("asking for the topics")?;
        let count = |topic: &rdkafka::metadata::MetadataTopic| i32::try_from(topic.partitions().len());
        metadata.topics().iter().map(|topic| Ok((topic.name().to_owned(), count(topic)?))).collect()
    }

    async fn configs(&self, topics: &[&Wanted]) -> anyhow::Result<BTreeMap<String, Config>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|wanted| ResourceSpecifier::Topic(&wanted.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT));
        let answers = self.admin.describe_configs(&resources, &options).await.context("asking for topic settings")?;
        topics
            .iter()
            .zip(answers)
            .map(|(wanted, answer)| {
                let resource = answer.map_err(|code| anyhow::anyhow!("settings of {}: {code}", wanted.name))?;
                let mut config = Config::default();
                for ConfigEntry { name, value, source, .. } in resource.entries {
                    let Some(value) = value else { continue };
                    if source == ConfigSource::DynamicTopic {
                        config.set_here.insert(name.clone(), value.clone());
                    }
                    config.all.insert(name, value);
                }
                Ok((wanted.name.clone(), config))
            })
            .collect()
    }
}

fn as_new_topic(change: &Change) -> Option<NewTopic<'_>> {
    let Change::Create(wanted) = change else { return None };
    // −1: the cluster's default, which is 1 locally and 3 in production.
    let topic = NewTopic::new(&wanted.name, wanted.partitions, TopicReplication::Fixed(-1));
    Some(wanted.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value)))
}

fn refuse_failed(results: Vec<rdkafka::admin::TopicResult>) -> anyhow::Result<()> {
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("growing {topic}: {code}"))?;
    }
    Ok(())
}
