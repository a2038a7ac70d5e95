//! `CloudEvents` 1.0, structured mode: what a record's value is (docs/contract.md §4).
//!
//! ```json
//! {"specversion":"1.0","id":"0190…","source":"/order-service","type":"order-created",
//!  "subject":"<key>","time":"2026-11-21T06:00:00.123Z","datacontenttype":"application/json",
//!  "dataschema":"urn:commerce:order-created:1","traceparent":"00-…-…-01","traceid":"4bf9…","data":{}}
//! ```

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    EventId, Topic, TraceId, TraceParent,
    versions::{EventData, read_data, tell_as_before},
};

/// The value of the Kafka header `content-type` of every event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The Kafka header (and `CloudEvents` attribute) with the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The version of `CloudEvents`.
pub const SPEC_VERSION: &str = "1.0";
/// What an event's `data` is.
pub const DATA_CONTENT_TYPE: &str = "application/json";

/// One event, as it lies on a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<T> {
    /// What consumers de-duplicate by.
    pub id: EventId,
    /// When it happened: when it was written down by its service.
    pub time: DateTime<Utc>,
    /// The record's key.
    pub subject: String,
    /// Where it stands in its saga's trace.
    pub trace: TraceParent,
    /// What happened.
    pub data: T,
}

/// Why a record can't be read as the event it should be. None of these gets better by trying again.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the event's schema; the cause names the place.
    #[error("not a {expected} event")]
    Schema {
        /// The type that the topic carries.
        expected: Topic,
        /// Where reading stopped.
        source: serde_json::Error,
    },
    /// A `CloudEvent` of another type than the topic's.
    #[error("type {found:?} on topic {expected}")]
    Type {
        /// The type that the topic carries.
        expected: Topic,
        /// The type that the event names.
        found: String,
    },
    /// A newer version of the type than this reader knows: one that is deployed later reads it.
    #[error("dataschema {found:?}, this reader knows {newest:?} and older ones")]
    Newer {
        /// The newest schema this reader knows.
        newest: String,
        /// The schema the event names.
        found: String,
    },
    /// No version of the type.
    #[error("dataschema {found:?}, which is none of {expected}")]
    Version {
        /// The type that the topic carries.
        expected: Topic,
        /// The schema the event names.
        found: String,
    },
    /// `specversion` isn't 1.0, or `traceid` and `traceparent` name different traces.
    #[error("{0}")]
    Attribute(&'static str),
}

impl DecodeError {
    /// Whether a release that is deployed later reads it: then nothing is wrong with the event, and it is kept for that.
    pub const fn is_of_newer(&self) -> bool {
        match self {
            Self::Newer { .. } => true,
            Self::Schema { .. } | Self::Type { .. } | Self::Version { .. } | Self::Attribute(_) => false,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<'a, T> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: EventId,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    subject: String,
    #[serde(serialize_with = "milliseconds")]
    time: DateTime<Utc>,
    #[serde(borrow)]
    datacontenttype: Cow<'a, str>,
    #[serde(borrow)]
    dataschema: Cow<'a, str>,
    traceparent: TraceParent,
    traceid: TraceId,
    data: T,
}

fn milliseconds<S: serde::Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The name of a schema: `urn:commerce:<type>:<version>`.
pub fn schema_urn(topic: Topic, version: u32) -> String {
    format!("urn:commerce:{topic}:{version}")
}

/// The version that the name of a schema of this type says.
fn schema_version(topic: Topic, urn: &str) -> Option<u32> {
    let version = urn.rsplit_once(':')?.1.parse().ok()?;
    (version > 0 && schema_urn(topic, version) == urn).then_some(version)
}

/// Writes the event as the bytes of a record's value: in the newest version, or in one before that is still told.
///
/// # Errors
/// When `data` can't be written as JSON, which no type of this crate does.
pub fn encode<T: EventData>(event: &Event<T>) -> Result<Vec<u8>, serde_json::Error> {
    tell_as_before(event).unwrap_or_else(|| encode_newest(event))
}

/// The same in the version that the type is, whoever may not know it yet.
///
/// # Errors
/// As [`encode`].
pub fn encode_newest<T: EventData>(event: &Event<T>) -> Result<Vec<u8>, serde_json::Error> {
    let topic = T::TOPIC;
    serde_json::to_vec(&Wire {
        specversion: SPEC_VERSION.into(),
        id: event.id,
        source: format!("/{}", topic.spec().writer).into(),
        kind: topic.name().into(),
        subject: event.subject.clone(),
        time: event.time,
        datacontenttype: DATA_CONTENT_TYPE.into(),
        dataschema: schema_urn(topic, T::VERSION).into(),
        traceparent: event.trace,
        traceid: event.trace.trace_id,
        data: &event.data,
    })
}

/// Reads a record's value as the event its topic carries, whichever of its versions it is. Fields that its version
/// doesn't know are skipped, so that a writer may add optional ones.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<T: EventData>(value: &[u8]) -> Result<Event<T>, DecodeError> {
    let schema = |source| DecodeError::Schema { expected: T::TOPIC, source };
    // Nearly all are of the newest version, so that is tried at once.
    let read: Result<Wire<'_, T>, _> = serde_json::from_slice(value);
    let version = match &read {
        Ok(wire) => check_label::<T>(&wire.specversion, &wire.kind, &wire.dataschema)?,
        // A type or version that isn't ours says more than the field that was missing.
        Err(_) => peek_version::<T>(value)?,
    };
    if version == T::VERSION {
        return read.map_err(schema)?.event();
    }
    let older: Wire<'_, &RawValue> = serde_json::from_slice(value).map_err(schema)?;
    let version = check_label::<T>(&older.specversion, &older.kind, &older.dataschema)?;
    let data = read_data(version, older.data.get()).map_err(schema)?;
    Ok(older.event()?.map(|_| data))
}

/// Reads the data of an event whose `dataschema` is this, for who reads the rest in another way.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_data<T: EventData>(dataschema: &str, data: &str) -> Result<T, DecodeError> {
    let version = check_schema::<T>(dataschema)?;
    read_data(version, data).map_err(|source| DecodeError::Schema { expected: T::TOPIC, source })
}

/// Which version of `T`'s type it is.
fn check_label<T: EventData>(specversion: &str, kind: &str, dataschema: &str) -> Result<u32, DecodeError> {
    if specversion != SPEC_VERSION {
        return Err(DecodeError::Attribute("specversion is not 1.0"));
    }
    if kind != T::TOPIC.name() {
        return Err(DecodeError::Type { expected: T::TOPIC, found: kind.to_owned() });
    }
    check_schema::<T>(dataschema)
}

fn check_schema<T: EventData>(dataschema: &str) -> Result<u32, DecodeError> {
    let found = || dataschema.to_owned();
    match schema_version(T::TOPIC, dataschema) {
        Some(version) if version <= T::VERSION => Ok(version),
        Some(_) => Err(DecodeError::Newer { newest: schema_urn(T::TOPIC, T::VERSION), found: found() }),
        None => Err(DecodeError::Version { expected: T::TOPIC, found: found() }),
    }
}

/// The version of what can't be read as the newest; the newest where its label can't be read either.
fn peek_version<T: EventData>(value: &[u8]) -> Result<u32, DecodeError> {
    let Peeked { kind: Some(kind), dataschema: Some(dataschema), .. } = peek(value) else { return Ok(T::VERSION) };
    check_label::<T>(SPEC_VERSION, &kind, &dataschema)
}

impl<T> Wire<'_, T> {
    fn event(self) -> Result<Event<T>, DecodeError> {
        if self.traceparent.trace_id != self.traceid {
            return Err(DecodeError::Attribute("traceid and traceparent name different traces"));
        }
        let Self { id, time, subject, traceparent: trace, data, .. } = self;
        Ok(Event { id, time, subject, trace, data })
    }
}

impl<T> Event<T> {
    /// The same event, saying something else.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Event<U> {
        let Self { id, time, subject, trace, data } = self;
        Event { id, time, subject, trace, data: to(data) }
    }
}

/// What can be read of a record that need not be an event at all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// Its id, when it has a valid one.
    pub id: Option<EventId>,
    /// Its type.
    pub kind: Option<String>,
    /// When it happened.
    pub time: Option<DateTime<Utc>>,
    /// Its schema.
    pub dataschema: Option<String>,
    /// Its trace context.
    pub trace: Option<TraceParent>,
}

/// Reads the label of whatever the value is, as far as there is one. Never fails.
pub fn peek(value: &[u8]) -> Peeked {
    #[derive(Deserialize)]
    struct Label {
        id: Option<serde_json::Value>,
        #[serde(rename = "type")]
        kind: Option<serde_json::Value>,
        time: Option<serde_json::Value>,
        dataschema: Option<serde_json::Value>,
        traceparent: Option<serde_json::Value>,
    }
    fn read<T: DeserializeOwned>(value: Option<serde_json::Value>) -> Option<T> {
        serde_json::from_value(value?).ok()
    }
    let Ok(label) = serde_json::from_slice::<Label>(value) else { return Peeked::default() };
    Peeked {
        id: read(label.id),
        kind: read(label.kind),
        time: read(label.time),
        dataschema: read(label.dataschema),
        trace: read(label.traceparent),
    }
}

#[cfg(test)]
mod tests;
