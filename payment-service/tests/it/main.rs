//! payment-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP, its ledger
//! as its own role meets it, and its rebuild on a real Kafka.

mod accounts;
mod at_once;
mod bad_input;
mod cashier;
mod charging;
mod document;
mod history;
mod ledger;
mod looking;
mod orders;
mod rebuild;
