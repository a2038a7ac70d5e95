//! A record as it lay on a topic, byte for byte, and owned: it outlives the client that read it.

use chrono::{DateTime, NaiveDate, Utc};
use common_events::{EventId, Topic, catalogue::Retention, envelope, time::is_writable};
use tokio_postgres::Row;

use crate::inbox;
use crate::ladder::headers::{X_EVENT_TOPIC, X_ORIGIN_OFFSET, X_ORIGIN_PARTITION, X_ORIGIN_TOPIC, X_RESUME};

/// The longest name that Kafka gives a topic.
const MAX_TOPIC_NAME_BYTES: usize = 249;

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

    /// The topic whose event it carries: its own, or the one of the catalogue that it was sent on from.
    pub fn event_topic(&self) -> &str {
        self.said_event_topic().map_or(&*self.topic, |topic| topic.name())
    }

    /// Where it lay first, if it says so; else where it lies.
    pub(crate) fn origin(&self) -> (&str, i32, i64) {
        self.said_origin().unwrap_or((&self.topic, self.partition, self.offset))
    }

    /// Whether it came from somewhere else.
    pub(crate) fn has_origin(&self) -> bool {
        self.said_origin().is_some() || self.said_event_topic().is_some()
    }

    /// Whose event it says it is, when where it lay first doesn't tell that.
    pub(crate) fn event_topic_beside_origin(&self) -> Option<Topic> {
        self.said_event_topic().filter(|topic| topic.name() != self.origin().0)
    }

    fn said_event_topic(&self) -> Option<Topic> {
        let said = |name| self.sent_on(name)?.parse().ok();
        said(X_EVENT_TOPIC).or_else(|| said(X_ORIGIN_TOPIC))
    }

    /// Believed whatever topic it names, also one that the catalogue doesn't know any more, or a group's own: what a
    /// record is known by must be the same at each of its hops. Half a place is none.
    fn said_origin(&self) -> Option<(&str, i32, i64)> {
        let topic = self.sent_on(X_ORIGIN_TOPIC).filter(|name| is_topic_name(name))?;
        Some((topic, self.sent_on(X_ORIGIN_PARTITION)?.parse().ok()?, self.sent_on(X_ORIGIN_OFFSET)?.parse().ok()?))
    }

    /// What a header says of where it comes from. Only what lies on a group's own topic comes from somewhere else: on a
    /// topic of the catalogue nobody can call it an event of another.
    fn sent_on(&self, name: &str) -> Option<&str> {
        if self.topic.parse::<Topic>().is_ok() { None } else { self.header(name) }
    }

    /// The inbox's row of an event that was readable once, as far as its label can be read now.
    pub(crate) fn peek_identity(&self) -> Option<(NaiveDate, EventId)> {
        let topic = self.event_topic().parse::<Topic>().ok()?;
        let peeked = envelope::peek(self.value.as_deref()?);
        let day = match topic.spec().retention {
            Retention::Days(_) => storable(peeked.time)?.date_naive(),
            Retention::ForEver | Retention::Compacted => inbox::STANDING,
        };
        Some((day, peeked.id?))
    }

    /// A record that is kept in the database: `topic, partition, offset, timestamp, key, payload,
    /// header_names, header_values`.
    pub(crate) fn read(row: &Row) -> Self {
        let names: Vec<String> = row.get(6);
        let values: Vec<Vec<u8>> = row.get(7);
        Self {
            topic: row.get(0),
            partition: row.get(1),
            offset: row.get(2),
            timestamp: row.get(3),
            key: row.get(4),
            value: row.get(5),
            headers: names.into_iter().zip(values).collect(),
        }
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

/// The headers of several records, one after another, for a statement that takes each record's slice:
/// `names[from:to]`, counted from 1.
#[derive(Default)]
pub(crate) struct HeaderColumns<'h> {
    pub(crate) names: Vec<String>,
    pub(crate) values: Vec<&'h [u8]>,
    pub(crate) from: Vec<i32>,
    pub(crate) to: Vec<i32>,
}

impl<'h> HeaderColumns<'h> {
    pub(crate) fn of(records: impl Iterator<Item = &'h [(String, Vec<u8>)]>) -> Self {
        let mut columns = Self::default();
        let count = |columns: &Self| i32::try_from(columns.names.len()).expect("a batch has few headers");
        for headers in records {
            columns.from.push(count(&columns) + 1);
            for (name, value) in headers {
                columns.names.push(without_nul(name));
                columns.values.push(value);
            }
            columns.to.push(count(&columns));
        }
        columns
    }
}

fn is_topic_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_legal)
}

/// A time that PostgreSQL can hold and answers can write; a hostile record's may be another.
pub(crate) fn storable(time: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    time.filter(is_writable)
}

/// PostgreSQL's text can't hold NUL; a hostile record can.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
