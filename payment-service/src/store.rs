//! SQL, and nothing decided here. Errors are the database's.
//!
//! Locks are taken in the order of the suite: rows of orders sorted, then rows of accounts sorted.
//! Statements are per batch, not per event.

mod accounts;
mod comparison;
mod ledger;
mod payments;

pub use accounts::{lock_accounts, lock_or_insert_account, upsert_account};
pub use comparison::{Drift, LedgerBalance, list_drifts, list_ledger_balances, update_drifted_accounts};
pub use ledger::{BalanceThen, Posting, find_balance, find_settled_balance, insert_entries, list_history};
pub use payments::{
    Decided, PaymentStatus, PaymentView, Refunded, find_payment, lock_payments_of_cancelled, lock_payments_of_reserved,
    update_decided, update_refunded,
};

use service_runtime::Migrations;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The points ledger, its accounts, and the payments.
pub const MIGRATIONS: Migrations = Migrations { table: "payment_migrations", runner: embedded::migrations::runner };
