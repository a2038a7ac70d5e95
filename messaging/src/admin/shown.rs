//! Bytes of strangers as JSON can carry them.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use utoipa::ToSchema;

/// How bytes are written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = BytesEncoding)]
pub(super) enum Encoding {
    /// They are UTF-8, and stand there as they are.
    Text,
    /// They are not.
    Base64,
}

/// The bytes, losslessly: as text when they are text.
pub(super) fn shown(bytes: Vec<u8>) -> (String, Encoding) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, Encoding::Text),
        Err(error) => (BASE64_STANDARD.encode(error.into_bytes()), Encoding::Base64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_everything_else_can_be_had_back() {
        assert_eq!(shown("녹차\0\"".into()), ("녹차\0\"".to_owned(), Encoding::Text));
        for bytes in [&b"\xff\xfe"[..], b"\xed\xa0\x80", b"a\x80"] {
            let (text, encoding) = shown(bytes.to_vec());
            assert_eq!(encoding, Encoding::Base64);
            assert_eq!(BASE64_STANDARD.decode(text).expect("base64"), bytes);
        }
    }
}
