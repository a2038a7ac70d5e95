//! Which relay is active for a database: one row, renewed while it lives.
//!
//! A lease and not an advisory lock, as a relay that was stopped (SIGSTOP, a frozen machine) keeps its
//! connection and would keep the lock. It is trusted only on this process's monotonic clock, from
//! *before* the renewal was sent, so it ends here before it ends in the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::FutureExt;
use service_runtime::{
    Tasks,
    database::Pool,
    museum::{self, Bug},
};
use tokio::task::AbortHandle;
use tracing::debug;
use uuid::Uuid;

use super::Source;

/// How long a lease lasts, and how often it is renewed.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// After so long without renewal another relay takes over.
    pub length: Duration,
    /// How often it is renewed, and how often a stand-by asks for it. Well below `length`.
    pub renew: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { length: Duration::from_secs(4), renew: Duration::from_millis(800) }
    }
}

pub(super) struct Lease {
    pool: Pool,
    times: LeaseTimes,
    holder: Uuid,
    held: Held,
    /// As a task.
    name: &'static str,
    /// A group of its own: the lease is needed until the last row is acknowledged.
    renewals: Tasks,
    renewing: Option<AbortHandle>,
}

/// Until when the lease is held; shared with the task that renews it.
#[derive(Clone)]
struct Held {
    began: Instant,
    until_ms: Arc<AtomicU64>,
}

impl Held {
    fn is_now(&self) -> bool {
        self.began.elapsed().as_millis() < u128::from(self.until_ms.load(Ordering::Acquire))
    }

    fn set_until(&self, until: Instant) {
        let ms = until.duration_since(self.began).as_millis();
        self.until_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

impl Lease {
    pub(super) fn of(source: &Source, times: LeaseTimes, tasks: &Tasks) -> Self {
        Self {
            pool: source.pool.clone(),
            times,
            holder: Uuid::now_v7(),
            held: Held { began: Instant::now(), until_ms: Arc::default() },
            name: format!("lease of {}", source.name).leak(),
            renewals: tasks.group(),
            renewing: None,
        }
    }

    /// Takes the lease if it is free, and renews it in the background from then on.
    pub(super) async fn acquire(&mut self) -> anyhow::Result<bool> {
        self.stop_renewing();
        if !take(&self.pool, self.holder, self.times.length, &self.held).await? {
            return Ok(false);
        }
        let (pool, times, holder, held) = (self.pool.clone(), self.times, self.holder, self.held.clone());
        let renew = async move {
            while held.is_now() {
                tokio::time::sleep(times.renew).await;
                match take(&pool, holder, times.length, &held).await {
                    Ok(true) => {}
                    Ok(false) => held.end(),
                    Err(error) => debug!(error = format!("{error:#}"), "the lease was not renewed"),
                }
            }
        };
        // Should it panic, the lease runs out, and is asked for again.
        self.renewing = Some(self.renewals.once(self.name, renew.boxed()));
        Ok(true)
    }

    /// Whether this relay may publish, now.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_now() || museum::is_back(Bug::LeaseWithoutEnd)
    }

    /// Lets a stand-by take over at once.
    pub(super) async fn release(&mut self) {
        self.stop_renewing();
        self.held.end();
        let released = async {
            let client = self.pool.get().await?;
            client
                .execute("UPDATE relay_lease SET expires_at = '-infinity' WHERE holder = $1", &[&self.holder])
                .await
                .context("giving the lease back")
        };
        if let Err(error) = released.await {
            debug!(error = format!("{error:#}"), "the lease runs out by itself");
        }
    }

    fn stop_renewing(&mut self) {
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop_renewing();
    }
}

/// Whether the database answers, and has a lease to give.
pub(super) async fn is_there(pool: &Pool) -> bool {
    match pool.get().await {
        Ok(client) => client.simple_query("SELECT FROM relay_lease").await.is_ok(),
        Err(_) => false,
    }
}

async fn take(pool: &Pool, holder: Uuid, length: Duration, held: &Held) -> anyhow::Result<bool> {
    let client = pool.get().await.context("a connection for the lease")?;
    let before = Instant::now();
    let taken = client
        .execute(
            "UPDATE relay_lease SET holder = $1, expires_at = clock_timestamp() + $2 * interval '1 second'
             WHERE holder = $1 OR expires_at < clock_timestamp()",
            &[&holder, &length.as_secs_f64()],
        )
        .await
        .context("asking for the lease")?;
    if taken == 1 {
        held.set_until(before + length);
    }
    Ok(taken == 1)
}
