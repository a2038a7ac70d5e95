//! The words of an order's state, as they stand in the table and in answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text that is none of these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no {1}")]
pub struct UnknownWord(String, &'static str);

macro_rules! words {
    // A `tt`, as a literal that was matched as one can't be seen by every derive.
    ($(#[$doc:meta])* $name:ident, $kind:literal: $($(#[$word_doc:meta])* $word:ident = $text:tt),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word),+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text),+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let known = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                known.ok_or_else(|| UnknownWord(text.to_owned(), $kind))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How far an order is.
    Status, "order status":
    /// Stock and coupon are asked for.
    Pending = "PENDING",
    /// All is held; the payment is asked for.
    AwaitingPayment = "AWAITING_PAYMENT",
    /// Paid. It may still be cancelled.
    Confirmed = "CONFIRMED",
    /// Ended, for good.
    Cancelled = "CANCELLED",
}

words! {
    /// What another service answered when it was asked to hold something.
    Hold, "answer to a hold":
    /// Nothing yet.
    Asked = "ASKED",
    /// It is held.
    Held = "HELD",
    /// It can't be held.
    Refused = "REFUSED",
}

words! {
    /// What payment-service said.
    Payment, "payment state":
    /// It was paid.
    Completed = "COMPLETED",
    /// It could not be paid.
    Failed = "FAILED",
    /// It was paid, and went back.
    Refunded = "REFUNDED",
}

impl Status {
    /// Neither confirmed nor cancelled: what a timeout ends, and what a customer waits for.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::AwaitingPayment => true,
            Self::Confirmed | Self::Cancelled => false,
        }
    }
}

impl Hold {
    /// Takes an answer. Returns false, and changes nothing, when there was one before.
    pub(super) fn answer(&mut self, answer: Self) -> bool {
        let is_news = *self == Self::Asked;
        if is_news {
            *self = answer;
        }
        is_news
    }
}
