//! A group's members against the real broker.

mod backlog;
mod bad_records;
mod ending;
pub(crate) mod handing_over;
mod lag;
mod lost_brokers;
mod order;
mod outage;
mod replay_topic;
mod transactions;

/// The topics of a group of toys alone: what it hears, and its own.
pub(crate) const TOPICS: [&str; 6] = topics("order-created");

pub(crate) const fn topics(heard: &'static str) -> [&'static str; 6] {
    [
        heard,
        "order-service.retry-1",
        "order-service.retry-2",
        "order-service.retry-3",
        "order-service.replay",
        "order-service.dlt",
    ]
}
