//! What takes nothing: a topic that isn't there or may not be written, and a key of which a record is refused for good. Their
//! rows wait in the outbox, whose order they keep, and the rest flows. Every now and then the lowest row of such a lane is
//! tried, alone; once Kafka takes it, what is behind it follows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use metrics::gauge;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// When a lane is tried again: at first, and at last.
const FIRST_TRY: Duration = Duration::from_secs(1);
const LAST_TRY: Duration = Duration::from_secs(30);
/// With so many keys barred it is the topic that takes nothing.
const MAX_KEYS_OF_TOPIC: usize = 100;

/// Rows that go one behind the other: those of a topic, or of one key of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) topic: String,
    /// `None`: whatever the key.
    pub(super) key: Option<Vec<u8>>,
}

impl Lane {
    pub(super) fn of_topic(topic: &str) -> Self {
        Self { topic: topic.to_owned(), key: None }
    }

    /// Whether a row of that topic and key goes in it.
    pub(super) fn has(&self, topic: &str, key: Option<&[u8]>) -> bool {
        self.topic == topic && (self.key.is_none() || self.key.as_deref() == key)
    }
}

/// The lanes of one database that take nothing.
pub(super) struct Barred {
    database: &'static str,
    lanes: BTreeMap<Lane, Bar>,
}

struct Bar {
    try_at: Instant,
    wait: Duration,
}

impl Barred {
    pub(super) const fn new(database: &'static str) -> Self {
        Self { database, lanes: BTreeMap::new() }
    }

    /// A row of the lane was refused. True if the lane wasn't barred before.
    pub(super) fn bar(&mut self, lane: Lane) -> bool {
        let keys = self.lanes.keys().filter(|barred| barred.topic == lane.topic).count();
        let lane = if keys < MAX_KEYS_OF_TOPIC { lane } else { Lane::of_topic(&lane.topic) };
        if self.has(&lane.topic, lane.key.as_deref()) {
            return false;
        }
        self.tell(&lane.topic, 1.0);
        self.lanes.insert(lane, Bar { try_at: Instant::now() + FIRST_TRY, wait: FIRST_TRY });
        true
    }

    /// What a barred topic was tried by is refused whatever its topic takes: the next try leaves that key out.
    pub(super) fn set_apart(&mut self, topic: &Lane, key: Lane) {
        let soon = || Bar { try_at: Instant::now() + FIRST_TRY, wait: FIRST_TRY };
        self.lanes.insert(key, soon());
        self.lanes.insert(topic.clone(), soon());
    }

    /// The keys of a topic that are barred by themselves, when the topic is what is asked about.
    pub(super) fn keys_apart(&self, lane: &Lane) -> Vec<&[u8]> {
        let of_topic = self.lanes.keys().filter(|barred| lane.key.is_none() && barred.topic == lane.topic);
        of_topic.filter_map(|barred| barred.key.as_deref()).collect()
    }

    /// The lane took nothing when it was tried.
    pub(super) fn note_failed_try(&mut self, lane: &Lane) {
        if let Some(bar) = self.lanes.get_mut(lane) {
            bar.wait = (bar.wait * 2).min(LAST_TRY);
            bar.try_at = Instant::now() + bar.wait;
        }
    }

    /// The row by which the lane was tried came back without having been sent.
    pub(super) fn try_at_once(&mut self, lane: &Lane) {
        if let Some(bar) = self.lanes.get_mut(lane) {
            bar.try_at = Instant::now();
        }
    }

    /// Another relay leads now, and knows by itself what its lanes take.
    pub(super) fn lift_all(&mut self) {
        for lane in std::mem::take(&mut self.lanes).into_keys() {
            self.tell(&lane.topic, 0.0);
        }
    }

    /// The lane takes rows. True if it was barred.
    pub(super) fn lift(&mut self, lane: &Lane) -> bool {
        let was_barred = self.lanes.remove(lane).is_some();
        if was_barred && !self.lanes.keys().any(|barred| barred.topic == lane.topic) {
            self.tell(&lane.topic, 0.0);
        }
        was_barred
    }

    /// Whether a row of that topic and key has to wait.
    pub(super) fn has(&self, topic: &str, key: Option<&[u8]>) -> bool {
        self.lanes.keys().any(|lane| lane.has(topic, key))
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }

    /// The one that waits for its next try for longest, if it is to be tried now; and not again before its next time. One
    /// of which something is still on its way is left out.
    pub(super) fn take_due(&mut self, is_on_its_way: impl Fn(&Lane) -> bool) -> Option<Lane> {
        let now = Instant::now();
        let due = self.lanes.iter_mut().filter(|(lane, bar)| bar.try_at <= now && !is_on_its_way(lane));
        let (lane, bar) = due.min_by_key(|(_, bar)| bar.try_at)?;
        bar.try_at = now + LAST_TRY;
        Some(lane.clone())
    }

    fn tell(&self, topic: &str, is_barred: f64) {
        gauge!("outbox_topic_refused", "database" => self.database, "topic" => topic.to_owned()).set(is_barred);
    }
}

/// What Kafka doesn't take, rather than that it can't be asked: then waiting for Kafka doesn't help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Topic,
    /// Others of its topic may be taken.
    Record,
}

impl Refused {
    pub(super) fn of(error: &KafkaError) -> Option<Self> {
        match error.rdkafka_error_code()? {
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation => Some(Self::Topic),
            RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessageSize => Some(Self::Record),
            _ => None,
        }
    }

    /// For the log.
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Topic => "the topic takes nothing: its rows wait, others go on",
            Self::Record => "a record is refused: rows of its key wait, others go on",
        }
    }

    /// What has to wait when a row of that topic and key was refused.
    pub(super) fn lane(self, topic: &str, key: Option<&[u8]>) -> Lane {
        let key = key.filter(|_| self == Self::Record).map(<[u8]>::to_vec);
        Lane { topic: topic.to_owned(), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn nothing_is(_: &Lane) -> bool {
        false
    }

    #[test]
    fn a_lane_is_tried_ever_less_often_until_it_takes_something() {
        let (mut barred, gone) = (Barred::new("orders"), Lane::of_topic("gone"));
        assert!(barred.bar(gone.clone()) && !barred.bar(gone.clone()), "told of once");
        assert_eq!(barred.lanes[&gone].wait, FIRST_TRY);
        for _ in 0..10 {
            barred.note_failed_try(&gone);
        }
        assert_eq!((barred.lanes[&gone].wait, barred.take_due(nothing_is)), (LAST_TRY, None));
        barred.try_at_once(&gone);
        assert_eq!(barred.take_due(|_| true), None, "what is on its way comes first");
        assert_eq!(
            (barred.take_due(nothing_is), barred.take_due(nothing_is)),
            (Some(gone.clone()), None),
            "one at a time"
        );
        assert!(barred.lift(&gone) && !barred.lift(&gone) && !barred.has("gone", None));
    }

    #[test]
    fn whoever_waits_longest_is_tried_first() {
        let mut barred = Barred::new("orders");
        for topic in ["a", "b", "c"] {
            barred.bar(Lane::of_topic(topic));
        }
        for topic in ["b", "c", "a"] {
            barred.try_at_once(&Lane::of_topic(topic));
        }
        let due: Vec<String> = std::iter::from_fn(|| barred.take_due(nothing_is)).map(|lane| lane.topic).collect();
        assert_eq!(due, ["b", "c", "a"]);
    }

    #[test]
    fn a_record_that_is_refused_holds_up_its_key_only_unless_there_are_many() {
        let mut barred = Barred::new("orders");
        let lane = |n: usize| Refused::Record.lane("orders", Some(n.to_string().as_bytes()));
        barred.bar(lane(0));
        assert!(barred.has("orders", Some(b"0")) && !barred.has("orders", Some(b"1")) && !barred.has("orders", None));
        assert!(!barred.has("others", Some(b"0")));
        for n in 1..=MAX_KEYS_OF_TOPIC {
            barred.bar(lane(n));
        }
        assert!(barred.has("orders", Some(b"another")), "then it is the topic");
        let topic = Lane::of_topic("orders");
        assert_eq!(barred.keys_apart(&topic).len(), MAX_KEYS_OF_TOPIC, "by which the topic isn't tried");
        barred.set_apart(&topic, lane(MAX_KEYS_OF_TOPIC));
        assert_eq!(barred.keys_apart(&topic).len(), MAX_KEYS_OF_TOPIC + 1);
        assert!(barred.has("orders", Some(b"another")), "until it takes something");
        assert_eq!(
            Refused::Record.lane("orders", None),
            Lane::of_topic("orders"),
            "without a key there is no smaller lane"
        );
        assert_eq!(Refused::Topic.lane("orders", Some(b"0")), Lane::of_topic("orders"));
    }
}
