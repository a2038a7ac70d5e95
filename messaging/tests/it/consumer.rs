//! A group's members against the real broker.

mod backlog;
mod bad_records;
mod handing_over;
mod lag;
mod order;
mod outage;
mod replay_topic;

/// The topics of a group of toys alone: what it hears, and its own.
const TOPICS: [&str; 2] = ["order-created", "order-service.replay"];
