//! Coupons: what can be claimed, who gets one, and what it takes off an order. Pure: no I/O, no clock,
//! no randomness.
//!
//! | part | decides |
//! |---|---|
//! | [`Coupon`], [`Proposal`] | what a coupon is, and what can't be one |
//! | [`Counter`] | who of those that were admitted gets a coupon: the second line of defence |
//! | [`Wallet`] | whether an order may use a coupon, and what it takes off |
//! | [`Settled`] | how an admission ended |

mod counter;
mod coupon;
mod proposal;
mod settled;
mod wallet;

pub use counter::{Counter, Request, Verdict};
pub use coupon::{Coupon, IssuedCoupon, Mode, Reward, UnknownMode};
pub use proposal::{
    CouponName, DiscountKind, Invalid, InvalidDiscount, MAX_DISCOUNT, MAX_REWARDS, Proposal, ProposedDiscount,
    ProposedReward, Quantity, Refusal,
};
pub use settled::{Outcome, Settled};
pub use wallet::{Answer, Changes, CouponInWallet, CouponOrder, Use, Wallet, discount_on};

#[cfg(test)]
mod tests;
