//! The whole choreography in one process: all handlers of all services on real PostgreSQL, and a
//! seeded scheduler where the broker would be (ARCHITECTURE.md, "Tests").
//!
//! A *history* is what happened to a few orders under one seed: who was delivered what, when, how
//! often, at the same time as what, and where it died. At its end everything is delivered until all is
//! quiet, and the law is checked. A failing seed is printed and replays:
//!
//! ```sh
//! CHOREOGRAPHY_SEED=42 cargo nextest run --workspace --no-capture histories
//! ```
//!
//! Seeds decide the schedule. Two deliveries at the same time race in PostgreSQL as they like, so a
//! seed that found a race may need a few runs to find it again.

mod broker;
mod history;
mod law;
mod sale;
mod shop;

pub use history::{Outcome, run};
pub use shop::Shop;
