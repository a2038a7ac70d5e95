//! The life of an event, on a real PostgreSQL and a real Kafka, with toys in place of orders.
//!
//! - `delivery`: through the seam, without a broker;
//! - `consumer`: a group's members against the broker, each test on topics of its own;
//! - `relay`: `outbox-relay` as a process.
//!
//! Left out on purpose: stopping Kafka. Other tests use the same one; the system tests do that.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod admin;
mod broker;
mod consumer;
mod delivery;
mod ladder;
mod outage;
mod partitioner;
mod relay;
mod toys;
