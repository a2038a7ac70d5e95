//! Identifiers as types, so that an order id is never handed over where a user id is meant.
//!
//! Generated ids are `UUIDv7`, written with hyphens and in lower case, and read in either case; ids that come from
//! outside (users, products, coupons) are opaque strings of `[A-Za-z0-9._:@-]{1,128}`, but for `.` and `..`, which
//! are no names in a path. Both are checked when they are parsed, never later.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};
use uuid::Uuid;

/// An id that isn't one. Says which kind was expected, not what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}")]
pub struct InvalidId(&'static str);

macro_rules! generated_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID that was made or stored as this kind of id.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare UUID, for the database.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                hyphenated(text).map(Self).ok_or(InvalidId($kind))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Hyphenated($kind)).map(Self)
            }
        }
    };
}

/// A UUID with hyphens, in either case. Its spellings without hyphens, in braces or as a URN are none of ours.
fn hyphenated(text: &str) -> Option<Uuid> {
    if text.len() == uuid::fmt::Hyphenated::LENGTH { Uuid::parse_str(text).ok() } else { None }
}

/// The spelling in lower case, which is ours, where `text` is a UUID in another one. A record's key may also be an id of somebody else's
/// making, in which case matters: so a key is looked for as it was given, and like this.
pub fn in_lower_case(text: &str) -> Option<String> {
    hyphenated(text).map(|id| id.to_string()).filter(|ours| ours != text)
}

struct Hyphenated(&'static str);

impl Visitor<'_> for Hyphenated {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the UUID of a {}", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        hyphenated(text).ok_or_else(|| E::custom(InvalidId(self.0)))
    }
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(!try_from, !into)]
        pub struct $name(
            #[schemars(length(min = 1, max = MAX_OPAQUE_ID_CHARS), regex(pattern = OPAQUE_ID))] String,
        );

        impl $name {
            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                if is_opaque_id(&text) { Ok(Self(text)) } else { Err(InvalidId($kind)) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

/// The longest opaque id, in characters (docs/contract.md §3).
pub const MAX_OPAQUE_ID_CHARS: usize = 128;

/// What an opaque id is made of, but for its length: dots alone only from three on. Without a look-ahead, which
/// many readers of schemas don't know.
const OPAQUE_ID: &str = r"^(\.*[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*|\.{3,})$";

fn is_opaque_id(text: &str) -> bool {
    (1..=MAX_OPAQUE_ID_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
        // Clients take these two out of a path before it is sent.
        && !matches!(text, "." | "..")
}

generated_id! {
    /// One order, and the key of its saga.
    OrderId, "order id"
}
generated_id! {
    /// One event: what consumers de-duplicate by. Never changes on a retry, resume or replay.
    EventId, "event id"
}
generated_id! {
    /// One coupon in the hands of one user.
    IssuedCouponId, "issued coupon id"
}
generated_id! {
    /// One entry of the points ledger.
    EntryId, "ledger entry id"
}
opaque_id! {
    /// A customer, as the identity provider names him.
    UserId, "user id"
}
opaque_id! {
    /// A product of the catalogue.
    ProductId, "product id"
}
opaque_id! {
    /// A coupon's definition; not one that somebody holds (that is [`IssuedCouponId`]).
    CouponId, "coupon id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_id_is_1_to_128_of_the_allowed_characters() {
        assert!("a".parse::<UserId>().is_ok());
        assert!("A-z_9".parse::<UserId>().is_ok());
        assert!("a b".parse::<UserId>().is_err());
        assert!("shop:kim@example.com-1.2".parse::<UserId>().is_ok());
        assert!("".parse::<UserId>().is_err());
        assert!("x".repeat(128).parse::<UserId>().is_ok());
        assert!("x".repeat(129).parse::<UserId>().is_err());
        assert!("kim\n".parse::<UserId>().is_err());
        assert!("김".parse::<UserId>().is_err());
        assert!("...".parse::<UserId>().is_ok());
        assert!(".".parse::<UserId>().is_err() && "..".parse::<UserId>().is_err());
    }

    #[test]
    fn a_generated_id_is_read_with_hyphens_only() {
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        let order: OrderId = id.parse().expect("an id");
        assert_eq!(serde_json::from_str::<OrderId>(&format!("{id:?}")).expect("an id"), order);
        assert_eq!(order.to_string(), id);
        for other in [id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}"), format!(" {id}")] {
            assert!(other.parse::<OrderId>().is_err(), "{other}");
            assert!(serde_json::from_str::<OrderId>(&format!("{other:?}")).is_err(), "{other}");
        }
    }

    #[test]
    fn a_generated_id_is_read_in_either_case_and_written_in_lower_case() {
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        let (order, capitals): (OrderId, String) = (id.parse().expect("an id"), id.to_uppercase());
        assert_eq!(capitals.parse::<OrderId>().expect("an id").to_string(), id);
        assert_eq!(serde_json::from_str::<OrderId>(&format!("{capitals:?}")).expect("an id"), order);
        assert_eq!(in_lower_case(&capitals).as_deref(), Some(id));
        for other in [id, "Kim", &capitals.replace('-', "")] {
            assert_eq!(in_lower_case(other), None, "{other}");
        }
    }

    #[test]
    fn a_wrong_id_does_not_deserialize() {
        assert!(serde_json::from_str::<ProductId>(r#""a b""#).is_err());
        assert!(serde_json::from_str::<OrderId>(r#""42""#).is_err());
    }
}
