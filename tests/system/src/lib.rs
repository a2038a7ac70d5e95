//! The suite as its users and operators see it: real processes, HTTP, topics.
//!
//! | module | owns |
//! |---|---|
//! | [`shop`] | the verbs of customers and admins, over HTTP |
//! | [`suite`] | the real programs as processes with databases, topics and ports of their own; kill, stop, start |
//! | [`parts`] | where Kafka, PostgreSQL, Redis and Zipkin are; some of them once more, for tests that switch them off |
//! | [`office`] | what operators see of a service: where an event stands, dead letters |
//! | [`outside`] | the platform outside: what arrived there, and how it answers |
//! | [`topics`] | what the topics hold, and where the consumer groups stand |
//! | [`monitor`] | what saga-monitor knows, as its operators see it |
//! | [`law`] | what always holds once a suite is quiet (ARCHITECTURE.md, "The law") |
//! | [`traces`] | what Zipkin knows of a trace |
//!
//! Nothing here knows a service's crate. The law reads the services' databases, as a superuser may; tables
//! and columns are named in one place, [`law::evidence`].

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

pub mod law;
pub mod monitor;
pub mod office;
pub mod outside;
pub mod parts;
pub mod shop;
pub mod suite;
pub mod topics;
pub mod traces;
mod waiting;

pub use parts::Parts;
pub use shop::{Shop, Trouble, Urls};
pub use suite::{Settings, Suite};
pub use waiting::eventually;
