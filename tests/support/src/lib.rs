//! What tests of any service need, and no service by name: a database each ([`Database`]), the seam
//! without a broker ([`Seam`]), somebody else's transactions ([`Foreign`]), calls without a process ([`Served`],
//! [`ask`]), what is said of calls ([`assert_document`]), a process ([`Program`]) and what it does in the background
//! ([`Background`]), and waiting without sleeping ([`eventually`]).
//!
//! The real parts are looked for where `TEST_POSTGRES_URL` and `TEST_KAFKA_BROKERS` say, else at the
//! local suite's ports. One that is missing fails the test with one clear line.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod background;
mod database;
mod document;
mod eventually;
mod foreign;
mod http;
mod ports;
mod program;
mod prometheus;
pub mod seam;

pub use background::Background;
pub use database::Database;
pub use document::{assert_bounds, assert_document, assert_limit, assert_words, faults_of_document};
pub use eventually::{PATIENCE, eventually};
pub use foreign::Foreign;
pub use http::{Answer, Served, ask, runtime, runtime_with};
pub use ports::free_port;
pub use program::Program;
pub use prometheus::{faults_of_metrics, faults_of_name};
pub use seam::Seam;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// When a `UUIDv7` says that it was made: to the millisecond.
///
/// # Panics
/// When it is a UUID of another kind.
pub fn made_at(id: Uuid) -> DateTime<Utc> {
    let (seconds, nanos) = id.get_timestamp().expect("a UUIDv7").to_unix();
    DateTime::from_timestamp(seconds.try_into().expect("this era"), nanos).expect("a time")
}

/// Where the tests' Kafka listens.
pub fn kafka_brokers() -> String {
    std::env::var("TEST_KAFKA_BROKERS").unwrap_or_else(|_| "127.0.0.1:19092".to_owned())
}
