//! Golden records: events as they were written once, of every version of every type, in `golden/`. They lie on
//! topics and among dead letters like this, so they never change, and they are always read. A new optional field adds
//! a record, and the old ones stay.

use std::{collections::BTreeMap, fs, path::PathBuf};

use common_events::Topic;
use serde_json::Value;

use crate::events::{every_sample, samples::Sample, schema_of, validator};

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden"].iter().collect()
}

fn file(topic: Topic, version: u32) -> String {
    format!("{topic}.v{version}.json")
}

/// The samples of each version, by the file of their golden records.
fn samples() -> BTreeMap<String, Vec<Sample>> {
    let mut by_file: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for sample in every_sample() {
        by_file.entry(file(sample.topic, sample.version)).or_default().push(sample);
    }
    by_file
}

/// None where there is no file.
fn golden(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(directory().join(file)).unwrap_or_else(|_| "[]".to_owned());
    serde_json::from_str(&text).expect("a list of records")
}

#[test]
fn every_version_has_golden_records_and_nothing_else_has() {
    let entries = fs::read_dir(directory()).expect("golden/");
    let found = entries.map(|entry| entry.expect("a file").file_name().into_string().expect("a name"));
    let mut found: Vec<String> = found.collect();
    found.sort();
    let wanted: Vec<String> = samples().into_keys().collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_is_written_today_is_among_the_golden_records() {
    for (file, samples) in samples() {
        let golden = golden(&file);
        for Sample { event, .. } in samples {
            assert!(golden.contains(&event), "golden/{file} lacks:\n{event}");
        }
    }
}

#[test]
fn every_golden_record_of_every_version_is_read_as_the_newest() {
    for (file, samples) in samples() {
        let Sample { topic, read_as_newest, .. } = &samples[0];
        let newest = validator(&schema_of(*topic, newest_version(*topic)));
        for record in golden(&file) {
            let read = read_as_newest(record.to_string().as_bytes()).unwrap_or_else(|error| panic!("{file}: {error}"));
            let errors: Vec<_> = newest.iter_errors(&read).map(|error| error.to_string()).collect();
            assert_eq!(errors, [""; 0], "{file}");
            for attribute in ["id", "subject", "time", "traceparent", "traceid", "source", "type"] {
                assert_eq!(read[attribute], record[attribute], "{file}");
            }
        }
    }
}

/// The second versions that there are differ from the first in the list of their reasons alone.
#[test]
fn what_is_read_of_a_first_version_is_what_it_said() {
    let first = samples().into_iter().filter(|(_, samples)| samples[0].version == 1);
    for (file, samples) in first.filter(|(_, samples)| newest_version(samples[0].topic) == 2) {
        for record in golden(&file) {
            let read = (samples[0].read_as_newest)(record.to_string().as_bytes()).expect("reads");
            assert_eq!(read["data"], record["data"], "{file}");
        }
    }
}

fn newest_version(topic: Topic) -> u32 {
    every_sample().filter(|sample| sample.topic == topic).map(|sample| sample.version).max().expect("samples")
}
