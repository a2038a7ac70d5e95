//! Answers are kept for at least a day, and not for ever.

use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_hours(1);
/// Twice the 24 hours that docs/contract.md §3 promises.
const KEPT_HOURS: i32 = 48;
const BATCH_ROWS: i64 = 1_000;
/// What one round deletes at most; the rest waits an hour.
const MAX_BATCHES: u32 = 1_000;

const DELETE: &str = "DELETE FROM idempotency_keys WHERE (user_id, call, key) IN (\
     SELECT user_id, call, key FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1) LIMIT $2)";

/// Deletes old answers once an hour until `shutdown`.
pub(crate) async fn clean_up(pool: Pool, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        match delete_old(&pool).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old idempotency keys deleted"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "old idempotency keys were not deleted"),
        }
    }
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
