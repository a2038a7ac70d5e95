//! The `AsyncAPI` 3.0 document: a channel per topic, an operation per service that writes or reads
//! it, a message per version of the event. What `AsyncAPI` has no word for stands in `x-` fields.

use common_events::{
    Service, Topic, TopicSpec,
    catalogue::{Key, Retention},
    envelope::{CONTENT_TYPE, TRACEPARENT},
    versions::Told,
};
use serde_json::{Map, Value, json};

use crate::{event_schema::description, event_types::EventType, files::schema_file};

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
        for number in numbers(event) {
            messages.insert(message_name(event.topic, number), message(event, number, &spec));
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

fn numbers(event: &EventType) -> impl Iterator<Item = u32> {
    event.versions.iter().map(|version| version.number)
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
    let messages: Map<_, _> = numbers(event)
        .map(|version| message_name(event.topic, version))
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let mut channel = json!({
        "address": event.topic.name(),
        "description": description(event.newest()),
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
    let told = event.versions.iter().filter(|version| version.told == Told::Still);
    json!({
        "action": "send",
        "title": format!("{} writes {}", spec.writer, event.topic),
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": told.map(|version| channel_message(event.topic, version.number)).collect::<Vec<_>>(),
    })
}

/// A group reads older versions, too: the topic may hold some, and so may its dead letters.
fn receive(event: &EventType, reader: Service) -> Value {
    json!({
        "action": "receive",
        "title": format!("{reader} reads {}", event.topic),
        "channel": { "$ref": format!("#/channels/{}", event.topic) },
        "messages": numbers(event).map(|number| channel_message(event.topic, number)).collect::<Vec<_>>(),
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
    use crate::{event_schema::event_schema, event_types::event_types};
    use common_events::versions::Version;

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
        let mut types = event_types();
        let second_version = Version { number: 2, ..types[0].versions[0] };
        types[0].versions.push(second_version);
        let document = document(&types);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.contains(&"#/channels/order-created/messages/order-created.v1"));
        let (within, files): (Vec<_>, Vec<_>) = found.into_iter().partition(|reference| reference.starts_with('#'));
        for reference in within {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let expected: BTreeSet<_> = types
            .iter()
            .flat_map(|event| numbers(event).map(|number| format!("./{}", schema_file(event.topic, number))))
            .collect();
        assert!(expected.contains("./order-created.v2.json"));
        assert_eq!(files.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn every_writer_and_reader_of_the_catalogue_has_its_operation() {
        let document = document(&event_types());
        let operations = document["operations"].as_object().expect("an object");
        let expected: usize = Topic::ALL.iter().map(|topic| 1 + topic.spec().readers.len()).sum();
        assert_eq!(operations.len(), expected);
        assert_eq!(operations["product-service.receives.order-cancelled"]["action"], "receive");
    }

    #[test]
    fn a_writer_sends_the_versions_that_are_told_and_a_reader_takes_all() {
        let document = document(&event_types());
        let messages = |operation: &str| {
            let mut found = Vec::new();
            references(&document["operations"][operation]["messages"], &mut found);
            found.into_iter().map(|reference| reference.rsplit_once('/').expect("a path").1).collect::<Vec<_>>()
        };
        assert_eq!(messages("order-service.sends.order-cancelled"), ["order-cancelled.v2"]);
        assert_eq!(messages("product-service.receives.order-cancelled"), ["order-cancelled.v1", "order-cancelled.v2"]);
        let both = ["stock-deduct-failed.v1", "stock-deduct-failed.v2"];
        assert_eq!(messages("product-service.sends.stock-deduct-failed"), both);
        assert_eq!(messages("order-service.receives.stock-deduct-failed"), both);
    }

    #[test]
    fn the_key_of_a_topic_is_a_field_of_every_event_on_it() {
        for event in event_types() {
            for version in &event.versions {
                let schema = event_schema(&event, version);
                let required = schema["properties"]["data"]["required"].as_array().expect("a list");
                assert!(required.contains(&key_field(event.topic.spec().key).into()), "{}", event.topic);
            }
        }
    }

    #[test]
    fn retention_is_as_in_the_catalogue() {
        let document = document(&event_types());
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
