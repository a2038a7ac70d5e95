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
use futures::{FutureExt, future::BoxFuture};
use service_runtime::{Runtime, database::Pool, health};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use lease::LeaseTimes;
pub(crate) use wake::hint;
pub use wake::{listen, send_hints};

use crate::{figures, kafka, topics::Names};

/// The pause after the database failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// One database whose rows are moved.
#[derive(Clone)]
pub struct Source {
    /// The database's name, for logs, metrics and the fenced producer.
    pub name: &'static str,
    /// Its connections: four are used, and one more for a hand-over.
    pub pool: Pool,
}

/// Moves the rows of one database until told to stop. Stands by while another relay holds the lease.
///
/// The process is ready while every one of its databases answers. Nobody's calls come here that readiness would
/// keep away, and the databases that answer are served all the same; but one whose events stand still must not
/// look like a relay that does all its work.
///
/// # Errors
/// When the settings make no producer. What fails later is logged, and tried again.
pub fn run(
    runtime: &Runtime,
    source: Source,
    times: LeaseTimes,
    wakes: tokio::sync::watch::Receiver<u64>,
) -> BoxFuture<'_, anyhow::Result<()>> {
    move_rows(runtime, source, times, wakes).boxed()
}

async fn move_rows(
    runtime: &Runtime,
    source: Source,
    times: LeaseTimes,
    wakes: tokio::sync::watch::Receiver<u64>,
) -> anyhow::Result<()> {
    figures::describe();
    let kafka_settings = &runtime.settings.kafka;
    let names = Names::with_prefix(kafka_settings.topic_prefix.clone());
    let health: health::Part = runtime.health.part("kafka");
    let probed = source.pool.clone();
    runtime.health.probe(source.name, move || {
        let probed = probed.clone();
        async move { lease::is_there(&probed).await }
    });
    let mut lease = lease::Lease::new(source.pool.clone(), times);
    let mut barred = barred::Barred::new(source.name);
    let mut kafka_reached = false;
    while !runtime.shutdown.is_cancelled() {
        match lease.acquire().await {
            Ok(true) => {}
            outcome => {
                if let Err(error) = outcome {
                    warn!(database = source.name, error = format!("{error:#}"), "no lease");
                }
                // A stand-by produces nothing that would tell; ready it is, once it could.
                if !kafka_reached && kafka::answers(kafka_settings).await {
                    kafka_reached = true;
                    health.ready();
                }
                pause(&runtime.shutdown, times.renew).await;
                continue;
            }
        }
        info!(database = source.name, "leading: moving this database's events");
        let pipeline = pipeline::Pipeline::new(kafka_settings, &names, &source, health.clone(), &mut barred)
            .with_context(|| format!("a producer for {}", source.name))?;
        match pipeline.run(&lease, &runtime.shutdown, wakes.clone()).await {
            Ok(()) => {
                info!(database = source.name, "standing by");
                barred.lift_all();
            }
            Err(error) => {
                warn!(database = source.name, error = format!("{error:#}"), "standing by after a failure");
                pause(&runtime.shutdown, AFTER_FAILURE).await;
            }
        }
        lease.release().await;
    }
    Ok(())
}

async fn pause(shutdown: &CancellationToken, length: Duration) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}
