//! What decides about points and payments. No I/O, no clock, no randomness: who asks brings the
//! moment and the id of a ledger entry ([`Stamp`]).
//!
//! | part | owns |
//! |---|---|
//! | [`account`] | one user's points: charge, deduct, refund |
//! | [`payment`] | one order's payment, from the first that is heard of the order to its refund |
//! | [`balances`] | balances folded from ledger entries, however often and in whatever order they come |

pub mod account;
pub mod balances;
pub mod payment;

pub use account::{Account, AccountState, Accounts, ChargeRefused, Entry, EntryKind, Stamp};
pub use balances::{Balances, UserBalance};
pub use payment::{Decision, Payment, Receipt, Refund};

#[cfg(test)]
mod tests;
