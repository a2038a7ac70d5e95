//! A record as it lay on a topic, byte for byte, and owned: it outlives the client that read it.

use chrono::{DateTime, Utc};
use common_events::Topic;

use crate::ladder::headers::{X_ORIGIN_OFFSET, X_ORIGIN_PARTITION, X_ORIGIN_TOPIC, X_RESUME};

/// One record. `topic` is the catalogue's name, without the suite's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub topic: String,
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// When the broker or the producer says it was written.
    pub timestamp: Option<DateTime<Utc>>,
    /// What it is ordered by.
    pub key: Option<Vec<u8>>,
    /// The event, if it is one. `None` is a tombstone of a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Names and values in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The last header of that name, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The topic whose event it carries: its own, or the one it was sent on from.
    pub fn event_topic(&self) -> &str {
        self.origin_topic().map_or(&*self.topic, |topic| topic.name())
    }

    /// Where it lay first, if it says so; else where it lies.
    pub(crate) fn origin(&self) -> (&str, i32, i64) {
        let first = || {
            let partition = self.header(X_ORIGIN_PARTITION)?.parse().ok()?;
            let offset = self.header(X_ORIGIN_OFFSET)?.parse().ok()?;
            Some((self.origin_topic()?.name(), partition, offset))
        };
        first().unwrap_or((&self.topic, self.partition, self.offset))
    }

    /// Whether it came from somewhere else.
    pub(crate) fn has_origin(&self) -> bool {
        self.origin_topic().is_some()
    }

    /// Only what lies on a group's own topic comes from somewhere else: on a topic of the catalogue
    /// nobody can call it an event of another.
    fn origin_topic(&self) -> Option<Topic> {
        if self.topic.parse::<Topic>().is_ok() {
            return None;
        }
        self.header(X_ORIGIN_TOPIC)?.parse().ok()
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }

    pub(crate) fn is_resume(&self) -> bool {
        self.header(X_RESUME).is_some()
    }
}
