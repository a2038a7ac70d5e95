//! What Prometheus wants of a `GET /metrics`: its text format, and what `promtool check metrics` asks for beside it.

use std::collections::{BTreeMap, BTreeSet};

/// Words that a name may not have: units are seconds and bytes, written out, and its type stands elsewhere.
const NO_WORDS: [&str; 16] = [
    "ms",
    "us",
    "ns",
    "s",
    "sec",
    "secs",
    "milliseconds",
    "minutes",
    "hours",
    "kb",
    "mb",
    "kilobytes",
    "megabytes",
    "counter",
    "gauge",
    "histogram",
];
const UNITS: [&str; 2] = ["seconds", "bytes"];
/// The series of a histogram, beside its name.
const OF_A_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

/// What is wrong with these metrics; nothing, if all is as it should be.
pub fn faults_of_metrics(text: &str) -> Vec<String> {
    let said = |mark: &str| -> BTreeMap<&str, &str> {
        text.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' ')).collect()
    };
    let (helps, kinds) = (said("# HELP "), said("# TYPE "));
    let mut faults: BTreeSet<String> = kinds.iter().flat_map(|(name, kind)| faults_of_name(name, kind)).collect();
    for name in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(series) {
        let of_histogram = OF_A_HISTOGRAM.iter().find_map(|part| name.strip_suffix(part));
        let family = of_histogram.filter(|family| kinds.get(family) == Some(&"histogram")).unwrap_or(name);
        if !kinds.contains_key(family) {
            faults.insert(format!("{family} has no TYPE"));
        }
        if helps.get(family).is_none_or(|help| help.trim().is_empty()) {
            faults.insert(format!("{family} has no HELP"));
        }
    }
    faults.into_iter().collect()
}

/// The name of a line's series: `name{label="value"} 1`.
fn series(line: &str) -> &str {
    line.split(['{', ' ']).next().unwrap_or_default()
}

/// What is wrong with a metric of this name and kind.
pub fn faults_of_name(name: &str, kind: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        faults.push(format!("{name} isn't written_like_this"));
    }
    let is_total = name.ends_with("_total");
    if is_total != (kind == "counter") {
        faults.push(format!("{name} is a {kind}: counters end in _total, and nothing else does"));
    }
    if OF_A_HISTOGRAM.iter().any(|part| name.ends_with(part)) {
        faults.push(format!("{name} is named like a part of a histogram"));
    }
    let words: Vec<&str> = name.trim_end_matches("_total").split('_').collect();
    faults.extend(words.iter().filter(|word| NO_WORDS.contains(word)).map(|word| format!("{name} says {word}")));
    if words.iter().rev().skip(1).any(|word| UNITS.contains(word)) {
        faults.push(format!("{name} doesn't end in its unit"));
    }
    if kind == "histogram" && !words.last().is_some_and(|word| UNITS.contains(word)) {
        faults.push(format!("{name} is a histogram without a unit"));
    }
    faults
}
