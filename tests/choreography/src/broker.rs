//! Where the broker would be: logs with partitions, and each group's position in them.

use std::collections::BTreeMap;

use chrono::Utc;
use common_events::{EventId, Service, envelope};
use messaging::Record;
use uuid::Uuid;

/// As many as the catalogue's topics begin with.
pub(crate) const PARTITIONS: usize = 3;

/// A partition of a topic, as one group reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reading {
    pub(crate) group: Service,
    /// One of the catalogue, or one of the group's own.
    pub(crate) topic: String,
    pub(crate) partition: usize,
}

/// What somebody publishes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// How long each log was.
pub(crate) type Ends = BTreeMap<(String, usize), usize>;

/// What lies on a partition.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    /// Which event each of them is; it is asked after every step.
    ids: Vec<Option<Uuid>>,
}

/// All logs of a history, and who has read how far.
#[derive(Default)]
pub(crate) struct Broker {
    logs: BTreeMap<(String, usize), Log>,
    positions: BTreeMap<Reading, usize>,
    /// Keys in the order they came: ids differ from run to run, the partitions of a seed must not.
    keys: BTreeMap<Vec<u8>, usize>,
}

impl Broker {
    /// Appends a record; order is kept per key.
    pub(crate) fn append(&mut self, message: Message) {
        let Message { topic, key, value, headers } = message;
        let newest = self.keys.len();
        let partition = key.as_ref().map_or(0, |key| *self.keys.entry(key.clone()).or_insert(newest)) % PARTITIONS;
        let log = self.logs.entry((topic.clone(), partition)).or_default();
        log.ids.push(value.as_deref().and_then(|value| envelope::peek(value).id).map(EventId::uuid));
        log.records.push(Record {
            topic,
            partition: i32::try_from(partition).expect("below PARTITIONS"),
            offset: i64::try_from(log.ids.len() - 1).expect("a short log"),
            timestamp: Some(Utc::now()),
            key,
            value,
            headers,
        });
    }

    /// The readings with something left to read, in a fixed order.
    pub(crate) fn waiting(&self, topics_of: &[(Service, Vec<String>)]) -> Vec<Reading> {
        let mut waiting = Vec::new();
        for (group, topics) in topics_of {
            for topic in topics {
                for partition in 0..PARTITIONS {
                    let reading = Reading { group: *group, topic: topic.clone(), partition };
                    if !self.unread(&reading).is_empty() {
                        waiting.push(reading);
                    }
                }
            }
        }
        waiting
    }

    /// What this reading has before it.
    pub(crate) fn unread(&self, reading: &Reading) -> &[Record] {
        self.log(reading).get(self.position(reading)..).unwrap_or_default()
    }

    /// Which events lie there, and how many of these records it has behind it.
    pub(crate) fn ids(&self, reading: &Reading) -> (&[Option<Uuid>], usize) {
        (self.find(reading).map(|log| log.ids.as_slice()).unwrap_or_default(), self.position(reading))
    }

    /// What a group has behind it, on any topic.
    pub(crate) fn read_by(&self, group: Service) -> impl Iterator<Item = &Record> {
        let read = self.positions.iter().filter(move |(reading, _)| reading.group == group);
        read.flat_map(|(reading, position)| &self.log(reading)[..*position])
    }

    /// How far this reading is.
    pub(crate) fn position(&self, reading: &Reading) -> usize {
        self.positions.get(reading).copied().unwrap_or_default()
    }

    /// Moves the offset on to `position`; never back.
    pub(crate) fn commit(&mut self, reading: &Reading, position: usize) {
        let committed = self.positions.entry(reading.clone()).or_default();
        *committed = position.max(*committed);
    }

    /// Moves the offset back: everything from there is delivered again. Returns whether it moved.
    pub(crate) fn rewind(&mut self, reading: &Reading, to: usize) -> bool {
        let position = self.positions.entry(reading.clone()).or_default();
        let moves = to < *position;
        *position = to.min(*position);
        moves
    }

    /// Moves all offsets to the beginning.
    pub(crate) fn rewind_all(&mut self) {
        self.positions.clear();
    }

    /// How long each log is by now.
    pub(crate) fn ends(&self) -> Ends {
        self.logs.iter().map(|(place, log)| (place.clone(), log.ids.len())).collect()
    }

    /// What was published before these ends.
    pub(crate) fn before<'b>(&'b self, ends: &'b Ends) -> impl Iterator<Item = &'b Record> {
        self.logs.iter().flat_map(|(place, log)| &log.records[..ends.get(place).copied().unwrap_or_default()])
    }

    /// What was published behind these ends.
    pub(crate) fn since<'b>(&'b self, ends: &'b Ends) -> impl Iterator<Item = &'b Record> {
        self.logs.iter().flat_map(|(place, log)| &log.records[ends.get(place).copied().unwrap_or_default()..])
    }

    /// Everything that was published, topic by topic.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.logs.values().flat_map(|log| &log.records)
    }

    /// Everything that lies there.
    pub(crate) fn log(&self, reading: &Reading) -> &[Record] {
        self.find(reading).map(|log| log.records.as_slice()).unwrap_or_default()
    }

    fn find(&self, reading: &Reading) -> Option<&Log> {
        self.logs.get(&(reading.topic.clone(), reading.partition))
    }
}
