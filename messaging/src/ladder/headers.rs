//! The headers that a record carries on the ladder (docs/contract.md §5). Key, payload and the record's own headers
//! go along byte for byte; these are written anew at each hop.

use chrono::{DateTime, SecondsFormat, Utc};
use common_events::Service;

use crate::record::{Record, storable, without_nul};

/// Set by whoever wants the kept answers of an event published again (docs/decisions/0009).
pub const X_RESUME: &str = "x-resume";
/// The topic a record on a group's own topic came from, without prefix.
pub const X_ORIGIN_TOPIC: &str = "x-origin-topic";
/// The partition it lay on there.
pub const X_ORIGIN_PARTITION: &str = "x-origin-partition";
/// Its offset there.
pub const X_ORIGIN_OFFSET: &str = "x-origin-offset";
/// When it was written there, as its broker or producer says; RFC 3339, UTC, like all times here.
pub const X_ORIGIN_TIMESTAMP: &str = "x-origin-timestamp";
/// Whose event it is, when that isn't the topic it came from: it was put on a group's own topic for it.
pub const X_EVENT_TOPIC: &str = "x-event-topic";
/// Attempts made so far, those in place too.
pub const X_ATTEMPT: &str = "x-attempt";
/// When the first of them failed.
pub const X_FIRST_FAILED_AT: &str = "x-first-failed-at";
/// Not handled before this moment. Only on retry topics.
pub const X_DUE_AT: &str = "x-due-at";
/// What kind of failure the last one was.
pub const X_ERROR_CLASS: &str = "x-error-class";
/// What the last one said; at most [`MAX_MESSAGE_BYTES`].
pub const X_ERROR_MESSAGE: &str = "x-error-message";
/// The group in which it failed.
pub const X_GROUP: &str = "x-group";
/// Which move of the event brought it here; the inbox knows the latest, and drops all others.
pub const X_HOP: &str = "x-hop";

/// What a hop writes, and so what it takes off the record first.
const OF_THE_LADDER: [&str; 12] = [
    X_ORIGIN_TOPIC,
    X_ORIGIN_PARTITION,
    X_ORIGIN_OFFSET,
    X_ORIGIN_TIMESTAMP,
    X_EVENT_TOPIC,
    X_ATTEMPT,
    X_FIRST_FAILED_AT,
    X_DUE_AT,
    X_ERROR_CLASS,
    X_ERROR_MESSAGE,
    X_GROUP,
    X_HOP,
];

/// The longest error message that is kept, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2_000;
/// The longest error class; ours are shorter, a stranger's need not be.
const MAX_CLASS_BYTES: usize = 100;
/// No record of ours says that it was tried more often.
const MAX_ATTEMPTS: u32 = 1_000_000;

/// How a record's handling failed, the last time and over all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) class: String,
    pub(crate) message: String,
    /// Made so far.
    pub(crate) attempts: u32,
    pub(crate) first_failed_at: DateTime<Utc>,
}

/// Where a hop leads, as far as the record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) number: i32,
    pub(crate) due_at: Option<DateTime<Utc>>,
}

impl Trouble {
    /// Bounded, and without what neither a header nor PostgreSQL's text can hold.
    pub(crate) fn new(class: &str, message: &str, attempts: u32, first_failed_at: DateTime<Utc>) -> Self {
        let bounded = |text: &str, most: usize| {
            let text = without_nul(text);
            text[..text.floor_char_boundary(most)].to_owned()
        };
        let (class, message) = (bounded(class, MAX_CLASS_BYTES), bounded(message, MAX_MESSAGE_BYTES));
        Self { class, message, attempts, first_failed_at }
    }
}

/// The headers of `record` for its way to one of the group's own topics.
pub(crate) fn on_the_way(record: &Record, group: Service, hop: Hop, trouble: &Trouble) -> Vec<(String, Vec<u8>)> {
    let (topic, partition, offset) = record.origin();
    let mut headers = own_headers(record);
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    add(X_ORIGIN_TOPIC, topic.to_owned());
    add(X_ORIGIN_PARTITION, partition.to_string());
    add(X_ORIGIN_OFFSET, offset.to_string());
    if let Some(timestamp) = record.origin_timestamp() {
        add(X_ORIGIN_TIMESTAMP, text(timestamp));
    }
    add(X_ATTEMPT, trouble.attempts.to_string());
    add(X_FIRST_FAILED_AT, text(trouble.first_failed_at));
    if let Some(due_at) = hop.due_at {
        add(X_DUE_AT, text(due_at));
    }
    add(X_ERROR_CLASS, trouble.class.clone());
    add(X_ERROR_MESSAGE, trouble.message.clone());
    add(X_GROUP, group.name().to_owned());
    add(X_HOP, hop.number.to_string());
    headers
}

/// What the record carried before it failed for the first time, but for what is called like a header of the ladder. Whose
/// event it is goes along when its origin doesn't say so.
pub(crate) fn own_headers(record: &Record) -> Vec<(String, Vec<u8>)> {
    let is_ours = |name: &str| OF_THE_LADDER.contains(&name);
    let own = record.headers.iter().filter(|(name, _)| !is_ours(name)).cloned();
    let event_topic = record.event_topic_beside_origin().map(|topic| (X_EVENT_TOPIC.to_owned(), topic.name().into()));
    own.chain(event_topic).collect()
}

/// What is kept of a record's headers with it: all, but for what a hop wrote.
pub(crate) fn headers_to_keep(record: &Record) -> Vec<(String, Vec<u8>)> {
    if record.has_origin() { own_headers(record) } else { record.headers.clone() }
}

impl Record {
    /// Not to be handled before this.
    pub(crate) fn due_at(&self) -> Option<DateTime<Utc>> {
        self.time(X_DUE_AT)
    }

    /// Which move brought it here.
    pub(crate) fn hop(&self) -> Option<i32> {
        self.header(X_HOP)?.parse().ok()
    }

    /// Attempts made before it came here; 0 when it doesn't say.
    pub(crate) fn attempts(&self) -> u32 {
        self.header(X_ATTEMPT).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default().min(MAX_ATTEMPTS)
    }

    /// When handling it failed for the first time.
    pub(crate) fn first_failed_at(&self) -> Option<DateTime<Utc>> {
        self.time(X_FIRST_FAILED_AT)
    }

    /// When it was written where it lay first.
    pub(crate) fn origin_timestamp(&self) -> Option<DateTime<Utc>> {
        if self.has_origin() { self.time(X_ORIGIN_TIMESTAMP) } else { storable(self.timestamp) }
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        storable(self.header(name)?.parse().ok())
    }
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
