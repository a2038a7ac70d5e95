//! The service's own PostgreSQL: a pool of connections, its migrations, and which errors mean what.

pub mod columns;
mod migrations;
mod pool;

pub use deadpool_postgres::{Pool, PoolError, Transaction};
pub use migrations::{Migrations, migrate};
pub use pool::{answers, connect, wait_for};
use tokio_postgres::{Error, error::SqlState};

/// Whether the transaction can simply be run again: a deadlock or a serialization failure.
pub fn is_retryable(error: &Error) -> bool {
    matches!(error.code(), Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)))
}

/// Whether a value that came from outside is none of the database's: a NUL in a text, a time before its calendar.
pub fn is_beyond_values(error: &Error) -> bool {
    let beyond = [&SqlState::CHARACTER_NOT_IN_REPERTOIRE, &SqlState::DATETIME_FIELD_OVERFLOW];
    error.code().is_some_and(|code| beyond.contains(&code))
}

/// Whether the database is away or overloaded, rather than the statement wrong: closed, class 08, shutting
/// down (57P01 to 57P03), too many connections, the socket failed, or a time limit of ours ran out (57014
/// and 55P03: somebody holds a lock for too long; 25P03: we did).
pub fn is_connection_lost(error: &Error) -> bool {
    if let Some(code) = error.code() {
        let code = code.code();
        return code.starts_with("08")
            || matches!(code, "57P01" | "57P02" | "57P03" | "53300" | "57014" | "55P03" | "25P03");
    }
    error.is_closed() || causes(error).any(|cause| cause.is::<std::io::Error>() || is_timeout(cause))
}

/// Whether a statement ran into a time limit of ours: it took too long (57014), or waited too long for a
/// lock (55P03).
pub fn is_time_limit(error: &Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "57014" | "55P03"))
}

/// Whether a statement waited too long for a lock that somebody else holds (55P03).
pub fn is_lock_wait(error: &Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn is_timeout(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<tokio::time::error::Elapsed>()
}

fn causes<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

/// Whether the pool has no connection to give because the database is away or overloaded.
pub fn is_pool_unavailable(error: &PoolError) -> bool {
    match error {
        PoolError::Timeout(_) | PoolError::Closed => true,
        PoolError::Backend(error) => is_connection_lost(error),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => false,
    }
}

#[cfg(test)]
pub(crate) mod own;
#[cfg(test)]
mod tests;
