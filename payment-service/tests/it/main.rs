//! payment-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP, its ledger
//! as its own role meets it, and its rebuild on a real Kafka.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod accounts;
mod at_once;
mod background;
mod bad_input;
mod cashier;
mod charging;
mod document;
mod history;
mod ledger;
mod looking;
mod orders;
mod rebuild;
