//! Why something was refused or ended: a closed list, the same in events and over HTTP.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! reasons {
    // A `tt`, as a literal that was matched as one can't be seen by every derive.
    ($($(#[$doc:meta])* $variant:ident => $text:tt),+ $(,)?) => {
        /// Why something was refused or ended (docs/contract.md §3; the list is closed).
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema,
        )]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $text)] $variant),+
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it is written in events, answers and tables.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reason")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or_else(|| UnknownReason(text.to_owned()))
    }
}
