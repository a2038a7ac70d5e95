//! Parked events: what failed on the last rung is tried in batches, each when it is due.
//!
//! A member claims due rows for a while and tries them. What it doesn't get to, because it dies, is due again
//! for whoever comes next: the batches go on from where they stopped.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use common_events::EventId;
use service_runtime::database::Pool;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Came;
use crate::{
    delivery::{Delivered, Group, Heard, History, Stalled},
    record::Record,
};

/// Rows of one batch.
const MAX_BATCH: i64 = 500;
/// How long a member has claimed rows for itself: more than a batch takes. Then others may try them: nothing
/// happens twice, but remote calls may be made twice.
const LONGEST_CLAIM: Duration = Duration::from_mins(1);
const SHORTEST_CLAIM: Duration = Duration::from_secs(15);

/// A parked row, as the record it came in.
struct Parked {
    record: Record,
    came: Came,
    history: History,
}

impl Group {
    /// Tries what is parked and due, until nothing is. A running consumer does it by itself.
    ///
    /// # Errors
    /// [`Stalled`] when what the group stands on is away.
    pub async fn try_parked(&self) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        while let Some(some) = self.try_some_parked().await? {
            delivered += some;
        }
        Ok(delivered)
    }

    /// The same for the rows that one claim takes; `None` when there are none.
    pub(crate) async fn try_some_parked(&self) -> Result<Option<Delivered>, Stalled> {
        // Whoever dies in the middle of a batch costs its rows no more than the time to the next.
        let claimed = self.ladder.parked_interval.clamp(SHORTEST_CLAIM, LONGEST_CLAIM);
        let parked = claim(&self.pool, claimed).await?;
        if parked.is_empty() {
            return Ok(None);
        }
        let today = self.clock.now(&self.pool).await?.date_naive();
        let heard: Vec<Heard<'_>> =
            parked.iter().map(|parked| self.hear_as(&parked.record, today, parked.came, parked.history)).collect();
        Ok(Some(self.work_on_claimed(&heard, claimed).await?))
    }
}

async fn claim(pool: &Pool, claimed: Duration) -> Result<Vec<Parked>, Stalled> {
    let client = pool.get().await?;
    let statement = client
        .prepare_cached(
            "WITH due AS (
                 SELECT id FROM dead_letters WHERE state = 'PARKED' AND due_at <= clock_timestamp()
                 ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
             ), claimed AS (
                 UPDATE dead_letters SET due_at = clock_timestamp() + $2 * interval '1 second'
                 FROM due WHERE dead_letters.id = due.id
                 RETURNING dead_letters.id, origin_topic, origin_partition, origin_offset, origin_timestamp, key,
                     payload, header_names, header_values, parked_attempts, attempts, first_failed_at, day, event_id
             )
             SELECT origin_topic, origin_partition, origin_offset, origin_timestamp, key, payload, header_names,
                    header_values, inbox.hop, parked_attempts, attempts, first_failed_at, claimed.day,
                    claimed.event_id
             FROM claimed JOIN inbox ON inbox.event_id = claimed.event_id AND inbox.day = claimed.day
             ORDER BY claimed.id",
        )
        .await?;
    let rows = client.query(&statement, &[&MAX_BATCH, &claimed.as_secs_f64()]).await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> Parked {
    let count = |column: usize| u32::try_from(row.get::<_, i32>(column)).unwrap_or_default();
    let first_failed_at: DateTime<Utc> = row.get(11);
    let (day, id): (NaiveDate, Uuid) = (row.get(12), row.get(13));
    Parked {
        record: Record::read(row),
        came: Came::Parked { hop: row.get(8), batches: count(9) },
        history: History {
            attempts: count(10),
            first_failed_at: Some(first_failed_at),
            identity: Some((day, EventId::new(id))),
        },
    }
}
