//! Completed payments, sent to the outside data platform over HTTP.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `payment-completed` | `POST`s the paid order to `DATA_PLATFORM_URL` | – | – |
//!
//! Each payment is one call, whose body is a [`domain::PaidOrder`]:
//!
//! ```json
//! {"orderId":"0190…","userId":"kim","lines":[{"productId":"mug","name":"Mug","quantity":2,"unitPrice":12000,"amount":24000}],
//!  "discount":0,"total":24000,"paidAt":"2026-11-21T06:00:00.123Z","traceId":"4bf9…"}
//! ```
//!
//! The call comes before the transaction in which the event becomes applied, as nothing of ours is held
//! while somebody else thinks. A process that dies in between sends it again: the event's id goes with it as
//! `Idempotency-Key`, the same at every attempt, retry and replay, and the body is the same byte for byte.
//!
//! | the platform | means |
//! |---|---|
//! | 2xx | taken |
//! | 4xx but 408 and 429 | it will never be taken: a dead letter at once |
//! | 5xx, 408, 429, anything else, no answer in time, no connection | transient: the ladder (docs/contract.md §5) |
//!
//! A platform that can't be reached is no infrastructure of ours: its payments climb the ladder, and no
//! partition waits for it.
//!
//! Left out on purpose: refunds, which the platform doesn't ask for, and a record of what was sent. The inbox
//! is that record, and this service owns nothing else.

pub mod domain;
pub mod events;
pub mod platform;
