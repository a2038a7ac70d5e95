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
    Decided, PaymentView, Refunded, find_payment, lock_payments_of_cancelled, lock_payments_of_reserved,
    update_decided, update_refunded,
};

use common_events::{UserId, Won};
use service_runtime::Migrations;
use tokio_postgres::{Row, row::RowIndex};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The points ledger, its accounts, and the payments.
pub const MIGRATIONS: Migrations = Migrations { table: "payment_migrations", runner: embedded::migrations::runner };

fn won(row: &Row, column: impl RowIndex + std::fmt::Display) -> Won {
    Won::try_from(row.get::<_, i64>(column)).expect("only amounts are stored, and checks keep them so")
}

fn user_id(row: &Row, column: impl RowIndex + std::fmt::Display) -> UserId {
    row.get::<_, &str>(column).parse().expect("only user ids are stored")
}

/// A word of one of our lists, as a check keeps it.
fn word<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is stored, and no word of ours"))
}
