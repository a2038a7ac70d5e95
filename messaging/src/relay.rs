//! The relay: moves outbox rows to Kafka, and deletes them once they are acknowledged.
//!
//! - **Rows are claimed, never read by a cursor**: ids and commits come in different orders, so every
//!   round asks for the lowest rows that aren't in flight. What is in flight is known by the one active
//!   relay of the database, which holds its lease ([`lease`]).
//! - **Per key in order**: rows go in the order of their ids, which for one key is the order of their
//!   commits, as whoever writes a key holds its row's lock. The producer is idempotent and never gives a
//!   message up, so the order can't turn on the way.
//! - **At least once**: a row is deleted after its ack. A crash in between sends it again, with the same
//!   id. On compacted topics a late duplicate would stay for ever, so their rows go through a producer
//!   that is fenced ([`fenced`]).
//! - **A topic that takes nothing** holds up its own rows only ([`barred`]).
//! - **Adaptive polling**: at once while there are rows, then ever slower, and woken by a hint.

mod barred;
mod claim;
mod fenced;
mod lease;
mod pipeline;
mod wake;

use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use service_runtime::{Runtime, Tasks, database::Pool, health, settings::KafkaSettings, tasks::Backoff};
use tracing::info;

pub use lease::LeaseTimes;
pub(crate) use wake::hint;
pub use wake::{listen, send_hints};

use crate::{figures, kafka, topics::Names};

/// The pause after the database or the producer failed: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One database whose rows are moved.
#[derive(Clone)]
pub struct Source {
    /// The database's name, for logs, metrics and the fenced producer.
    pub name: &'static str,
    /// Its connections: four are used, and one more for a hand-over.
    pub pool: Pool,
}

/// Moves the rows of one database until the process stops. Stands by while another relay holds the lease. What fails
/// is tried again; only settings that make no producer end it, and the process with it.
///
/// The process is ready while every one of its databases answers. Nobody's calls come here that readiness would
/// keep away, and the databases that answer are served all the same; but one whose events stand still must not
/// look like a relay that does all its work.
pub fn start(runtime: &Runtime, source: Source, times: LeaseTimes, wakes: tokio::sync::watch::Receiver<u64>) {
    figures::describe();
    let probed = source.pool.clone();
    runtime.health.probe(source.name, move || {
        let probed = probed.clone();
        async move { lease::is_there(&probed).await }
    });
    let relay = Relay {
        name: format!("relay of {}", source.name).leak(),
        fenced: format!("fenced producer of {}", source.name).leak(),
        kafka: runtime.settings.kafka.clone(),
        health: runtime.health.part("kafka"),
        tasks: runtime.tasks.clone(),
        source,
        times,
        wakes,
        kafka_reached: false,
    };
    // A task of its own: what blocks one database's relay must not hold up another's.
    runtime.tasks.run(relay.name, relay.move_rows().boxed());
}

struct Relay {
    /// As a task.
    name: &'static str,
    /// The thread of its fenced producer, as a task.
    fenced: &'static str,
    kafka: KafkaSettings,
    health: health::Part,
    tasks: Tasks,
    source: Source,
    times: LeaseTimes,
    wakes: tokio::sync::watch::Receiver<u64>,
    kafka_reached: bool,
}

impl Relay {
    async fn move_rows(mut self) -> anyhow::Result<()> {
        let (stopping, database) = (self.tasks.stopping().clone(), self.source.name);
        let names = Names::with_prefix(self.kafka.topic_prefix.clone());
        let mut lease = lease::Lease::of(&self.source, self.times, &self.tasks);
        let mut backoff = Backoff::new(self.name, FIRST_PAUSE, LONGEST_PAUSE);
        let mut barred = barred::Barred::new(database);
        while !stopping.is_cancelled() {
            match lease.acquire().await {
                Ok(true) => {}
                Ok(false) => {
                    backoff.worked();
                    self.look_for_kafka().await;
                    stopping.run_until_cancelled(tokio::time::sleep(self.times.renew)).await;
                    continue;
                }
                Err(error) => {
                    self.look_for_kafka().await;
                    backoff.wait(&format!("{error:#}"), &stopping).await;
                    continue;
                }
            }
            info!(database, "leading: moving this database's events");
            let fenced = (&self.tasks, self.fenced);
            let pipeline = pipeline::Pipeline::new(&self.kafka, &names, &self.source, fenced, &mut barred)
                .with_context(|| format!("a producer for {database}"))?;
            let moved = pipeline.run(&lease, &stopping, self.wakes.clone(), &mut backoff).await;
            info!(database, "standing by");
            // Before the pause: another relay may have what this one lacks.
            lease.release().await;
            match moved {
                Ok(()) => barred.lift_all(),
                Err(error) => {
                    backoff.wait(&format!("{error:#}"), &stopping).await;
                }
            }
        }
        Ok(())
    }

    /// A stand-by produces nothing that would tell; ready it is, once it could.
    async fn look_for_kafka(&mut self) {
        if !self.kafka_reached && kafka::answers(&self.kafka).await {
            self.kafka_reached = true;
            self.health.ready();
        }
    }
}
