//! What is counted is told as Prometheus wants it. What each process tells of itself is asked of the processes.

use std::collections::BTreeSet;

use test_support::{faults_of_metrics, faults_of_name};

use crate::deploy::called_with;

const KINDS: [&str; 3] = ["counter", "gauge", "histogram"];

#[test]
fn what_is_counted_is_described_as_what_it_is_and_named_by_its_unit() {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        let counted = called_with(&[&format!("{kind}!(")]);
        let described = called_with(&[&format!("describe_{kind}!(")]);
        assert!(!counted.is_empty(), "no {kind} was found");
        let undescribed: Vec<_> = counted.difference(&described).collect();
        assert!(undescribed.is_empty(), "nobody says what these are, as a {kind}: {undescribed:?}");
        let uncounted: Vec<_> = described.difference(&counted).collect();
        assert!(uncounted.is_empty(), "nobody counts these, as a {kind}: {uncounted:?}");
        let faults: Vec<_> = counted.iter().flat_map(|name| faults_of_name(name, kind)).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        for name in counted {
            assert!(all.insert(name.clone()), "{name} is of two kinds");
        }
    }
}

#[test]
fn metrics_that_prometheus_would_not_like_are_noticed() {
    let good = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{a=\"b c\"} 1\n\n\
                # HELP call_seconds How long.\n# TYPE call_seconds histogram\ncall_seconds_bucket{le=\"+Inf\"} 1\n\
                call_seconds_sum 0.5\ncall_seconds_count 1\n";
    assert_eq!(faults_of_metrics(good), [""; 0]);
    for (broken, faulty) in [
        (good.replace("# HELP calls_total Calls.\n", ""), "calls_total has no HELP"),
        (good.replace("# TYPE call_seconds histogram\n", ""), "call_seconds_bucket has no TYPE"),
        (good.replace("total counter", "total gauge"), "calls_total is a gauge"),
        (good.replace("call_seconds", "call_ms"), "call_ms says ms"),
        (good.replace("call_seconds", "seconds_of_call"), "seconds_of_call doesn't end in its unit"),
    ] {
        let faults = faults_of_metrics(&broken);
        assert!(faults.iter().any(|fault| fault.starts_with(faulty)), "{faulty}: {faults:?}");
    }
}
