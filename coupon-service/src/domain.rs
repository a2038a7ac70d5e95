//! Coupons: what can be claimed, who gets one, and what it takes off an order. Pure: no I/O, no clock,
//! no randomness.
//!
//! | part | decides |
//! |---|---|
//! | [`Coupon`] | what a coupon is |
//! | [`Settled`] | how an admission ended |

mod coupon;
mod settled;

pub use coupon::{Coupon, Mode, Reward, UnknownMode};
pub use settled::{Outcome, Settled};
