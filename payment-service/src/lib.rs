//! Points and payments. The cashier of the order saga: it takes the points for an order once stock and
//! coupon are held, and gives them back when the order is cancelled.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `order-reserved` | deducts the total from the user's points, or refuses: `ORDER_CANCELLED`, `ACCOUNT_CLOSED`, `LIMIT_EXCEEDED`, `INSUFFICIENT_POINTS` | `point-deducted` (if there was something to pay) and `payment-completed`, or `payment-failed` | `order-cancelled` |
//! | `order-cancelled` | refunds what was paid, whatever the state of the account; of an order not heard of yet keeps a tombstone | `point-refunded` (if there was something paid) and `payment-refunded` | – |
//! | `POST /points/charge` | pays points in | `point-charged` | – |
//! | `PUT /points/accounts/{userId}` | opens or closes an account, limits its payments | – | – |
//!
//! The ledger is event-sourced: entries are appended and never changed ([`store::MIGRATIONS`] takes
//! the rights away), accounts are their projection, and the three points topics, kept for ever, are
//! the same entries once more, which [`rebuild`] holds against the ledger.
//!
//! The law it keeps, whatever comes when, twice, or late: the sum of a user's entries is his balance,
//! never less than nothing; an order takes its total once or not at all, and gives it back once.

pub mod domain;
pub mod events;
pub mod http;
pub mod rebuild;
pub mod store;
mod topics_reader;
