//! Why something was refused or ended, in events, answers and tables.
//!
//! Who refuses has reasons of his own, so there is a list for each, and a refund passes on why its order was
//! cancelled. Every list is open: a reader takes a reason that it doesn't know as `Other`, and passes it on as it
//! was written. What such a reason means is the reader's to say.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A text that can't be a reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reason: a capital, and up to {max} more capitals, digits and underscores", max = ReasonCode::MAX_LENGTH - 1)]
pub struct NoReason(String);

/// A reason as it is written, known or not: a capital, then capitals, digits and underscores.
///
/// It lies in itself, not on the heap, so that reasons are copied as numbers are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReasonCode {
    letters: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl ReasonCode {
    /// The longest code, in characters.
    pub const MAX_LENGTH: usize = 40;
    /// What codes look like, for schemas.
    const PATTERN: &str = "^[A-Z][A-Z0-9_]{0,39}$";

    /// The order had been cancelled before: who takes part in orders refuses with it, whatever else is on his list.
    pub const ORDER_CANCELLED: Self = Self::known("ORDER_CANCELLED");

    /// One of ours; a wrong one isn't compiled.
    pub(crate) const fn known(text: &str) -> Self {
        match Self::of(text) {
            Some(code) => code,
            None => panic!("a code is a capital, then capitals, digits and underscores"),
        }
    }

    const fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > Self::MAX_LENGTH || !bytes[0].is_ascii_uppercase() {
            return None;
        }
        let mut letters = [0; Self::MAX_LENGTH];
        let mut at = 0;
        while at < bytes.len() {
            if !matches!(bytes[at], b'A'..=b'Z' | b'0'..=b'9' | b'_') {
                return None;
            }
            letters[at] = bytes[at];
            at += 1;
        }
        Some(Self { letters, length: bytes.len() })
    }

    /// As it is written.
    ///
    /// # Panics
    /// Never: it is ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.letters[..self.length]).expect("capitals, digits and underscores")
    }
}

impl FromStr for ReasonCode {
    type Err = NoReason;

    fn from_str(text: &str) -> Result<Self, NoReason> {
        Self::of(text).ok_or_else(|| NoReason(text.to_owned()))
    }
}

impl TryFrom<String> for ReasonCode {
    type Error = NoReason;

    fn try_from(text: String) -> Result<Self, NoReason> {
        text.parse()
    }
}

impl From<ReasonCode> for String {
    fn from(code: ReasonCode) -> Self {
        code.as_str().to_owned()
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for ReasonCode {
    fn schema_name() -> Cow<'static, str> {
        "ReasonCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A reason as it is written, whoever gives it.",
            "type": "string",
            "pattern": Self::PATTERN,
        })
    }
}

/// An open list: whatever a code can be, and which there are today.
fn open_list(about: &str, known: &[(&str, &str)]) -> Schema {
    let lines = known.iter().map(|(code, why)| format!("- `{code}`:{why}"));
    let description = format!("{}\n\n{}", about.trim(), lines.collect::<Vec<_>>().join("\n"));
    json_schema!({
        "description": description,
        "type": "string",
        "pattern": ReasonCode::PATTERN,
        "examples": known.iter().map(|(code, _)| code).collect::<Vec<_>>(),
    })
}

macro_rules! reasons {
    ($(
        $(#[doc = $about:literal])+
        $list:ident { $($(#[doc = $why:literal])+ $reason:ident => $code:literal),+ $(,)? }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "ReasonCode", into = "ReasonCode")]
        pub enum $list {
            $($(#[doc = $why])+ $reason,)+
            /// A reason of a later release, as it was written; made by `From<ReasonCode>`, which knows the others.
            Other(ReasonCode),
        }

        impl $list {
            /// Every reason that is known.
            pub const KNOWN: &'static [Self] = &[$(Self::$reason),+];

            /// As it is written in events, answers and tables.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$reason => $code,)+
                    Self::Other(code) => code.as_str(),
                }
            }
        }

        impl From<ReasonCode> for $list {
            fn from(code: ReasonCode) -> Self {
                match code.as_str() {
                    $($code => Self::$reason,)+
                    _ => Self::Other(code),
                }
            }
        }

        impl From<$list> for ReasonCode {
            fn from(reason: $list) -> Self {
                match reason {
                    $($list::$reason => const { ReasonCode::known($code) },)+
                    $list::Other(code) => code,
                }
            }
        }

        impl FromStr for $list {
            type Err = NoReason;

            fn from_str(text: &str) -> Result<Self, NoReason> {
                text.parse::<ReasonCode>().map(Self::from)
            }
        }

        impl fmt::Display for $list {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl JsonSchema for $list {
            fn schema_name() -> Cow<'static, str> {
                stringify!($list).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                open_list(concat!($($about),+), &[$(($code, concat!($($why),+))),+])
            }
        }
    )+};
}

reasons! {
    /// Why a line gets no stock.
    StockRefusal {
        /// It asks for more than there is.
        OutOfStock => "OUT_OF_STOCK",
        /// It names a product that isn't in the catalogue.
        UnknownProduct => "UNKNOWN_PRODUCT",
        /// The order had been cancelled before.
        OrderCancelled => "ORDER_CANCELLED",
    }

    /// Why a coupon can't be used.
    CouponRefusal {
        /// No such issued coupon.
        NotFound => "COUPON_NOT_FOUND",
        /// The coupon is somebody else's.
        NotOwned => "COUPON_NOT_OWNED",
        /// The coupon was used by another order.
        Used => "COUPON_USED",
        /// The coupon is past its last day.
        Expired => "COUPON_EXPIRED",
        /// The order had been cancelled before.
        OrderCancelled => "ORDER_CANCELLED",
    }

    /// Why an order can't be paid.
    PaymentRefusal {
        /// The balance is below the total.
        InsufficientPoints => "INSUFFICIENT_POINTS",
        /// The account is closed.
        AccountClosed => "ACCOUNT_CLOSED",
        /// The total is above the account's limit per payment.
        LimitExceeded => "LIMIT_EXCEEDED",
        /// The order had been cancelled before.
        OrderCancelled => "ORDER_CANCELLED",
    }

    /// Why an order was cancelled, and why its payment went back.
    CancelReason {
        /// A line asks for more than there is.
        OutOfStock => "OUT_OF_STOCK",
        /// A line names a product that isn't in the catalogue.
        UnknownProduct => "UNKNOWN_PRODUCT",
        /// No such issued coupon.
        CouponNotFound => "COUPON_NOT_FOUND",
        /// The coupon is somebody else's.
        CouponNotOwned => "COUPON_NOT_OWNED",
        /// The coupon was used by another order.
        CouponUsed => "COUPON_USED",
        /// The coupon is past its last day.
        CouponExpired => "COUPON_EXPIRED",
        /// The balance is below the total.
        InsufficientPoints => "INSUFFICIENT_POINTS",
        /// The account is closed.
        AccountClosed => "ACCOUNT_CLOSED",
        /// The total is above the account's limit per payment.
        LimitExceeded => "LIMIT_EXCEEDED",
        /// Who was asked knew it as cancelled.
        OrderCancelled => "ORDER_CANCELLED",
        /// The order didn't get on within `ORDER_TIMEOUT`.
        Timeout => "TIMEOUT",
        /// The customer cancelled.
        Customer => "CUSTOMER",
        /// An operator cancelled.
        Operator => "OPERATOR",
    }

    /// Why a request for a coupon is turned away.
    ClaimRefusal {
        /// All coupons are gone.
        SoldOut => "SOLD_OUT",
        /// The sale hadn't opened, or was closed.
        NotOpen => "NOT_OPEN",
        /// The admission belongs to an epoch of the gate that has ended.
        EpochEnded => "EPOCH_ENDED",
        /// An operator discarded the request.
        Discarded => "DISCARDED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ReasonCode {
        text.parse().expect("a code")
    }

    #[test]
    fn a_reason_reads_as_it_was_written_known_or_not() {
        for (text, reason) in [
            ("\"OUT_OF_STOCK\"", StockRefusal::OutOfStock),
            ("\"RECALLED_2027\"", StockRefusal::Other(code("RECALLED_2027"))),
            ("\"TIMEOUT\"", StockRefusal::Other(code("TIMEOUT"))),
        ] {
            assert_eq!(serde_json::from_str::<StockRefusal>(text).expect("a reason"), reason);
            assert_eq!(serde_json::to_string(&reason).expect("JSON"), text);
            assert_eq!(format!("\"{reason}\""), text);
        }
    }

    #[test]
    fn a_reason_that_another_list_does_not_know_is_known_again_by_one_that_does() {
        let unknown = StockRefusal::Other(code("TIMEOUT"));
        assert_eq!(CancelReason::from(ReasonCode::from(unknown)), CancelReason::Timeout);
    }

    #[test]
    fn every_known_reason_is_found_by_its_code() {
        for reason in CancelReason::KNOWN {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!(StockRefusal::from(ReasonCode::ORDER_CANCELLED), StockRefusal::OrderCancelled);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let longest = "A".repeat(ReasonCode::MAX_LENGTH);
        assert_eq!(code(&longest).as_str(), longest);
        for wrong in ["", "Customer", "1ST", "_X", "A B", "A-B", "É", "A\0", &(longest + "A")] {
            assert_eq!(wrong.parse::<ReasonCode>(), Err(NoReason(wrong.to_owned())));
        }
    }
}
