//! What the monitor hears: every topic of a saga, and the retry and dead-letter topics of all groups but its
//! own. It hears them raw, record by record: what can't be read is heard of, too, and nothing here can fail
//! but for the database.
//!
//! Hearing writes the log and the projection ([`recorder`]); a record that comes again is no second row. So
//! the log is the inbox, and the monitor answers to nothing.

pub mod reading;
pub mod recorder;
pub mod told;

use std::sync::Arc;

use common_events::{Service, Topic};
use futures::FutureExt;
use messaging::{OwnTopic, Raw, Rung, Subscriptions};

use recorder::Recorder;

/// The topics on which a group puts what it could not handle, for others to see.
pub const OF_FAILURES: [OwnTopic; 4] =
    [OwnTopic::Retry(Rung::First), OwnTopic::Retry(Rung::Second), OwnTopic::Retry(Rung::Third), OwnTopic::Dlt];

/// The groups whose failures are heard: all that read anything, but the monitor's own.
pub fn watched_groups() -> impl Iterator<Item = Service> {
    let reads = |service: &Service| Topic::read_by(*service).next().is_some();
    Service::ALL.iter().copied().filter(reads).filter(|service| *service != Service::SagaMonitor)
}

/// Every topic that is heard, without the suite's prefix.
pub fn topics() -> impl Iterator<Item = String> {
    let of_failures = watched_groups().flat_map(|group| OF_FAILURES.map(|own| own.name(group)));
    Topic::read_by(Service::SagaMonitor).map(|topic| topic.name().to_owned()).chain(of_failures)
}

/// The group `saga-monitor`.
pub fn subscriptions(recorder: Arc<Recorder>) -> Subscriptions {
    Subscriptions::of(Service::SagaMonitor).hear_raw(topics(), move |heard| {
        let recorder = Arc::clone(&recorder);
        async move {
            match heard {
                Raw::Records(records) => recorder.record(records).await,
                Raw::Passed { topic, partition, next_offset } => recorder.pass(topic, partition, next_offset).await,
            }
        }
        .boxed()
    })
}
