//! The `AsyncAPI` 3.0 document: a channel per topic, an operation per service that writes or reads
//! it, a message per version of the event. What `AsyncAPI` has no word for stands in `x-` fields.

use common_events::{
    Service, Topic, TopicSpec,
    catalogue::{Key, Retention},
    envelope::{CONTENT_TYPE, TRACEPARENT},
};
use serde_json::{Map, Value, json};

use crate::{
    event_schema::description,
    event_types::EventType,
    files::{schema_file, versions},
};

const KAFKA_BINDING: &str = "0.5.0";
const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;
const KEPT_FOR_EVER_MS: i64 = -1;

/// The whole document.
pub(crate) fn document(event_types: &[EventType]) -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for event in event_types {
        let spec = event.topic.spec();
        channels.insert(event.topic.name().to_owned(), channel(event, &spec));
        operations.insert(format!("{}.sends.{}", spec.writer, event.topic), send(event, &spec));
        for reader in spec.readers {
            operations.insert(format!("{reader}.receives.{}", event.topic), receive(event, *reader));
        }
        for version in versions(event) {
            messages.insert(message_name(event.topic, version), message(event, version, &spec));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Commerce events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every record's value is one CloudEvents 1.0 event in structured mode. Topic and \
                group names may carry a prefix (TOPIC_PREFIX). Written by `schemas write`; not by hand.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    })
}

fn message_name(topic: Topic, version: u32) -> String {
    format!("{topic}.v{version}")
}

fn channel(event: &EventType, spec: &TopicSpec) -> Value {
    let (cleanup, retention_ms) = match spec.retention {
        Retention::Days(days) => ("delete", Some(i64::from(days) * MS_PER_DAY)),
        Retention::ForEver => ("delete", Some(KEPT_FOR_EVER_MS)),
        Retention::Compacted => ("compact", None),
    };
    let mut configuration = json!({ "cleanup.policy": [cleanup] });
    if let Some(ms) = retention_ms {
        configuration["retention.ms"] = ms.into();
    }
    let messages: Map<_, _> = versions(event)
        .map(|version| message_name(event.topic, version))
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let mut channel = json!({
        "address": event.topic.name(),
        "description": description(event),
        "messages": messages,
        "bindings": { "kafka": {
            "topic": event.topic.name(),
            "partitions": spec.partitions,
            "topicConfiguration": configuration,
            "bindingVersion": KAFKA_BINDING,
        } },
        "x-key": key_field(spec.key),
        "x-writer": spec.writer.name(),
        "x-readers": spec.readers.iter().map(|reader| reader.name()).collect::<Vec<_>>(),
    });
    if let Some(why) = spec.only_monitor_because {
        channel["x-only-monitor-because"] = why.into();
    }
    channel
}

/// The field of `data` that the record's key repeats.
const fn key_field(key: Key) -> &'static str {
    match key {
        Key::Order => "orderId",
        Key::Product => "productId",
        Key::User => "userId",
        Key::Coupon => "couponId",
    }
}

fn send(event: &EventType, spec: &TopicSpec) -> Value {
    json!({
        "action": "send",
        "title": format!("{} writes {}", spec.writer, event.topic),
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": [channel_message(event.topic, event.version)],
    })
}

/// A group reads older versions, too, as long as the topic may hold some.
fn receive(event: &EventType, reader: Service) -> Value {
    json!({
        "action": "receive",
        "title": format!("{reader} reads {}", event.topic),
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": versions(event).map(|version| channel_message(event.topic, version)).collect::<Vec<_>>(),
        "bindings": { "kafka": {
            "groupId": { "type": "string", "const": reader.name() },
            "bindingVersion": KAFKA_BINDING,
        } },
    })
}

fn channel_message(topic: Topic, version: u32) -> Value {
    json!({ "$ref": format!("#/channels/{topic}/messages/{}", message_name(topic, version)) })
}

fn message(event: &EventType, version: u32, spec: &TopicSpec) -> Value {
    json!({
        "name": event.topic.name(),
        "title": format!("{}, version {version}", event.topic),
        "contentType": CONTENT_TYPE,
        "correlationId": { "description": "The trace of the saga.", "location": "$message.payload#/traceid" },
        "headers": {
            "type": "object",
            "required": ["content-type", TRACEPARENT],
            "properties": {
                "content-type": { "type": "string", "const": CONTENT_TYPE },
                TRACEPARENT: { "type": "string" },
            },
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": { "$ref": format!("./{}", schema_file(event.topic, version)) },
        },
        "bindings": { "kafka": {
            "key": { "type": "string", "description": format!("The {} of the data.", key_field(spec.key)) },
            "bindingVersion": KAFKA_BINDING,
        } },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{event_schema::event_schema, event_types::EVENT_TYPES};

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let second_version = EventType { version: 2, ..EVENT_TYPES[0] };
        let document = document(&[&[second_version], &EVENT_TYPES[1..]].concat());
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.contains(&"#/channels/order-created/messages/order-created.v1"));
        let (within, files): (Vec<_>, Vec<_>) = found.into_iter().partition(|reference| reference.starts_with('#'));
        for reference in within {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let mut expected: BTreeSet<_> =
            Topic::ALL.iter().map(|topic| format!("./{}", schema_file(*topic, 1))).collect();
        expected.insert("./order-created.v2.json".to_owned());
        assert_eq!(files.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn every_writer_and_reader_of_the_catalogue_has_its_operation() {
        let document = document(EVENT_TYPES);
        let operations = document["operations"].as_object().expect("an object");
        let expected: usize = Topic::ALL.iter().map(|topic| 1 + topic.spec().readers.len()).sum();
        assert_eq!(operations.len(), expected);
        assert_eq!(operations["product-service.receives.order-cancelled"]["action"], "receive");
    }

    #[test]
    fn the_key_of_a_topic_is_a_field_of_every_event_on_it() {
        for event in EVENT_TYPES {
            let schema = event_schema(event);
            let required = schema["properties"]["data"]["required"].as_array().expect("a list");
            assert!(required.contains(&key_field(event.topic.spec().key).into()), "{}", event.topic);
        }
    }

    #[test]
    fn retention_is_as_in_the_catalogue() {
        let document = document(EVENT_TYPES);
        let configuration =
            |topic: &str| document["channels"][topic]["bindings"]["kafka"]["topicConfiguration"].clone();
        assert_eq!(
            configuration("order-created"),
            json!({ "cleanup.policy": ["delete"], "retention.ms": 2_592_000_000_i64 })
        );
        assert_eq!(configuration("point-charged"), json!({ "cleanup.policy": ["delete"], "retention.ms": -1 }));
        assert_eq!(configuration("product-catalog"), json!({ "cleanup.policy": ["compact"] }));
    }
}
