//! The header `Idempotency-Key`.

use std::{
    future::{Ready, ready},
    str::FromStr,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use utoipa::ToSchema;

use crate::Problem;

/// The name of the header.
pub(crate) const HEADER: &str = "idempotency-key";
/// The longest key, in characters (docs/contract.md §3).
const MAX_CHARS: usize = 255;

/// 1–255 visible ASCII characters. As a handler's argument it makes the header obligatory.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(description = "1–255 visible ASCII characters", min_length = 1, max_length = 255, pattern = "^[!-~]*$")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 1–255 visible ASCII characters")]
pub struct InvalidKey;

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let visible = |b: u8| b.is_ascii_graphic();
        ((1..=MAX_CHARS).contains(&text.len()) && text.bytes().all(visible))
            .then(|| Self(text.to_owned()))
            .ok_or(InvalidKey)
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let missing = || {
            Problem::bad_request(
                "idempotency-key-missing",
                "This call needs an Idempotency-Key, so that it can safely be sent again.",
            )
            .of_field("Idempotency-Key")
        };
        ready(sent(request).and_then(|key| key.ok_or_else(missing)))
    }
}

/// For calls that take a key and don't need one: who sends none has to know by himself whether to send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalIdempotencyKey(pub Option<IdempotencyKey>);

impl FromRequest for OptionalIdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(sent(request).map(Self))
    }
}

fn sent(request: &HttpRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let mut sent = request.headers().get_all(HEADER);
    match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => key.to_str().ok().and_then(|key| key.parse().ok()).map(Some).ok_or_else(invalid),
        (Some(_), Some(_)) => Err(invalid()),
    }
}

fn invalid() -> Problem {
    Problem::bad_request("idempotency-key-invalid", "An Idempotency-Key is 1–255 visible ASCII characters.")
        .of_field("Idempotency-Key")
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        let key = serde_json::to_value(IdempotencyKey::schema()).expect("JSON");
        assert_eq!(key["maxLength"], MAX_CHARS);
    }
}
