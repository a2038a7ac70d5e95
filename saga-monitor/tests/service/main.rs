//! The monitor against a real PostgreSQL; records come from the tests, answers of other services from stand-ins.

mod api;
mod bad_input;
mod causes;
mod log;
mod page;
mod quiet;
mod reading;
mod resuming;
mod rounds;
mod story;
mod telling;
mod watch;
