//! Coupons as the outside sees them.

use chrono::{DateTime, Utc};
use common_events::{CouponId, IssuedCouponId, Percent, Won, events::Discount};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{Coupon, Mode, Reward},
    gate::Standing,
    store::MyCoupon,
};

/// How a coupon is given out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CouponMode)]
pub(super) enum ModeView {
    /// To the first so many, all alike.
    Set,
    /// To the first so many, each with his rank.
    Ranked,
}

/// What a coupon takes off.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[schema(as = Discount)]
pub(super) enum DiscountView {
    /// So many won.
    Amount { value: Won },
    /// So many percent, rounded down to the won, at most so many won.
    Percent {
        value: Percent,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<Won>,
    },
}

/// What some ranks get.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reward)]
pub(super) struct RewardView {
    /// The first of these ranks, 1-based.
    from_rank: i64,
    /// The last of them.
    to_rank: i64,
    discount: DiscountView,
}

/// Where the sale of a coupon stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = SaleState)]
pub(super) enum State {
    /// It opens later.
    Scheduled,
    /// It can be claimed.
    Open,
    /// All are taken, as far as is known; a slot that is given back opens it again.
    SoldOut,
    /// It can't be claimed any more.
    Closed,
    /// Who was admitted isn't known just now; claims are answered 503.
    Rebuilding,
}

/// A coupon, and where its sale stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Coupon)]
pub(super) struct CouponView {
    coupon_id: CouponId,
    /// What customers call it.
    name: String,
    mode: ModeView,
    /// How many there are.
    quantity: i64,
    /// What it takes off, for ranks without a reward of their own.
    discount: DiscountView,
    /// By rank.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rewards: Vec<RewardView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_at: Option<DateTime<Utc>>,
    /// An order that is placed later can't use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<DateTime<Utc>>,
    /// How many the gate has let in; missing while that isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    admitted: Option<i64>,
    /// How many were issued.
    issued: i64,
    /// How many can still be claimed.
    remaining: i64,
    state: State,
}

impl CouponView {
    /// `gate`: how it stands; `None` while it doesn't know.
    pub(super) fn of(coupon: Coupon, gate: Option<Standing>, now: DateTime<Utc>) -> Self {
        let admitted = gate.map(|gate| gate.holders);
        let taken = admitted.unwrap_or_default().max(coupon.issued);
        Self {
            state: state(&coupon, gate, now),
            remaining: (coupon.quantity - taken).max(0),
            coupon_id: coupon.coupon_id,
            name: coupon.name,
            mode: coupon.mode.into(),
            quantity: coupon.quantity,
            discount: coupon.discount.into(),
            rewards: coupon.rewards.into_iter().map(RewardView::from).collect(),
            opens_at: coupon.opens_at,
            closes_at: coupon.closes_at,
            valid_until: coupon.valid_until,
            admitted,
            issued: coupon.issued,
        }
    }

    /// One that was just put up: nobody is in.
    pub(super) fn of_new(coupon: Coupon) -> Self {
        let now = coupon.created_at;
        let state = if coupon.opens_at.is_some_and(|opens| now < opens) { State::Scheduled } else { State::Open };
        Self { admitted: Some(0), state, ..Self::of(coupon, None, now) }
    }

    pub(super) const fn coupon_id(&self) -> &CouponId {
        &self.coupon_id
    }
}

fn state(coupon: &Coupon, gate: Option<Standing>, now: DateTime<Utc>) -> State {
    if coupon.issued >= coupon.quantity {
        return State::SoldOut;
    }
    if coupon.closes_at.is_some_and(|closes| closes <= now) {
        return State::Closed;
    }
    if coupon.opens_at.is_some_and(|opens| now < opens) {
        return State::Scheduled;
    }
    match gate {
        Some(gate) if gate.is_sold_out() => State::SoldOut,
        Some(_) => State::Open,
        None => State::Rebuilding,
    }
}

/// A coupon in the caller's hands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MyCoupon)]
pub(super) struct MyCouponView {
    /// What an order names to use it.
    issued_coupon_id: IssuedCouponId,
    coupon_id: CouponId,
    discount: DiscountView,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<DateTime<Utc>>,
    status: UseStatus,
    /// Since when an order uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_at: Option<DateTime<Utc>>,
}

/// Whether an order uses it.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum UseStatus {
    /// It can be used.
    Issued,
    /// An order uses it.
    Used,
}

impl MyCouponView {
    pub(super) const fn issued_coupon_id(&self) -> IssuedCouponId {
        self.issued_coupon_id
    }
}

impl From<MyCoupon> for MyCouponView {
    fn from(MyCoupon { coupon, order_id, used_at }: MyCoupon) -> Self {
        Self {
            issued_coupon_id: coupon.issued_coupon_id,
            coupon_id: coupon.coupon_id,
            discount: coupon.discount.into(),
            rank: coupon.rank,
            valid_until: coupon.valid_until,
            status: if order_id.is_some() { UseStatus::Used } else { UseStatus::Issued },
            // A release before this one lets it stand when the coupon is free again.
            used_at: order_id.and(used_at),
        }
    }
}

impl From<Mode> for ModeView {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Set => Self::Set,
            Mode::Ranked => Self::Ranked,
        }
    }
}

impl From<ModeView> for Mode {
    fn from(mode: ModeView) -> Self {
        match mode {
            ModeView::Set => Self::Set,
            ModeView::Ranked => Self::Ranked,
        }
    }
}

impl From<Discount> for DiscountView {
    fn from(discount: Discount) -> Self {
        match discount {
            Discount::Amount { value } => Self::Amount { value },
            Discount::Percent { value, max } => Self::Percent { value, max },
        }
    }
}

impl From<Reward> for RewardView {
    fn from(Reward { from_rank, to_rank, discount }: Reward) -> Self {
        Self { from_rank, to_rank, discount: discount.into() }
    }
}
