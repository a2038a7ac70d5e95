//! Traces: spans are made explicitly where something begins and ends, and sent in the background.
//!
//! `tracing` is for log lines only. A span here is a plain value that is recorded when it is over,
//! so that it costs an allocation or two, and nothing when its trace isn't sampled. Sending never
//! slows anybody down: the queue is bounded, and what doesn't fit is dropped and counted
//! (`spans_dropped_total`).

mod batcher;
mod logs;
mod otlp;
mod zipkin;

use std::{
    borrow::Cow,
    future::Future,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use common_events::{TraceId, TraceParent, trace::SpanId};

pub(crate) use batcher::Batcher;
pub use logs::start_logs;

/// Where a span stands between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Asks another process and waits for the answer.
    Client,
    /// Answers another process.
    Server,
    /// Sends an event.
    Producer,
    /// Handles an event.
    Consumer,
    /// Stays within the process.
    Internal,
}

/// One thing that was done, from its start to its end. [`record`] it when it is over.
#[derive(Debug, Clone)]
pub struct Span {
    /// What was done, such as `POST /orders`: few different ones, no ids.
    pub name: Cow<'static, str>,
    /// Where it stands between two processes.
    pub kind: SpanKind,
    /// Its own position in the trace: what its children name as their parent.
    pub me: TraceParent,
    /// The span it hangs below; `None` begins the trace.
    pub parent: Option<SpanId>,
    /// When it began.
    pub start: SystemTime,
    /// When it was over.
    pub end: SystemTime,
    /// What else is worth knowing: ids, counts, outcomes.
    pub tags: Vec<(&'static str, Cow<'static, str>)>,
    /// Why it failed; `None` when it didn't.
    pub error: Option<String>,
}

/// The share of new traces that is sampled, as a bound for 64 random bits.
static SAMPLED_UP_TO: AtomicU64 = AtomicU64::new(u64::MAX);
static BATCHER: OnceLock<Batcher> = OnceLock::new();

tokio::task_local! {
    static CURRENT: TraceParent;
}

/// Begins a trace. Whether it is sampled is decided here, for all of its spans everywhere.
///
/// # Panics
/// Never: the id has a bit that is set.
pub fn root() -> TraceParent {
    let random: u128 = rand::random();
    let trace_id = TraceId::new((random | 1).to_be_bytes()).expect("one bit is set");
    let sampled = rand::random::<u64>() <= SAMPLED_UP_TO.load(Ordering::Relaxed);
    TraceParent { trace_id, span_id: new_span_id(), sampled }
}

/// A new position below `parent` in the same trace.
///
/// # Panics
/// Never: the id has a bit that is set.
pub fn child_of(parent: TraceParent) -> TraceParent {
    TraceParent { span_id: new_span_id(), ..parent }
}

fn new_span_id() -> SpanId {
    SpanId::new((rand::random::<u64>() | 1).to_be_bytes()).expect("one bit is set")
}

/// Whether spans of this trace go anywhere: else nobody needs to make one.
pub fn is_recorded(trace: TraceParent) -> bool {
    trace.sampled && BATCHER.get().is_some()
}

/// Hands a span over to be sent. Never blocks, never fails; nothing happens when its trace isn't
/// sampled, or before [`crate::main`] has set up where spans go.
pub fn record(span: Span) {
    if span.me.sampled
        && let Some(batcher) = BATCHER.get()
    {
        batcher.take(span);
    }
}

/// Runs `work` at this position: its log lines and problem details carry the trace id.
pub async fn within<F: Future>(trace: TraceParent, work: F) -> F::Output {
    CURRENT.scope(trace, work).await
}

/// The position in the trace that the running task is at, if it is in one.
pub fn current() -> Option<TraceParent> {
    CURRENT.try_with(|trace| *trace).ok()
}

/// Sets up where spans go; once per process, within its tokio runtime.
pub(crate) fn start(batcher: Option<Batcher>, sampled: crate::settings::Ratio) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of the 64-bit numbers, to a precision of 2^-53; the cast saturates at 1"
    )]
    let up_to = (sampled.get() * u64::MAX as f64) as u64;
    SAMPLED_UP_TO.store(up_to, Ordering::Relaxed);
    if let Some(batcher) = batcher {
        // A second start, in a test, keeps the first.
        let _ = BATCHER.set(batcher);
    }
}

/// Sends what was recorded so far, for as long as it may take.
pub(crate) async fn flush(at_most: std::time::Duration) {
    if let Some(batcher) = BATCHER.get() {
        batcher.flush(at_most).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_in_the_same_trace_at_another_place() {
        let root = root();
        let child = child_of(root);
        assert_eq!((child.trace_id, child.sampled), (root.trace_id, root.sampled));
        assert_ne!(child.span_id, root.span_id);
    }

    #[tokio::test]
    async fn a_task_knows_its_place_in_the_trace() {
        let trace = root();
        assert_eq!(within(trace, async { current() }).await, Some(trace));
        assert_eq!(current(), None);
    }
}
