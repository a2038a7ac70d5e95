//! The W3C trace context, as events and requests carry it.
//!
//! Only the wire form: who makes ids and spans is `service-runtime`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is no `traceparent`, or no trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C trace context")]
pub struct InvalidTrace;

/// 16 bytes, not all zero; 32 hex digits, written in lower case and read in either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(!try_from, !into)]
pub struct TraceId(#[schemars(with = "String", length(equal = 32), regex(pattern = "^0*[1-9a-f][0-9a-f]*$"))] [u8; 16]);

impl TraceId {
    /// `None` for all zeros, which W3C forbids.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes, most significant first.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let digits = Some(text).filter(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        let bytes = u128::from_str_radix(digits.ok_or(InvalidTrace)?, 16).map_err(|_| InvalidTrace)?.to_be_bytes();
        Self::new(bytes).ok_or(InvalidTrace)
    }
}

impl TryFrom<String> for TraceId {
    type Error = InvalidTrace;

    fn try_from(text: String) -> Result<Self, InvalidTrace> {
        text.parse()
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> Self {
        id.to_string()
    }
}

/// 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// `None` for all zeros, which W3C forbids.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The bytes, most significant first.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpanId {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        Self::new(u64::from_str_radix(lower_hex(text, 16)?, 16).map_err(|_| InvalidTrace)?.to_be_bytes())
            .ok_or(InvalidTrace)
    }
}

/// One position in a trace: `00-<trace id>-<span id>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// The trace: one per saga.
    pub trace_id: TraceId,
    /// The span that children hang below.
    pub span_id: SpanId,
    /// Whether spans of this trace are recorded.
    pub sampled: bool,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTrace;

    /// Reads version 00, and of later versions the part that 00 defines.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidTrace);
        let (version, trace_id, span_id, flags) = (next()?, next()?, next()?, next()?);
        let version = lower_hex(version, 2)?;
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(InvalidTrace);
        }
        let flags = u8::from_str_radix(lower_hex(flags, 2)?, 16).map_err(|_| InvalidTrace)?;
        let trace_id = lower_hex(trace_id, 32)?.parse()?;
        Ok(Self { trace_id, span_id: span_id.parse()?, sampled: flags & 1 == 1 })
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTrace;

    fn try_from(text: String) -> Result<Self, InvalidTrace> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.to_string()
    }
}

fn lower_hex(text: &str, digits: usize) -> Result<&str, InvalidTrace> {
    let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == digits && text.bytes().all(is_lower_hex)).then_some(text).ok_or(InvalidTrace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_as_it_was_written() {
        let trace: TraceParent = EXAMPLE.parse().expect("valid");
        assert!(trace.sampled);
        assert_eq!(trace.to_string(), EXAMPLE);
    }

    #[test]
    fn a_trace_id_is_read_in_either_case_and_written_in_lower_case() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id.to_uppercase().parse::<TraceId>().expect("valid").to_string(), id);
        for wrong in ["", "4bf9", &"0".repeat(32), &format!("+{}", &id[1..]), &"z".repeat(32)] {
            assert_eq!(wrong.parse::<TraceId>(), Err(InvalidTrace), "{wrong}");
        }
    }

    #[test]
    fn what_w3c_forbids_is_refused() {
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(InvalidTrace), "{wrong}");
        }
    }
}
