//! The checked-in schemas against the events that this crate really writes and reads.

pub(crate) mod samples;

use std::fs;

use self::samples::{Sample, samples};
use common_events::{Topic, envelope::schema_urn};
use jsonschema::Validator;
use serde_json::{Value, json};

pub(crate) fn schema_of(topic: Topic, version: u32) -> Value {
    let file = format!("{}/schemas/{topic}.v{version}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).expect("is JSON")
}

pub(crate) fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::meta::validate(schema).expect("is a schema of 2020-12");
    jsonschema::options().should_validate_formats(true).build(schema).expect("is a schema")
}

pub(crate) fn every_sample() -> impl Iterator<Item = Sample> {
    Topic::ALL.iter().flat_map(|topic| samples(*topic))
}

#[test]
fn every_event_is_of_its_schema() {
    for sample in every_sample() {
        let schema = schema_of(sample.topic, sample.version);
        assert_eq!(schema["$id"], schema_urn(sample.topic, sample.version));
        let errors: Vec<_> = validator(&schema).iter_errors(&sample.event).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0], "{}", sample.event);
    }
}

/// The richest sample of each version has all the fields there are, the barest only the required ones.
#[test]
fn the_samples_leave_no_field_out() {
    let all: Vec<Sample> = every_sample().collect();
    for samples in all.chunk_by(|one, next| (one.topic, one.version) == (next.topic, next.version)) {
        let topic = samples[0].topic;
        let fields = |sample: &Sample| sample.event["data"].as_object().expect("an object").len();
        let data = &schema_of(topic, samples[0].version)["properties"]["data"];
        assert_eq!(
            samples.iter().map(fields).max(),
            data["properties"].as_object().map(serde_json::Map::len),
            "{topic}"
        );
        assert_eq!(samples.iter().map(fields).min(), data["required"].as_array().map(Vec::len), "{topic}");
    }
}

/// Each value of each event in turn is taken away or made something else: the schema and the reader
/// say yes to the same, and both to a field they don't know. But for one thing: readers are more lenient than the
/// schemas of version 1, whose list of reasons is closed.
#[test]
fn schema_and_reader_take_the_same_events() {
    for sample in every_sample() {
        let validator = validator(&schema_of(sample.topic, sample.version));
        let mut refused = 0;
        for event in alterations(&sample.event) {
            let reads = (sample.read_as_newest)(event.to_string().as_bytes()).is_ok();
            if sample.version == 1 && event["data"]["reason"] == UNKNOWN_REASON {
                assert!(reads && !validator.is_valid(&event), "{event}");
                continue;
            }
            assert_eq!(validator.is_valid(&event), reads, "{event}");
            refused += usize::from(!reads);
        }
        assert!(refused > 0, "{}", sample.topic);
    }
}

/// What W3C forbids.
const ZERO_TRACE: &str = "00000000000000000000000000000000";
const ZERO_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";

/// What a reason may be, and none is today.
const UNKNOWN_REASON: &str = "RECALLED_2027";

fn alterations(event: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    visit(String::new(), event, &mut places);
    // Attributes that are only for readers outside: ours don't look at what they say.
    places.retain(|place| place != "/source" && place != "/datacontenttype");
    let mut altered = Vec::new();
    let others = [json!(null), json!(-1), json!(0.5), json!([]), json!({}), json!(true)];
    let texts = ["", "a b", ".", "..", ZERO_TRACE, ZERO_TRACEPARENT, UNKNOWN_REASON].map(|text| json!(text));
    for place in places {
        for other in others.iter().chain(&texts) {
            altered.push(with(event, &place, |value| *value = other.clone()));
        }
        if let Some((parent, name)) = place.rsplit_once('/') {
            altered.push(with(event, parent, |value| {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove(name);
                }
            }));
        }
        altered.push(with(event, &place, |value| {
            if let Some(fields) = value.as_object_mut() {
                fields.insert("added-later".to_owned(), json!({}));
            }
        }));
    }
    altered
}

fn with(event: &Value, place: &str, alter: impl FnOnce(&mut Value)) -> Value {
    let mut event = event.clone();
    alter(event.pointer_mut(place).expect("is there"));
    event
}

fn visit(place: String, value: &Value, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| visit(format!("{place}/{name}"), field, places));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| visit(format!("{place}/{at}"), item, places));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    places.push(place);
}
