//! What tests of any service need, and no service by name: a database each ([`Database`]), the seam
//! without a broker ([`Seam`]), somebody else's transactions ([`Foreign`]), calls without a process ([`Served`], [`ask`]), and waiting without sleeping
//! ([`eventually`]).
//!
//! The real parts are looked for where `TEST_POSTGRES_URL` and `TEST_KAFKA_BROKERS` say, else at the
//! local suite's ports. One that is missing fails the test with one clear line.

mod database;
mod eventually;
mod foreign;
mod http;
mod ports;
mod seam;

pub use database::Database;
pub use eventually::{PATIENCE, eventually};
pub use foreign::Foreign;
pub use http::{Answer, Served, ask, runtime, runtime_with};
pub use ports::free_port;
pub use seam::Seam;

/// Where the tests' Kafka listens.
pub fn kafka_brokers() -> String {
    std::env::var("TEST_KAFKA_BROKERS").unwrap_or_else(|_| "127.0.0.1:19092".to_owned())
}
