//! What each event says. Past tense, one type per topic, carrying what its readers need, so that
//! nobody asks back. What the first version of an event said, where there is a second, is in [`v1`].

#![expect(missing_docs, reason = "a field whose name says it all (ids, versions, times) has no second sentence")]

mod catalog;
mod coupon;
mod order;
mod payment;
mod points;
mod stock;
pub mod v1;

pub use catalog::ProductCatalog;
pub use coupon::{
    CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed, Discount,
};
pub use order::{
    MAX_NOTE_CHARS, OrderCancelled, OrderConfirmed, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved,
};
pub use payment::{PaymentCompleted, PaymentFailed, PaymentRefunded};
pub use points::{PointCharged, PointDeducted, PointRefunded};
pub use stock::{StockDeductFailed, StockDeducted, StockRestored};
