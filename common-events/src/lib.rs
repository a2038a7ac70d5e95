//! The contract between the services, and nothing else: what an event says ([`events`]), now and in
//! the versions before ([`versions`]), the envelope it travels in ([`envelope`]), the topics it
//! travels on ([`catalogue`]), and the few types all of them speak in ([`ids`], [`money`],
//! [`time`], [`trace`], [`reason`]).
//!
//! A leaf: it depends on no other crate of the suite, opens no connection, reads no clock and
//! makes no ids. Behaviour lives with the service that owns it.

pub mod catalogue;
pub mod envelope;
pub mod events;
pub mod ids;
pub mod money;
mod openapi;
pub mod reason;
pub mod service;
pub mod time;
pub mod trace;
pub mod versions;

pub use catalogue::{Topic, TopicSpec};
pub use envelope::Event;
pub use ids::{CouponId, EventId, IssuedCouponId, OrderId, ProductId, UserId};
pub use money::{Percent, Quantity, Won};
pub use reason::{CancelReason, ClaimRefusal, CouponRefusal, PaymentRefusal, ReasonCode, StockRefusal};
pub use service::Service;
pub use trace::{TraceId, TraceParent};
pub use versions::EventData;
