//! Events as handlers see them, and as they publish them.

use std::ops::Deref;

use chrono::NaiveDate;
use common_events::{EventData, EventId, TraceParent, envelope};

/// An event that is being handled. Reads like the event itself; beside it stands the span of its
/// handling, of which everything it causes becomes a child.
#[derive(Debug)]
pub struct Event<T> {
    told: envelope::Event<T>,
    span: TraceParent,
    /// The day under which its answers are kept; `None` on topics that are kept for ever.
    day: Option<NaiveDate>,
}

impl<T> Event<T> {
    pub(crate) fn new(told: envelope::Event<T>, span: TraceParent, day: Option<NaiveDate>) -> Self {
        Self { told, span, day }
    }

    /// This event as the cause of others.
    pub fn cause(&self) -> Cause {
        Cause { event: self.day.map(|day| (day, self.told.id)), parent: self.span }
    }

    /// What happened because of this event, to be published.
    pub fn causes<D: EventData>(&self, data: D) -> Draft<D> {
        self.cause().causes(data)
    }
}

impl<T> Deref for Event<T> {
    type Target = envelope::Event<T>;

    fn deref(&self) -> &envelope::Event<T> {
        &self.told
    }
}

/// Why an event is published: another event, or a request.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub(crate) event: Option<(NaiveDate, EventId)>,
    pub(crate) parent: TraceParent,
}

impl Cause {
    /// A request, or a later decision on the saga that a request began: `trace` is a span of that trace.
    pub const fn trace(trace: TraceParent) -> Self {
        Self { event: None, parent: trace }
    }

    /// What happened because of it, to be published.
    pub const fn causes<D: EventData>(self, data: D) -> Draft<D> {
        Draft { data, cause: self }
    }
}

/// An event that isn't published yet: it gets its id and time by [`crate::Tx::publish`].
#[derive(Debug)]
#[must_use = "an event happens when it is published"]
pub struct Draft<D> {
    pub(crate) data: D,
    pub(crate) cause: Cause,
}
