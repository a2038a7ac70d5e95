//! The retry ladder (CONTRACT §5, DESIGN §4 "Failing"): where an event goes when handling it failed.
//!
//! ```text
//! its topic ─ RETRY_IMMEDIATE attempts ─▶ retry-1 ─▶ retry-2 ─▶ retry-3 ─▶ parked ─▶ dead + alarm
//!                                          one attempt each, after its delay   PARKED_ATTEMPTS batches
//! ```
//!
//! What makes no sense (`Unprocessable`) is dead at once; what a replay brought back is dead after its
//! immediate attempts. Each move is one transaction ([`hop`]): the event's row in the inbox, and an outbox row
//! or its row in `dead_letters`. So an event is in exactly one place, by construction; a record that says
//! another hop than the inbox is stale.

pub mod headers;
mod own_topics;

pub use own_topics::{OwnTopic, Rung};
