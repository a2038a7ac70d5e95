//! Sales rankings: what was sold most in an hour, a day, a week, by pieces or by money. A projection of
//! what was paid and refunded; it takes no part in any saga, and nobody waits for it.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `payment-completed` | counts its lines in the hour, day and week it was paid in | – | `payment-refunded` |
//! | `payment-refunded` | counts the same lines back, where they were counted | – | – |
//! | `product-catalog` | remembers what the product is called | – | – |
//!
//! Sums commute, and the inbox lets every event count once: so the table equals a recomputation from the
//! topics, whatever came when, twice, or refunded first. Answers are up to [`http::MAX_AGE`] old.

pub mod domain;
pub mod events;
pub mod http;
pub mod store;
