//! One attempt at a part of a batch: one transaction, all or nothing.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Instant, SystemTime},
};

use chrono::Utc;
use futures::FutureExt;
use metrics::{counter, histogram};
use service_runtime::{
    chain,
    museum::{self, Bug},
    telemetry::{self, Span, SpanKind},
};
use tracing::Instrument;

use super::{
    Delivered, Group, Heard, Stalled,
    admission::{self, Fresh},
    passes::Item,
};
use crate::{
    failure::{Failure, Handled, Overtaken, Transient},
    faults::{Death, Side, Step},
    ladder::Came,
    subscriptions::{Decoded, Hearing},
    tx::Tx,
};

/// How long parts of a batch wait for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Locks {
    /// For as long as any statement.
    Patiently,
    /// A record of the batch is known to wait. One that stands alone waits as long as any.
    PartsInBrief,
    /// One that stood alone has waited: others that need what it needs don't wait for as long again.
    InBrief,
}

impl Group {
    /// Tries a part of a batch. The inner error is about its records; the outer one isn't.
    pub(super) async fn attempt(&self, part: &[Item<'_>], locks: Locks) -> Result<Result<Delivered, Failure>, Stalled> {
        let mut client = self.pool.get().await?;
        let outcome = match Tx::begin(&mut client).await {
            Ok(tx) => self.apply(tx, part, locks).await,
            Err(error) => Err(error.into()),
        };
        drop(client);
        if let Some(death) = outcome.as_ref().err().and_then(Failure::death) {
            return Err(death.into());
        }
        match outcome {
            // Somebody holds what one record needs: that is the record's own matter, and others needn't wait for it.
            Err(failure) if failure.is_lock_wait() => Ok(Err(failure)),
            // Too much for one transaction, perhaps. What is too much of one record is too much for the database.
            Err(failure) if failure.is_time_limit() && part.len() > 1 => Ok(Err(failure)),
            Err(failure) if failure.is_connection_lost() => Err(Stalled(chain(&failure).into())),
            // Whatever failed: while what we stand on is away it isn't the record's fault.
            Err(failure @ Failure::Transient(_)) if !failure.is_conflict() => {
                self.probe().await?;
                Ok(Err(failure))
            }
            outcome => Ok(outcome),
        }
    }

    async fn apply(&self, tx: Tx<'_>, part: &[Item<'_>], locks: Locks) -> Result<Delivered, Failure> {
        let (started, start) = (Instant::now(), SystemTime::now());
        if locks == Locks::InBrief || (locks == Locks::PartsInBrief && part.len() > 1) {
            tx.wait_briefly().await?;
        }
        let mut delivered = Delivered::default();
        let fresh = admission::admit(&tx, part, &mut delivered).await?;
        if museum::is_back(Bug::InboxApart) {
            tx.transaction().batch_execute("COMMIT; BEGIN").await?;
        }
        // One that was not expected to be new has not been called for.
        if fresh.iter().any(|fresh| fresh.hearing.is_remote() && !fresh.decoded.is_answered()) {
            return Err(Overtaken.into());
        }
        for run in fresh.chunk_by(|one, next| std::ptr::addr_eq(one.hearing, next.hearing)) {
            let events: Vec<&Decoded> = run.iter().map(|fresh| fresh.decoded).collect();
            let struck = self.faults.strike(&tx, run.iter().map(|fresh| (fresh.heard.record, fresh.decoded.id)));
            self.handle(run[0].hearing, &tx, &events, struck).await?;
        }
        tx.commit_unless(|side| self.die_if_asked(part, &fresh, delivered, side).map_err(Failure::from)).await?;
        delivered.applied = fresh.len();
        self.tell(&fresh, delivered, start);
        histogram!("event_batch_seconds").record(started.elapsed().as_secs_f64());
        Ok(delivered)
    }

    fn die_if_asked(
        &self,
        part: &[Item<'_>],
        fresh: &[Fresh<'_>],
        delivered: Delivered,
        side: Side,
    ) -> Result<(), Death> {
        if !self.faults.kills() {
            return Ok(());
        }
        let is_first = |heard: &Heard<'_>| matches!(heard.came, Came::First | Came::Asked);
        let is_handled = |heard: &Heard<'_>| fresh.iter().any(|fresh| std::ptr::eq(fresh.heard, heard));
        let handled: Vec<&Heard<'_>> = fresh.iter().map(|fresh| fresh.heard).collect();
        let through = handled.iter().copied().filter(|heard| !is_first(heard)).collect();
        let kept = part.iter().map(|item| item.heard).filter(|heard| is_first(heard) && !is_handled(heard));
        let waiting = if delivered.waiting > 0 { kept.collect() } else { Vec::new() };
        for (step, heard) in [(Step::Handle, handled), (Step::Release, through), (Step::Wait, waiting)] {
            if !heard.is_empty() {
                let records = heard.iter().map(|heard| (heard.record, heard.event().map(|event| event.id)));
                self.faults.die((step, side), records)?;
            }
        }
        Ok(())
    }

    /// Lets the handler work, unless it is struck before. Its log lines carry the group, the event and the trace, as far as
    /// they are one.
    pub(super) async fn handle(
        &self,
        hearing: &dyn Hearing,
        tx: &Tx<'_>,
        events: &[&Decoded],
        struck: impl Future<Output = Handled>,
    ) -> Handled {
        let group = self.subscriptions.group().name();
        let topic = hearing.topic().name();
        let (first, last) = (events[0], events[events.len() - 1]);
        let span = if events.len() == 1 {
            tracing::info_span!("handle", group, topic, event_id = %first.id)
        } else {
            let count = events.len();
            tracing::info_span!("handle", group, topic, count, first_event_id = %first.id, last_event_id = %last.id)
        };
        let handling = async {
            struck.await?;
            hearing.handle(tx, events).await
        };
        let handling = catch_panics(handling).instrument(span);
        if events.iter().all(|event| event.trace.trace_id == first.trace.trace_id) {
            telemetry::within(first.span, handling).await
        } else {
            handling.await
        }
    }

    /// Spans, rates and logs of a batch that is committed.
    fn tell(&self, fresh: &[Fresh<'_>], delivered: Delivered, start: SystemTime) {
        let group = self.subscriptions.group().name();
        let (now, end) = (Utc::now(), SystemTime::now());
        let mut released = false;
        for Fresh { decoded, hearing, heard } in fresh {
            let topic = hearing.topic().name();
            counter!("events_handled_total", "topic" => topic).increment(1);
            let age = (now - decoded.time).to_std().unwrap_or_default();
            histogram!("event_age_seconds", "topic" => topic).record(age.as_secs_f64());
            match heard.came {
                Came::First | Came::Asked => {}
                Came::Hop { over, .. } => {
                    counter!("events_recovered_total", "tier" => over.suffix()).increment(1);
                    released = true;
                }
                Came::Parked { .. } => {
                    counter!("events_recovered_total", "tier" => "parked").increment(1);
                    released = true;
                }
                Came::Waiting => counter!("events_drained_total").increment(1),
            }
            if telemetry::is_recorded(decoded.trace) {
                telemetry::record(Span {
                    name: format!("handle {topic}").into(),
                    kind: SpanKind::Consumer,
                    me: decoded.span,
                    parent: Some(decoded.trace.span_id),
                    start,
                    end,
                    tags: vec![
                        ("messaging.system", "kafka".into()),
                        ("messaging.consumer.group.name", group.into()),
                        ("messaging.destination.partition.id", heard.record.partition.to_string().into()),
                        ("messaging.kafka.offset", heard.record.offset.to_string().into()),
                        ("messaging.message.id", decoded.id.to_string().into()),
                    ],
                    error: None,
                });
            }
        }
        if released {
            self.released.notify_one();
        }
        if delivered.duplicates > 0 {
            counter!("event_duplicates_total").increment(delivered.duplicates as u64);
        }
        if delivered.waiting > 0 {
            counter!("events_kept_waiting_total").increment(delivered.waiting as u64);
        }
    }
}

/// A panic in a handler is a failure of that event, not of the service.
pub(super) async fn catch_panics(handling: impl Future<Output = Handled>) -> Handled {
    AssertUnwindSafe(handling).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Transient::new("panic", what.unwrap_or("no message").to_owned()).into()
}
