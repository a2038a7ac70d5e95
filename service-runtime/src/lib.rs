//! What every process of the suite needs to start, to answer, and to stop; and nothing of the shop.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | the environment, read once; one line for a wrong variable |
//! | [`database`] | the pool, migrations at the start, which database errors mean what |
//! | [`telemetry`] | log lines, spans, and where the running task is in its trace |
//! | [`http`] | the server with what every service answers; bodies, queries, pages |
//! | [`problem`] | errors as the caller sees them |
//! | [`auth`] | who is asking, and whether he may |
//! | [`health`] | whether the process can do its work |
//! | [`museum`] | bugs that can be put back, in a build that is for nothing else |
//! | [`tasks`] | what it does beside answering; trying again what failed |
//! | [`idempotency`] | calls that are sent twice and done once |
//!
//! [`main`] is the `main` of every binary; what it hands over is the [`Runtime`]. Kafka is left out
//! on purpose: it is `messaging`'s.

pub mod auth;
pub mod database;
pub mod health;
pub mod http;
pub mod idempotency;
mod metrics;
pub mod museum;
pub mod problem;
mod runtime;
pub mod settings;
pub mod tasks;
pub mod telemetry;

pub use auth::{Admin, Auth, Caller, Customer, Operator};
pub use database::{Migrations, Pool};
pub use health::Health;
pub use problem::Problem;
pub use runtime::{Runtime, main};
pub use settings::{CommonSettings, Env, SettingError};
pub use tasks::Tasks;

/// An error and its causes on one line: `what: why: why`.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
