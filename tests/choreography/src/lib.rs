//! The whole choreography in one process: all handlers of all services on real PostgreSQL, and a
//! seeded scheduler where the broker would be (ARCHITECTURE.md, "Tests").
//!
//! A *history* is what happened to a few orders under one seed: who was delivered what, when, how
//! often, at the same time as what, and where it died. More than half of them are *troubled*: handlers fail in every way
//! they can, processes die at named steps, operators replay, discard and ask again. At its end all is mended, everything
//! is delivered until all is quiet, and the law is checked; that each event is in one place is looked at on the way, too.
//! A failing seed is printed, with the fewest steps of it that break the law, and replays:
//!
//! ```sh
//! CHOREOGRAPHY_SEED=42 CHOREOGRAPHY_STEPS=17 tests/run some 'binary_id(choreography::it) & test(histories)'
//! ```
//!
//! Seeds decide the schedule. Two deliveries at the same time race in PostgreSQL as they like, and so do a replay's own
//! steps with its deliveries: a seed that found a race may need a few runs to find it again.

mod broker;
mod desk;
mod history;
mod law;
mod sale;
mod shop;
mod trouble;
mod written;

pub use history::{MAX_STEPS, Outcome, run};
pub use shop::Shop;
