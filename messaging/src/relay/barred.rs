//! Topics that take nothing: one that isn't there, may not be written, or refuses a record for good. Their rows wait in
//! the outbox, whose order they keep, and what goes to other topics flows. Every now and then the lowest row of such a
//! topic is tried, alone; once Kafka takes it, the rest follows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use metrics::gauge;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// When a topic is tried again: at first, and at last.
const FIRST_TRY: Duration = Duration::from_secs(1);
const LAST_TRY: Duration = Duration::from_secs(30);

/// The topics of one database that take nothing.
pub(super) struct Barred {
    database: &'static str,
    topics: BTreeMap<String, Bar>,
}

struct Bar {
    try_at: Instant,
    wait: Duration,
}

impl Barred {
    pub(super) const fn new(database: &'static str) -> Self {
        Self { database, topics: BTreeMap::new() }
    }

    /// The topic refused a row. True if it wasn't barred before.
    pub(super) fn bar(&mut self, topic: &str) -> bool {
        if self.has(topic) {
            return false;
        }
        self.tell(topic, 1.0);
        self.topics.insert(topic.to_owned(), Bar { try_at: Instant::now() + FIRST_TRY, wait: FIRST_TRY });
        true
    }

    /// The topic took nothing when it was tried.
    pub(super) fn note_failed_try(&mut self, topic: &str) {
        if let Some(bar) = self.topics.get_mut(topic) {
            bar.wait = (bar.wait * 2).min(LAST_TRY);
            bar.try_at = Instant::now() + bar.wait;
        }
    }

    /// The row by which the topic was tried came back without having been sent.
    pub(super) fn try_at_once(&mut self, topic: &str) {
        if let Some(bar) = self.topics.get_mut(topic) {
            bar.try_at = Instant::now();
        }
    }

    /// Another relay leads now, and knows by itself what its topics take.
    pub(super) fn lift_all(&mut self) {
        for topic in self.names().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            self.lift(&topic);
        }
    }

    /// The topic takes rows. True if it was barred.
    pub(super) fn lift(&mut self, topic: &str) -> bool {
        let was_barred = self.topics.remove(topic).is_some();
        if was_barred {
            self.tell(topic, 0.0);
        }
        was_barred
    }

    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.topics.keys().map(String::as_str).collect()
    }

    /// One that is to be tried now, and not again before its next time.
    pub(super) fn take_due(&mut self) -> Option<String> {
        let now = Instant::now();
        let (topic, bar) = self.topics.iter_mut().find(|(_, bar)| bar.try_at <= now)?;
        bar.try_at = now + LAST_TRY;
        Some(topic.clone())
    }

    fn tell(&self, topic: &str, is_barred: f64) {
        gauge!("outbox_topic_refused", "database" => self.database, "topic" => topic.to_owned()).set(is_barred);
    }
}

/// Whether it is the topic, or the record, that Kafka doesn't take, rather than that it can't be asked: then waiting for
/// Kafka doesn't help.
pub(super) fn is_refused(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_tried_ever_less_often_until_it_takes_something() {
        let mut barred = Barred::new("orders");
        assert!(barred.bar("gone") && !barred.bar("gone"), "told of once");
        assert_eq!(barred.topics["gone"].wait, FIRST_TRY);
        for _ in 0..10 {
            barred.note_failed_try("gone");
        }
        assert_eq!((barred.topics["gone"].wait, barred.take_due()), (LAST_TRY, None));
        barred.topics.get_mut("gone").expect("barred").try_at = Instant::now();
        assert_eq!((barred.take_due().as_deref(), barred.take_due()), (Some("gone"), None), "one try at a time");
        assert!(barred.lift("gone") && !barred.lift("gone") && !barred.has("gone"));
    }
}
