//! The whole choreography in one process: all handlers of all services on real PostgreSQL, and a
//! seeded scheduler where the broker would be (ARCHITECTURE.md, "Tests").
//!
//! A *history* is what happened to a few orders under one seed: who was delivered what, when, how
//! often, at the same time as what, and where it died. More than half of them are *troubled*: handlers fail in every way
//! they can, processes die at named steps, operators replay, discard and ask again. What holds at any moment is looked at on
//! the way: that each event is in one place, and in the order of its key, after every step that moved some. At its end all is
//! mended, everything is delivered until all is quiet, and the whole law is checked. A failing seed is printed, with the fewest steps of it that break the law, and replays:
//!
//! ```sh
//! CHOREOGRAPHY_SEED=42 CHOREOGRAPHY_STEPS=17 tests/run some 'binary_id(choreography::it) & test(histories)'
//! ```
//!
//! Seeds decide the schedule, step by step: what one step came to decides nothing of the next but what there is to do. They
//! don't decide who wins where several are at it at the same time: deliveries, drains and cancels beside each other, a
//! replay's own steps beside its deliveries, and a stopwatch beside the delivery that it cuts off. A seed that found one of
//! these may need a few runs to find it again.

mod broker;
mod deliver;
mod desk;
mod history;
mod law;
mod outcome;
mod plan;
mod replay;
mod sale;
mod shop;
mod trouble;
mod written;

pub use history::{MAX_STEPS, run};
pub use outcome::Outcome;
pub use shop::Shop;
