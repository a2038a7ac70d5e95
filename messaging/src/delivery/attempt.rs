//! One attempt at a batch: one transaction, all or nothing.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    time::{Instant, SystemTime},
};

use chrono::{NaiveDate, Utc};
use common_events::EventId;
use futures::FutureExt;
use metrics::{counter, histogram};
use service_runtime::{
    chain,
    telemetry::{self, Span, SpanKind},
};

use super::{Delivered, Group, Heard, Reading, Stalled};
use crate::{
    dead_letters::{self, Death, Inserted},
    failure::{Failure, Handled, Transient},
    inbox::{self, Arrival},
    outbox,
    subscriptions::{Decoded, Hearing},
    tx::Tx,
};

/// A new event of the batch, with who handles it.
struct Fresh<'h> {
    decoded: &'h Decoded,
    hearing: &'h dyn Hearing,
    heard: &'h Heard<'h>,
}

impl Group {
    /// Tries a part of a batch. The inner error is about its records; the outer one isn't.
    pub(super) async fn attempt(&self, part: &[Heard<'_>]) -> Result<Result<Delivered, Failure>, Stalled> {
        let mut client = self.pool.get().await?;
        let outcome = match Tx::begin(&mut client).await {
            Ok(tx) => self.apply(tx, part).await,
            Err(error) => Err(error.into()),
        };
        drop(client);
        match outcome {
            // Too much for one transaction, perhaps; or one record of it waits for a lock.
            Err(failure) if failure.is_time_limit() && part.len() > 1 => Ok(Err(failure)),
            Err(failure) if failure.is_connection_lost() => Err(Stalled(chain(&failure).into())),
            // Whatever failed: while our own database is away it isn't the record's fault.
            Err(failure @ Failure::Transient(_)) if !failure.is_conflict() => {
                self.probe().await?;
                Ok(Err(failure))
            }
            outcome => Ok(outcome),
        }
    }

    async fn apply(&self, tx: Tx<'_>, part: &[Heard<'_>]) -> Result<Delivered, Failure> {
        let (started, start) = (Instant::now(), SystemTime::now());
        let mut delivered = self.bury_refused(&tx, part).await?;
        let fresh = self.pick_fresh(&tx, part, &mut delivered).await?;
        for run in fresh.chunk_by(|one, next| std::ptr::eq(one.hearing, next.hearing)) {
            let events: Vec<&Decoded> = run.iter().map(|fresh| fresh.decoded).collect();
            handle(run[0].hearing, &tx, &events).await?;
        }
        tx.commit().await?;
        delivered.applied = fresh.len();
        self.tell(part, &fresh, delivered, start);
        histogram!("event_batch_seconds").record(started.elapsed().as_secs_f64());
        Ok(delivered)
    }

    /// What can't be read is set aside, known by where it lay: its id is not to be trusted.
    async fn bury_refused(&self, tx: &Tx<'_>, part: &[Heard<'_>]) -> Result<Delivered, Failure> {
        let mut delivered = Delivered::default();
        for heard in part {
            if let Reading::Refused { class, message } = &heard.reading {
                let death = Death { class, message: message.clone(), attempts: 1, first_failed_at: tx.now() };
                match dead_letters::insert(tx, heard.record, &death).await? {
                    Inserted::New => delivered.dead += 1,
                    Inserted::Before => delivered.duplicates += 1,
                }
            }
        }
        Ok(delivered)
    }

    /// Notes the events in the inbox and keeps those that weren't there; answers resumes.
    async fn pick_fresh<'h>(
        &self,
        tx: &Tx<'_>,
        part: &'h [Heard<'h>],
        delivered: &mut Delivered,
    ) -> Result<Vec<Fresh<'h>>, Failure> {
        let arrivals: Vec<Arrival<'_>> = part.iter().filter_map(Heard::arrival).collect();
        let mut new: HashSet<EventId> = inbox::insert_new(tx, &arrivals).await?;
        let mut fresh = Vec::with_capacity(part.len());
        let mut resumes: Vec<(NaiveDate, EventId)> = Vec::new();
        for heard in part {
            let Reading::Event { decoded, hearing } = &heard.reading else { continue };
            match decoded.day {
                Some(day) if !new.remove(&decoded.id) => {
                    delivered.duplicates += 1;
                    if heard.record.is_resume() {
                        resumes.push((day, decoded.id));
                    }
                }
                _ => fresh.push(Fresh { decoded, hearing: *hearing, heard }),
            }
        }
        if !resumes.is_empty() {
            delivered.resumed = answer_again(tx, resumes).await?;
        }
        Ok(fresh)
    }

    /// Spans, rates and logs of a batch that is committed.
    fn tell(&self, part: &[Heard<'_>], fresh: &[Fresh<'_>], delivered: Delivered, start: SystemTime) {
        let group = self.subscriptions.group().name();
        let (now, end) = (Utc::now(), SystemTime::now());
        for Fresh { decoded, hearing, heard } in fresh {
            let topic = hearing.topic().name();
            counter!("events_handled_total", "topic" => topic).increment(1);
            let age = (now - decoded.time).to_std().unwrap_or_default();
            histogram!("event_age_seconds", "topic" => topic).record(age.as_secs_f64());
            if decoded.trace.sampled {
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
        if delivered.duplicates > 0 {
            counter!("event_duplicates_total").increment(delivered.duplicates as u64);
        }
        for heard in part {
            if let Reading::Refused { class, message } = &heard.reading {
                heard.log_dead(self, class, message);
            }
        }
    }
}

/// Events that are applied are answered again from what was kept; any other known state has an owner
/// already (the ladder, a dead letter), so the resume is dropped.
async fn answer_again(tx: &Tx<'_>, resumes: Vec<(NaiveDate, EventId)>) -> Result<usize, Failure> {
    let states = inbox::states(tx, &resumes).await?;
    let applied: Vec<(NaiveDate, EventId)> =
        resumes.into_iter().filter(|(_, id)| states.get(id).is_some_and(|state| state == "applied")).collect();
    outbox::publish_kept_answers(tx.transaction(), &applied).await?;
    Ok(applied.len())
}

/// A panic in a handler is a failure of that event, not of the service.
async fn handle(hearing: &dyn Hearing, tx: &Tx<'_>, events: &[&Decoded]) -> Handled {
    AssertUnwindSafe(hearing.handle(tx, events)).catch_unwind().await.unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message")
            .to_owned();
        Err(Transient::new("panic", what).into())
    })
}
