//! Lag and broker state, from the statistics that librdkafka gives every few seconds.

use metrics::gauge;
use rdkafka::Statistics;
use service_runtime::health;

use crate::{kafka, topics::Names};

/// Publishes lag per topic and partition, and tells health whether any broker is up.
pub(super) fn record(statistics: &Statistics, names: &Names, health: &health::Part) {
    for (topic, of_topic) in &statistics.topics {
        for (partition, of_partition) in &of_topic.partitions {
            if *partition < 0 || of_partition.consumer_lag < 0 {
                continue;
            }
            let labels = [("topic", names.bare(topic).to_owned()), ("partition", partition.to_string())];
            #[expect(clippy::cast_precision_loss, reason = "a lag that large is exact enough")]
            gauge!("consumer_lag_records", &labels).set(of_partition.consumer_lag as f64);
        }
    }
    // A member that hasn't joined yet isn't ready, however well the brokers are.
    if statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady") {
        kafka::tell_health(statistics, health);
    }
}
