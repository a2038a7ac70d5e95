//! What coupon-service tells: first-come issuing (keyed by coupon) and use in an order (keyed by order).

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{order::keyed_by_order, v1};
use crate::{
    ClaimRefusal, CouponId, CouponRefusal, EventData, EventId, IssuedCouponId, OrderId, Percent, Topic, UserId, Won,
    versions::Before,
};

/// What a coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Discount {
    /// So many won.
    Amount {
        /// Won.
        value: Won,
    },
    /// So many percent, rounded down to the won.
    Percent {
        /// Of the order's subtotal.
        value: Percent,
        /// At most so many won.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<Won>,
    },
}

/// The coupon is held for the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponUsed {
    pub order_id: OrderId,
    pub issued_coupon_id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// Won off the order's subtotal; at most the subtotal.
    pub discount: Won,
}

/// The coupon can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponUseFailed {
    pub order_id: OrderId,
    pub issued_coupon_id: IssuedCouponId,
    pub reason: CouponRefusal,
}

/// A cancelled order's coupon can be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponRestored {
    pub order_id: OrderId,
    pub issued_coupon_id: IssuedCouponId,
}

keyed_by_order!(CouponUsed, CouponUseFailed (still_told v1::CouponUseFailed), CouponRestored);

/// The gate admitted a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponIssueRequested {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// 1-based; `ranked` mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i64>,
    /// The epoch of the gate that admitted.
    pub epoch: i64,
    /// The gate's clock.
    pub admitted_at: DateTime<Utc>,
}

/// The user holds the coupon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponIssued {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    pub issued_coupon_id: IssuedCouponId,
    /// The id of the `coupon-issue-requested` that is answered: the key of its saga. A repeated request of
    /// a user who holds the coupon is answered with what he holds, so whoever counts counts `issuedCouponId`s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i64>,
    pub discount: Discount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<DateTime<Utc>>,
    pub issued_at: DateTime<Utc>,
}

/// The admitted user gets none after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponIssueRejected {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// The id of the `coupon-issue-requested` that is answered: the key of its saga.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<EventId>,
    pub reason: ClaimRefusal,
}

macro_rules! keyed_by_coupon {
    ($($data:ident $(($how:ident $before:ty))?),+) => {$(
        impl EventData for $data {
            const TOPIC: Topic = Topic::$data;
            $(const BEFORE: Option<Before<Self>> = Some(Before::$how::<$before>());)?

            fn key(&self) -> Cow<'_, str> {
                self.coupon_id.as_str().into()
            }
        }
    )+};
}
pub(super) use keyed_by_coupon;

keyed_by_coupon!(CouponIssueRequested, CouponIssued, CouponIssueRejected (still_told v1::CouponIssueRejected));
