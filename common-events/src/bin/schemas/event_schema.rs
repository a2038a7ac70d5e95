//! The JSON Schema (2020-12) of one event as it lies on its topic: the envelope's attributes and the
//! data. What readers accept, so unknown fields pass; `$id` is what the event's `dataschema` says.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use common_events::{
    EventId, TraceId,
    envelope::{DATA_CONTENT_TYPE, SPEC_VERSION, schema_urn},
    versions::Version,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::event_types::EventType;

/// The trace context as this suite writes it; readers take later versions of it, too.
const TRACEPARENT: &str = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";
/// W3C forbids a trace, and a span, of zeros only.
const OF_ZEROS: &str = "-(0{32}|0{16})-";

/// The schema of one version of the type.
pub(crate) fn event_schema(event: &EventType, version: &Version) -> Value {
    let mut generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let data = (version.data)(&mut generator);
    let urn = schema_urn(event.topic, version.number);
    let properties = json!({
        "specversion": { "const": SPEC_VERSION },
        "id": generator.subschema_for::<EventId>(),
        "source": { "const": format!("/{}", event.topic.spec().writer) },
        "type": { "const": event.topic.name() },
        "subject": { "description": "The record's key.", "type": "string" },
        "time": generator.subschema_for::<DateTime<Utc>>(),
        "datacontenttype": { "const": DATA_CONTENT_TYPE },
        "dataschema": { "const": urn },
        "traceparent": {
            "description": "Where the event stands in its saga's trace.",
            "type": "string",
            "pattern": TRACEPARENT,
            "not": { "pattern": OF_ZEROS },
        },
        "traceid": trace_id(&mut generator),
        "data": data,
    });
    let attributes: BTreeSet<_> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({
        "$schema": generator.settings().meta_schema,
        "$id": urn,
        "title": event.topic.name(),
        "description": description(version),
        "type": "object",
        "required": attributes,
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}

fn trace_id(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = TraceId::json_schema(generator);
    schema.insert("description".to_owned(), "The trace of the request that began the saga.".into());
    schema
}

/// What the event says, in the words of its type.
pub(crate) fn description(version: &Version) -> Option<Value> {
    (version.data)(&mut SchemaGenerator::default()).remove("description")
}
