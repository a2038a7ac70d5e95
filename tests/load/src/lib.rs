//! Load against the suite, with a verdict.
//!
//! Orders come in an open loop: when they were planned to, however slow the answers are, and every latency counts
//! from the planned time. A closed loop would wait with a slow suite, and hide how slow it is. A sale can be
//! held in both: what a gate bears is asked in a closed one.
//!
//! | module | owns |
//! |---|---|
//! | [`orders`] | products and users of its own, and orders at a fixed rate |
//! | [`tally`], [`live`] | what was sent, answered, confirmed, cancelled, and how long it took, while it happens |
//! | [`verdict`] | money and stock afterwards, over the HTTP APIs only |
//! | [`sale`] | a first-come sale: the rush, who holds a coupon afterwards, the report |
//! | [`client`] | HTTP with as little as will do |

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "who measures waits for what it starts")]

pub mod client;
pub mod live;
pub mod orders;
mod own_thread;
mod pick;
pub mod sale;
pub mod tally;
pub mod verdict;

pub use live::Live;
pub use orders::{Plan, Seeded};
pub use tally::{Latency, Tally};
