//! The life of an event: published in a transaction → relayed → consumed once → retried →
//! dead-lettered → replayed.
//!
//! | step | where |
//! |---|---|
//! | a handler or endpoint publishes into its own transaction | [`Tx`], [`Cause`], [`Draft`] |
//! | `outbox-relay` moves what was committed to Kafka | [`relay`] |
//! | a consumer group reads it, partition by partition | [`consumer`] |
//! | a batch is applied once, in one transaction | [`delivery`] |
//! | a record that can't be handled is set aside | [`dead_letters`] |
//! | an admission is published without an outbox, and kept when Kafka doesn't take it | [`direct`] |
//! | topics come from the catalogue | [`topics`] |
//!
//! Handlers know nothing of Kafka: they get a [`Tx`] and events, and publish into that transaction.
//! [`delivery::Group::deliver`] is the seam: the consumer calls it with records from the broker, tests call it
//! with records from anywhere.

pub mod admin;
pub mod consumer;
pub mod dead_letters;
pub mod delivery;
pub mod direct;
mod event;
mod failure;
pub mod faults;
mod figures;
mod inbox;
pub mod kafka;
pub mod ladder;
mod outbox;
mod partitions;
pub mod progress;
mod raw;
mod record;
pub mod relay;
pub mod resume;
mod subscriptions;
pub mod topics;
mod tx;
mod waiting;

pub use consumer::Consumer;
pub use delivery::{Delivered, Stalled};
pub use event::{Cause, Draft, Event};
pub use failure::{Failure, Handled, Transient, Unprocessable};
pub use ladder::{OwnTopic, Rung, headers::*};
pub use raw::Raw;
pub use record::Record;
pub use subscriptions::Subscriptions;
pub use tx::{MAX_EVENT_BYTES, Tx};

use service_runtime::database::Migrations;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Outbox, inbox, kept answers and dead letters, in each service's own database.
pub const MIGRATIONS: Migrations =
    Migrations { table: "messaging_schema_history", runner: embedded::migrations::runner };
