//! What seven events said in their first version: a reason of one list, closed, and the same for all of them. In
//! their second version each has the open list of who refuses ([`crate::reason`]). Six of them are still told in the
//! first as long as it has a word for their reason, until every reader knows the second.
//!
//! The list is closed for what is told, and so it stands in the schemas. Who reads takes any reason: an event of
//! somebody else's with another one is no reason to lose it.
//!
//! Records of this version lie on the topics, in outboxes and among dead letters, for ever where points are kept: so
//! it never changes, and it is always read.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    self as second, MAX_NOTE_CHARS, OrderLine, coupon::keyed_by_coupon, order::keyed_by_order, points::keyed_by_user,
    stock::keyed_by_product,
};
use crate::{
    CouponId, EventData, EventId, IssuedCouponId, OrderId, ProductId, Quantity, ReasonCode, Topic, UserId, Won,
    ids::EntryId,
};

/// The line got nothing: `OUT_OF_STOCK`, `UNKNOWN_PRODUCT`, or `ORDER_CANCELLED` before it was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockDeductFailed {
    pub order_id: OrderId,
    pub product_id: ProductId,
    pub quantity: Quantity,
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
}

/// The coupon can't be used: `COUPON_NOT_FOUND`, `…_NOT_OWNED`, `…_USED`, `…_EXPIRED` or `ORDER_CANCELLED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponUseFailed {
    pub order_id: OrderId,
    pub issued_coupon_id: IssuedCouponId,
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
}

/// Nothing was taken: `INSUFFICIENT_POINTS`, `ACCOUNT_CLOSED`, `LIMIT_EXCEEDED` or `ORDER_CANCELLED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// What should have been paid.
    pub total: Won,
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
}

/// The order ended. The one trigger of compensation: who hears it undoes what he did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// Why it ended.
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
    /// What the person who cancelled said, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NOTE_CHARS))]
    pub note: Option<String>,
    pub cancelled_at: DateTime<Utc>,
}

/// What was paid for a cancelled order went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    pub discount: Won,
    /// What went back: all that had been paid.
    pub total: Won,
    /// When it had been paid: a refund counts back there.
    pub paid_at: DateTime<Utc>,
    pub refunded_at: DateTime<Utc>,
    /// Why the order ended.
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
}

/// The user got back what he had paid for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointRefunded {
    /// The ledger's entry.
    pub entry_id: EntryId,
    pub user_id: UserId,
    pub order_id: OrderId,
    pub amount: Won,
    /// The balance after it.
    pub balance: Won,
    /// Why the order ended.
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
    /// The ledger's time.
    pub at: DateTime<Utc>,
}

/// The admitted user gets none after all: `SOLD_OUT`, `NOT_OPEN`, `EPOCH_ENDED` or `DISCARDED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouponIssueRejected {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// The id of the `coupon-issue-requested` that is answered: the key of its saga.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<EventId>,
    #[schemars(with = "Reason")]
    pub reason: ReasonCode,
}

keyed_by_product!(StockDeductFailed);
keyed_by_order!(CouponUseFailed, PaymentFailed, OrderCancelled, PaymentRefunded);
keyed_by_user!(PointRefunded);
keyed_by_coupon!(CouponIssueRejected);

/// How it is read as the second version; and how the second is told in the first, which knows only its own reasons.
macro_rules! same_but_for_its_reason {
    ($data:ident { $($field:ident),+ }) => {
        impl From<$data> for second::$data {
            fn from($data { $($field,)+ reason }: $data) -> Self {
                Self { $($field,)+ reason: reason.into() }
            }
        }
    };
    ($data:ident { $($field:ident),+ } still told) => {
        same_but_for_its_reason!($data { $($field),+ });

        impl TryFrom<second::$data> for $data {
            type Error = LaterReason;

            fn try_from(second: second::$data) -> Result<Self, LaterReason> {
                let second::$data { $($field,)+ reason } = second;
                Ok(Self { $($field,)+ reason: Reason::try_from(ReasonCode::from(reason))?.into() })
            }
        }
    };
}

same_but_for_its_reason!(OrderCancelled {
    order_id,
    order_version,
    user_id,
    lines,
    issued_coupon_id,
    note,
    cancelled_at
});
same_but_for_its_reason!(StockDeductFailed { order_id, product_id, quantity } still told);
same_but_for_its_reason!(CouponUseFailed { order_id, issued_coupon_id } still told);
same_but_for_its_reason!(PaymentFailed { order_id, user_id, total } still told);
same_but_for_its_reason!(PaymentRefunded {
    order_id, user_id, lines, discount, total, paid_at, refunded_at
} still told);
same_but_for_its_reason!(PointRefunded { entry_id, user_id, order_id, amount, balance, at } still told);
same_but_for_its_reason!(CouponIssueRejected { coupon_id, user_id, request_id } still told);

/// A reason that the first version has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no reason of the first version")]
pub struct LaterReason(ReasonCode);

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident => $code:literal),+ $(,)?) => {
        /// Why something was refused or ended (docs/contract.md §3; the list is closed).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
        pub enum Reason {
            $($(#[$doc])* #[schemars(rename = $code)] $reason),+
        }

        impl From<Reason> for ReasonCode {
            fn from(reason: Reason) -> Self {
                match reason {
                    $(Reason::$reason => const { Self::known($code) }),+
                }
            }
        }

        impl TryFrom<ReasonCode> for Reason {
            type Error = LaterReason;

            fn try_from(code: ReasonCode) -> Result<Self, LaterReason> {
                match code.as_str() {
                    $($code => Ok(Self::$reason),)+
                    _ => Err(LaterReason(code)),
                }
            }
        }
    };
}

reasons! {
    /// A line asks for more than there is.
    OutOfStock => "OUT_OF_STOCK",
    /// A line names a product that isn't in the catalogue.
    UnknownProduct => "UNKNOWN_PRODUCT",
    /// The balance is below the total.
    InsufficientPoints => "INSUFFICIENT_POINTS",
    /// The account is closed.
    AccountClosed => "ACCOUNT_CLOSED",
    /// The total is above the account's limit per payment.
    LimitExceeded => "LIMIT_EXCEEDED",
    /// No such issued coupon.
    CouponNotFound => "COUPON_NOT_FOUND",
    /// The coupon is somebody else's.
    CouponNotOwned => "COUPON_NOT_OWNED",
    /// The coupon was used by another order.
    CouponUsed => "COUPON_USED",
    /// The coupon is past its last day.
    CouponExpired => "COUPON_EXPIRED",
    /// The order had been cancelled before.
    OrderCancelled => "ORDER_CANCELLED",
    /// The order didn't get on within `ORDER_TIMEOUT`.
    Timeout => "TIMEOUT",
    /// The customer cancelled.
    Customer => "CUSTOMER",
    /// An operator cancelled.
    Operator => "OPERATOR",
    /// All coupons are gone.
    SoldOut => "SOLD_OUT",
    /// The sale hadn't opened, or was closed.
    NotOpen => "NOT_OPEN",
    /// The admission belongs to an epoch of the gate that has ended.
    EpochEnded => "EPOCH_ENDED",
    /// An operator discarded the request.
    Discarded => "DISCARDED",
}
