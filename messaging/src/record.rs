//! A record as it lay on a topic, byte for byte, and owned: it outlives the client that read it.

use chrono::{DateTime, Utc};

/// Set on a record by whoever wants the kept answers of an event published again (DESIGN §2).
pub const X_RESUME: &str = "x-resume";
/// The topic a record on a group's own topic came from, without prefix.
pub const X_ORIGIN_TOPIC: &str = "x-origin-topic";

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
        self.header(X_ORIGIN_TOPIC).unwrap_or(&self.topic)
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
