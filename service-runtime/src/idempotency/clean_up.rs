//! Answers are kept for at least a day, and not for ever.

use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use futures::FutureExt;

use crate::tasks::{Next, Rounds, Tasks};

const EVERY: Duration = Duration::from_hours(1);
/// Twice the 24 hours that docs/contract.md §3 promises.
const KEPT_HOURS: i32 = 48;
const BATCH_ROWS: i64 = 1_000;
/// What one round deletes at most; the rest waits an hour.
const MAX_BATCHES: u32 = 1_000;

const DELETE: &str = "DELETE FROM idempotency_keys WHERE (user_id, call, key) IN (\
     SELECT user_id, call, key FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1) LIMIT $2)";

/// Deletes old answers, once an hour.
pub(crate) fn keep_clean(tasks: &Tasks, pool: Pool) {
    tasks.repeat(Rounds::every("idempotency-keys", EVERY), pool, |pool| clean_up(pool).boxed());
}

async fn clean_up(pool: &Pool) -> anyhow::Result<Next> {
    let rows = delete_old(pool).await?;
    if rows > 0 {
        tracing::info!(rows, "old idempotency keys deleted");
    }
    Ok(Next::Later)
}

pub(super) async fn delete_old(pool: &Pool) -> anyhow::Result<u64> {
    let client = pool.get().await.context("connecting to clean up")?;
    let mut deleted = 0;
    for _ in 0..MAX_BATCHES {
        let rows =
            client.execute(DELETE, &[&KEPT_HOURS, &BATCH_ROWS]).await.context("deleting old idempotency keys")?;
        deleted += rows;
        if rows < BATCH_ROWS.unsigned_abs() {
            break;
        }
    }
    Ok(deleted)
}
