//! Where each saga stands: what was heard of it, what it waits for, what is wrong with it, and how it is set
//! going again. An onlooker: services work while it is down, and it catches up.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | every event of a saga | a row of the log, and its saga moves on | – | – |
//! | retries and dead letters of all groups but its own, by their headers | a row of the log; progress of the saga | – | – |
//! | records that are no event, or of no trace | a row of the log, marked, under a saga of their own | – | – |
//! | time | sagas that don't move or don't match, dead letters, lag: an alarm per cause | the webhook | closes by itself |
//! | `POST /api/sagas/{key}/resume` | asks whoever owes an answer for it again | the event, marked `x-resume`, to the group's replay topic | – |
//!
//! The log is insert-only; all that is shown of sagas follows from it ([`domain`]) by the flows as they are
//! declared ([`flows`]). Hearing is one writer ([`events::recorder`]), judging another ([`detection`]); nothing
//! is judged that isn't known whole ([`detection::watermark`]).
//!
//! Left out on purpose: spans. The monitor hears every event of every service; a span each would double what
//! Zipkin keeps, and say nothing.

pub mod alarm;
pub mod cluster;
pub mod consumers;
pub mod detection;
pub mod domain;
pub mod events;
pub mod flows;
pub mod http;
pub mod page;
pub mod resume;
pub mod services;
pub mod store;
pub mod webhook;
pub mod whereabouts;
