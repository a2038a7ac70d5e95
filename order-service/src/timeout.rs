//! Orders that don't get on are cancelled: a timeout is a cancel like any other.
//!
//! Several instances may sweep at the same time; each leaves out what another one works on. How long an
//! order is open is told by the database's clock alone: theirs may differ.

use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use messaging::{Cause, Failure, Tx};
use metrics::{counter, describe_counter};
use service_runtime::{
    Pool, Tasks, chain,
    tasks::{Next, Rounds},
};

use crate::{
    domain::Order,
    store::{self, Overdue},
    waiting::Waiting,
};

/// How many orders one transaction cancels.
const BATCH: i64 = 200;
/// An order is cancelled at most this long after its timeout, as long as there are few …
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// … and it is looked for overdue orders no more often than this …
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// … and this many times within the timeout.
const SWEEPS_PER_TIMEOUT: u32 = 10;

/// Sweeps as long as the process runs.
pub fn sweep_on(tasks: &Tasks, pool: Pool, waiting: Waiting, order_timeout: TimeDelta) {
    describe_counter!("orders_unreadable_total", "Looks at orders open for too long that could not be read.");
    let timeout = order_timeout.to_std().unwrap_or_default();
    let every = (timeout / SWEEPS_PER_TIMEOUT).clamp(MIN_INTERVAL, MAX_INTERVAL);
    tasks.repeat(Rounds::every("timeout-sweep", every), (pool, waiting), move |(pool, waiting)| {
        async move {
            let cancelled = sweep(pool, waiting, order_timeout).await?;
            if cancelled == 0 {
                return Ok(Next::Later);
            }
            tracing::info!(cancelled, "orders timed out");
            // There may be more.
            Ok(Next::Now)
        }
        .boxed()
    });
}

/// Cancels the orders that are open for longer than `order_timeout`, at most [`BATCH`] of them.
/// Returns how many. One that can't be read is told of, and looked at again after another timeout: the others go on.
pub async fn sweep(pool: &Pool, waiting: &Waiting, order_timeout: TimeDelta) -> anyhow::Result<usize> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let Overdue { mut orders, unreadable } = store::lock_overdue_orders(&tx, order_timeout, BATCH).await?;
    if orders.is_empty() && unreadable.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    for (order_id, error) in &unreadable {
        counter!("orders_unreadable_total").increment(1);
        tracing::error!(%order_id, error = chain(error), "an order that is open for too long can't be read");
    }
    for order in &mut orders {
        time_out(&tx, order, waiting)?;
    }
    store::update_orders(&tx, &orders).await?;
    store::postpone_orders(&tx, unreadable.iter().map(|(order_id, _)| *order_id)).await?;
    tx.commit().await?;
    Ok(orders.len())
}

fn time_out(tx: &Tx<'_>, order: &mut Order, waiting: &Waiting) -> Result<(), Failure> {
    if let Some(cancelled) = order.time_out(tx.now()) {
        tx.publish(Cause::trace(order.trace).causes(cancelled))?;
        waiting.wake_after(tx, order.id);
    }
    Ok(())
}
