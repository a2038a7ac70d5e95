//! Load in an open loop: orders arrive when they were planned to, however slow the answers are, and every
//! latency counts from the planned time. A closed loop would wait with a slow suite, and hide how slow it is.
//!
//! | module | owns |
//! |---|---|
//! | [`orders`] | products and users of its own, and orders at a fixed rate |
//! | [`tally`] | what was sent, answered, confirmed, cancelled, and how long it took |
//! | [`verdict`] | money and stock afterwards, over the HTTP APIs only |

pub mod orders;
pub mod tally;
pub mod verdict;

pub use orders::{Plan, Seeded};
pub use tally::{Latency, Live, Tally};
