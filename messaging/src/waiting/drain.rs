//! Draining: the followers of a key whose head is through are handled in their order, by whichever member
//! comes first. A member that dies in the middle leaves the rest to the next sweep.

use std::{collections::HashSet, time::Duration};

use chrono::NaiveDate;
use common_events::EventId;
use service_runtime::database::Pool;

use super::{OwnedKey, delete_drained};
use crate::{
    delivery::{Delivered, Group, Heard, History, Stalled},
    faults::{Faults, Step},
    ladder::Came,
    record::Record,
    tx::Tx,
};

/// Keys that one round takes up.
const MAX_KEYS: i64 = 100;
/// Followers that one round handles: of each of its keys as many.
const MAX_FOLLOWERS: i64 = 500;
/// How long a round has its keys for itself: so long they wait when it dies. Then others may take them up:
/// nothing happens twice, but remote calls may be made twice.
const CLAIM: Duration = Duration::from_secs(15);

impl Group {
    /// Takes up keys whose heads are through, and handles followers until none is left that may be drained. A
    /// running consumer does it by itself.
    ///
    /// # Errors
    /// [`Stalled`] when what the group stands on is away.
    pub async fn drain(&self) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        while let Some(some) = self.drain_some().await? {
            delivered += some;
        }
        Ok(delivered)
    }

    /// The same for the keys that one claim takes; `None` when there are none.
    pub(crate) async fn drain_some(&self) -> Result<Option<Delivered>, Stalled> {
        let keys = claim(&self.pool, &self.faults).await?;
        if keys.is_empty() {
            return Ok(None);
        }
        let records = list_followers(&self.pool, &keys).await?;
        let today = self.clock.now(&self.pool).await?.date_naive();
        let heard: Vec<Heard<'_>> = records
            .iter()
            .map(|(record, identity)| {
                let history = History { identity: Some(*identity), ..History::default() };
                self.hear_as(record, today, Came::Waiting, history)
            })
            .collect();
        Ok(Some(self.work_on_claimed(&heard, CLAIM).await?))
    }
}

/// Takes released keys for some time; those without followers are free.
async fn claim(pool: &Pool, faults: &Faults) -> Result<Vec<OwnedKey>, Stalled> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let rows = tx
        .query(
            "UPDATE waiting_keys SET drain_after = clock_timestamp() + $2 * interval '1 second'
             WHERE (topic, key) IN (
                 SELECT topic, key FROM waiting_keys
                 WHERE head_id IS NULL AND drain_after <= clock_timestamp()
                 ORDER BY drain_after LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING topic, key,
                 EXISTS (SELECT FROM waiting_events AS follower
                         WHERE follower.topic = waiting_keys.topic AND follower.key = waiting_keys.key)",
            &[&MAX_KEYS, &CLAIM.as_secs_f64()],
        )
        .await?;
    let (with_followers, without): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get(2));
    let free: HashSet<_> = without.iter().map(|row| (row.get(0), row.get(1))).collect();
    if !free.is_empty() {
        // It looks again: one may have come between the two statements' snapshots, but not after the lock.
        delete_drained(&tx, &free).await?;
    }
    let claimed: Vec<OwnedKey> = with_followers.into_iter().map(super::read_key).collect();
    let dies = |side| {
        if claimed.is_empty() {
            Ok(())
        } else {
            faults.die((Step::Drain, side), std::iter::empty()).map_err(Stalled::from)
        }
    };
    tx.commit_unless(dies).await?;
    Ok(claimed)
}

/// The first followers of these keys, as the records they came in.
async fn list_followers(pool: &Pool, keys: &[OwnedKey]) -> Result<Vec<(Record, (NaiveDate, EventId))>, Stalled> {
    let (topics, keys): (Vec<&str>, Vec<&[u8]>) = keys.iter().map(|(topic, key)| (&**topic, &**key)).unzip();
    let of_each = MAX_FOLLOWERS / i64::try_from(keys.len()).expect("at most MAX_KEYS");
    let client = pool.get().await?;
    let statement = client
        .prepare_cached(
            "SELECT coalesce(origin_topic, topic), origin_partition, origin_offset, origin_timestamp, key, payload,
                    header_names, header_values, day, event_id
             FROM unnest($1::text[], $2::bytea[]) AS turn (of_topic, of_key)
             CROSS JOIN LATERAL (SELECT * FROM waiting_events WHERE topic = of_topic AND key = of_key
                                 ORDER BY position LIMIT $3) AS follower
             ORDER BY position",
        )
        .await?;
    let rows = client.query(&statement, &[&topics, &keys, &of_each]).await?;
    Ok(rows.iter().map(|row| (Record::read(row), (row.get(8), EventId::new(row.get(9))))).collect())
}
