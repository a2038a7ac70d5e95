//! The monitor against a real PostgreSQL; records come from the tests, answers of other services from stand-ins.
//! `broker` is the monitor against the real Kafka, `sagactl` the operators' command line as a program.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod api;
mod background;
mod bad_input;
mod broker;
mod causes;
mod document;
mod log;
mod page;
mod quiet;
mod reading;
mod resuming;
mod rounds;
mod sagactl;
mod story;
mod telling;
mod versions;
mod watch;
