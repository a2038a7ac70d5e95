//! `CloudEvents` 1.0, structured mode: what a record's value is (docs/contract.md §4).
//!
//! ```json
//! {"specversion":"1.0","id":"0190…","source":"/order-service","type":"order-created",
//!  "subject":"<key>","time":"2026-11-21T06:00:00.123Z","datacontenttype":"application/json",
//!  "dataschema":"urn:commerce:order-created:1","traceparent":"00-…-…-01","traceid":"4bf9…","data":{}}
//! ```

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{EventId, Topic, TraceId, TraceParent};

/// The value of the Kafka header `content-type` of every event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The Kafka header (and `CloudEvents` attribute) with the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The version of `CloudEvents`.
pub const SPEC_VERSION: &str = "1.0";
/// What an event's `data` is.
pub const DATA_CONTENT_TYPE: &str = "application/json";

/// What one type of event says. One type, one topic.
pub trait EventData: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The topic, whose name is the event's type.
    const TOPIC: Topic;
    /// The version of the type. A change that isn't just a new optional field makes a new one.
    const VERSION: u32 = 1;

    /// What order is kept by: the record's key and the event's subject.
    fn key(&self) -> Cow<'_, str>;
}

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
    /// A version of the type that this reader doesn't know.
    #[error("dataschema {found:?}, this reader knows {expected:?}")]
    Version {
        /// The schema this reader knows.
        expected: String,
        /// The schema the event names.
        found: String,
    },
    /// `specversion` isn't 1.0, or `traceid` and `traceparent` name different traces.
    #[error("{0}")]
    Attribute(&'static str),
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

/// Writes the event as the bytes of a record's value.
///
/// # Errors
/// When `data` can't be written as JSON, which no type of this crate does.
pub fn encode<T: EventData>(event: &Event<T>) -> Result<Vec<u8>, serde_json::Error> {
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

/// Reads a record's value as the event its topic carries. Fields it doesn't know are skipped, so
/// that a writer may add optional ones.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<T: EventData>(value: &[u8]) -> Result<Event<T>, DecodeError> {
    let expected = T::TOPIC;
    let wire: Wire<'_, T> = match serde_json::from_slice(value) {
        Ok(wire) => wire,
        // A type or version that isn't ours says more than the field that was missing.
        Err(source) => return Err(wrong_label::<T>(value).unwrap_or(DecodeError::Schema { expected, source })),
    };
    check_label::<T>(&wire.specversion, &wire.kind, &wire.dataschema)?;
    if wire.traceparent.trace_id != wire.traceid {
        return Err(DecodeError::Attribute("traceid and traceparent name different traces"));
    }
    Ok(Event { id: wire.id, time: wire.time, subject: wire.subject, trace: wire.traceparent, data: wire.data })
}

fn check_label<T: EventData>(specversion: &str, kind: &str, dataschema: &str) -> Result<(), DecodeError> {
    if specversion != SPEC_VERSION {
        return Err(DecodeError::Attribute("specversion is not 1.0"));
    }
    if kind != T::TOPIC.name() {
        return Err(DecodeError::Type { expected: T::TOPIC, found: kind.to_owned() });
    }
    let expected = schema_urn(T::TOPIC, T::VERSION);
    if dataschema != expected {
        return Err(DecodeError::Version { expected, found: dataschema.to_owned() });
    }
    Ok(())
}

fn wrong_label<T: EventData>(value: &[u8]) -> Option<DecodeError> {
    let peeked = peek(value);
    check_label::<T>(SPEC_VERSION, peeked.kind.as_deref()?, peeked.dataschema.as_deref()?).err()
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
mod tests {
    use super::*;
    use crate::{OrderId, Won, events::OrderConfirmed};
    use uuid::Uuid;

    fn event() -> Event<OrderConfirmed> {
        let order_id = OrderId::new(Uuid::from_u128(7));
        Event {
            id: EventId::new(Uuid::from_u128(42)),
            time: "2026-11-21T06:00:00.123Z".parse().expect("a time"),
            subject: order_id.to_string(),
            trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a trace"),
            data: OrderConfirmed {
                order_id,
                order_version: 3,
                user_id: "kim".parse().expect("a user"),
                total: Won::try_from(12_000).expect("an amount"),
                confirmed_at: "2026-11-21T06:00:00Z".parse().expect("a time"),
            },
        }
    }

    fn value() -> serde_json::Value {
        serde_json::from_slice(&encode(&event()).expect("encodes")).expect("is JSON")
    }

    fn decoded(value: &serde_json::Value) -> Result<Event<OrderConfirmed>, DecodeError> {
        decode(value.to_string().as_bytes())
    }

    #[test]
    fn an_event_reads_as_it_was_written() {
        assert_eq!(decoded(&value()).expect("decodes"), event());
        assert_eq!(value()["time"], "2026-11-21T06:00:00.123Z");
        assert_eq!(value()["source"], "/order-service");
        assert_eq!(value()["dataschema"], "urn:commerce:order-confirmed:1");
    }

    #[test]
    fn a_field_added_later_is_skipped() {
        let mut value = value();
        value["data"]["loyaltyTier"] = "gold".into();
        value["partitionkey"] = "x".into();
        assert!(decoded(&value).is_ok());
    }

    #[test]
    fn what_is_no_such_event_says_why() {
        let mut other_type = value();
        other_type["type"] = "order-vanished".into();
        assert!(matches!(decoded(&other_type), Err(DecodeError::Type { .. })));

        let mut later_version = value();
        later_version["dataschema"] = "urn:commerce:order-confirmed:2".into();
        later_version["data"] = serde_json::json!({});
        assert!(matches!(decoded(&later_version), Err(DecodeError::Version { .. })));

        let mut no_id = value();
        no_id.as_object_mut().expect("an object").remove("id");
        assert!(matches!(decoded(&no_id), Err(DecodeError::Schema { .. })));

        let mut two_traces = value();
        two_traces["traceid"] = "00000000000000000000000000000001".into();
        assert!(matches!(decoded(&two_traces), Err(DecodeError::Attribute(_))));

        assert!(matches!(decode::<OrderConfirmed>(b"rubbish"), Err(DecodeError::Schema { .. })));
    }

    #[test]
    fn the_label_of_anything_can_be_peeked_at() {
        assert_eq!(peek(b"\xff\x00"), Peeked::default());
        assert_eq!(peek(br#"{"id":17,"type":"x"}"#).kind.as_deref(), Some("x"));
        assert_eq!(peek(value().to_string().as_bytes()).id, Some(event().id));
    }
}
