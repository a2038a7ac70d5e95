//! Lag and broker state, from the statistics that librdkafka gives every few seconds.

use metrics::gauge;
use rdkafka::{Statistics, statistics::Partition};
use service_runtime::health;

use crate::{kafka, topics::Names};

/// What librdkafka calls a partition that this member reads.
const READ_HERE: &str = "active";

/// Publishes lag per topic and partition, and tells health whether any broker is up.
pub(super) fn record(statistics: &Statistics, names: &Names, health: &health::Part) {
    for (topic, of_topic) in &statistics.topics {
        for (partition, of_partition) in of_topic.partitions.iter().filter(|(partition, _)| **partition >= 0) {
            let Some(lag) = lag(of_partition) else { continue };
            let labels = [("topic", names.bare(topic).to_owned()), ("partition", partition.to_string())];
            #[expect(clippy::cast_precision_loss, reason = "a lag that large is exact enough")]
            gauge!("consumer_lag_records", &labels).set(lag as f64);
        }
    }
    // Without a broker there is no group either. With one, a member that hasn't joined yet isn't ready.
    let is_joined = statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady");
    if is_joined || !kafka::has_broker(statistics) {
        kafka::tell_health(statistics, health);
    }
}

/// How many records wait for this member, as far as that is known; what lies behind a transaction that is still open
/// waits, too. None of a partition that is another's by now: the members' lags add up to the group's.
fn lag(partition: &Partition) -> Option<i64> {
    if partition.fetch_state != READ_HERE {
        return Some(0);
    }
    // A group that has committed nothing yet has everything before it; what is past its retention nobody waits for.
    let begin = partition.committed_offset.max(partition.lo_offset);
    (begin >= 0 && partition.hi_offset >= 0).then(|| (partition.hi_offset - begin).max(0))
}
