//! How handling ends when it isn't done: the type says what happens next (ARCHITECTURE.md, "When handling fails").
//!
//! A business refusal is neither of these: it is an answer, published as an event.

use std::{error::Error, fmt};

use crate::{faults::Death, ladder::Hope};

/// What a handler returns: done, or why not.
pub type Handled = Result<(), Failure>;

/// Why an event wasn't handled.
#[derive(Debug)]
pub enum Failure {
    /// Trying again can't help: straight to the dead letters.
    Unprocessable(Unprocessable),
    /// Trying again may help.
    Transient(Transient),
}

/// The event makes no sense to this service, and never will.
#[derive(Debug)]
pub struct Unprocessable(String);

impl Unprocessable {
    /// Says what is wrong with the event.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Unprocessable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unprocessable {}

/// Something around the event failed.
#[derive(Debug)]
pub struct Transient {
    class: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl Transient {
    /// `class` groups dead letters by cause, such as `platform-unavailable`.
    pub fn new(class: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { class, source: source.into() }
    }

    /// What it came of, if it is one of these.
    fn is_of<T: Error + 'static>(&self) -> Option<&T> {
        self.source.downcast_ref()
    }

    fn database_error(&self) -> Option<&tokio_postgres::Error> {
        self.is_of()
    }
}

impl Failure {
    /// What dead letters are grouped by.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unprocessable(_) => "unprocessable",
            Self::Transient(transient) => transient.class,
        }
    }

    /// Whether trying again can help.
    pub(crate) const fn hope(&self) -> Hope {
        match self {
            Self::Unprocessable(_) => Hope::None,
            Self::Transient(_) => Hope::Some,
        }
    }

    /// None of the record's: the process is to seem dead.
    pub(crate) fn death(&self) -> Option<Death> {
        match self {
            Self::Transient(transient) => transient.is_of().copied(),
            Self::Unprocessable(_) => None,
        }
    }

    /// A deadlock or a serialization failure, or somebody else was at the same event: nobody's fault, tried
    /// again at once.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Transient(t) if t.source.is::<Overtaken>()
            || t.database_error().is_some_and(service_runtime::database::is_retryable))
    }

    /// A statement took too long, or waited too long for a lock.
    pub(crate) fn is_time_limit(&self) -> bool {
        matches!(self, Self::Transient(t) if t.database_error().is_some_and(service_runtime::database::is_time_limit))
    }

    /// A statement waited too long for a lock that somebody else holds.
    pub(crate) fn is_lock_wait(&self) -> bool {
        matches!(self, Self::Transient(t) if t.database_error().is_some_and(service_runtime::database::is_lock_wait))
    }

    /// The database went away in the middle: not the message's fault.
    pub(crate) fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Transient(t)
            if t.database_error().is_some_and(service_runtime::database::is_connection_lost))
    }
}

/// Things stand differently than they did a moment ago.
#[derive(Debug, thiserror::Error)]
#[error("overtaken by another member")]
pub(crate) struct Overtaken;

impl From<Overtaken> for Failure {
    fn from(overtaken: Overtaken) -> Self {
        Self::Transient(Transient::new("overtaken", overtaken))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprocessable(unprocessable) => unprocessable.fmt(f),
            Self::Transient(transient) => transient.class.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unprocessable(_) => None,
            Self::Transient(transient) => Some(&*transient.source),
        }
    }
}

impl From<Unprocessable> for Failure {
    fn from(unprocessable: Unprocessable) -> Self {
        Self::Unprocessable(unprocessable)
    }
}

impl From<Transient> for Failure {
    fn from(transient: Transient) -> Self {
        Self::Transient(transient)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let class = if service_runtime::database::is_lock_wait(&error) { "lock-wait" } else { "database" };
        Self::Transient(Transient::new(class, error))
    }
}
