//! The whole choreography in one process, without a broker.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod histories;
mod reader;
mod versions;
