//! When a record may be delivered: on a retry topic records lie until they are due.

use std::time::Duration;

use metrics::histogram;

use super::{Group, Stalled};
use crate::{
    inbox::{self, Arrival, State},
    ladder::OwnTopic,
    record::Record,
};

/// Which of a partition's records may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// So many, from the first on.
    pub now: usize,
    /// The one after them in this time, if there is one.
    pub next_in: Duration,
}

impl Group {
    /// How many of these records of one partition, from the first on, may be delivered now. On a retry topic
    /// records lie until they are due; elsewhere all may.
    ///
    /// # Errors
    /// [`Stalled`] when the database, whose clock counts, doesn't answer.
    pub async fn due(&self, records: &[Record]) -> Result<Due, Stalled> {
        let tier = records.first().and_then(|record| self.own_topic(record));
        let Some(OwnTopic::Retry(rung)) = tier else {
            return Ok(Due { now: records.len(), next_in: Duration::ZERO });
        };
        let now = self.clock.now(&self.pool).await?;
        let wait = |record: &Record| (record.due_at()? - now).to_std().ok().filter(|wait| !wait.is_zero());
        let (mut due, mut next_in) = (records.len(), Duration::ZERO);
        for (place, record) in records.iter().enumerate() {
            let Some(wait) = wait(record) else { continue };
            // Later than this rung has it: the rung was longer once, or a stranger says so, whom nobody waits for.
            if wait > self.ladder.delay(rung) && !self.is_its_hop(record).await? {
                continue;
            }
            (due, next_in) = (place, wait);
            break;
        }
        for lateness in records[..due].iter().filter_map(|record| (now - record.due_at()?).to_std().ok()) {
            histogram!("retry_lateness_seconds").record(lateness.as_secs_f64());
        }
        Ok(Due { now: due, next_in })
    }

    /// Whether it is this record by which its event came here.
    async fn is_its_hop(&self, record: &Record) -> Result<bool, Stalled> {
        let (Some((day, id)), Some(hop)) = (record.peek_identity(), record.hop()) else { return Ok(false) };
        let client = self.pool.get().await?;
        let standings = inbox::find_standings(&client, &[Arrival { day, id, record }]).await?;
        Ok(standings.get(&id) == Some(&(State::Retrying, hop)))
    }
}
