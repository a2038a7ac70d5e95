//! The database's clock: the one that all members of a group have in common.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use service_runtime::database::Pool;

use super::Stalled;

/// How long its answer is carried on by the machine's monotonic clock.
const ASKED_EVERY: Duration = Duration::from_secs(15);
/// When the two clocks differ by more, one of them is wrong, and nobody knows which: an event could be set
/// aside for its time though it is well.
const FAR_APART: TimeDelta = TimeDelta::hours(12);

#[derive(Default)]
pub(crate) struct Clock {
    asked: Mutex<Option<(Instant, DateTime<Utc>)>>,
}

impl Clock {
    /// The database's time, or a little earlier: never later, so that nothing is done too early by it.
    pub(crate) async fn now(&self, pool: &Pool) -> Result<DateTime<Utc>, Stalled> {
        let asked = *self.lock();
        if let Some((at, answer)) = asked
            && at.elapsed() < ASKED_EVERY
        {
            return Ok(answer + at.elapsed());
        }
        let client = pool.get().await?;
        let statement = client.prepare_cached("SELECT clock_timestamp()").await?;
        let answer: DateTime<Utc> = client.query_one(&statement, &[]).await?.get(0);
        agree(Utc::now(), answer)?;
        *self.lock() = Some((Instant::now(), answer));
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, DateTime<Utc>)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn agree(own: DateTime<Utc>, database: DateTime<Utc>) -> Result<(), Stalled> {
    if (own - database).abs() <= FAR_APART {
        return Ok(());
    }
    Err(Stalled(format!("a wrong clock: it is {own} here, and {database} at the database").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_no_event_s_fault() {
        let now = Utc::now();
        agree(now, now - TimeDelta::hours(1)).expect("that happens");
        for wrong in [now - TimeDelta::hours(13), now + TimeDelta::hours(13)] {
            agree(wrong, now).expect_err("the partition waits");
        }
    }
}
