//! How many sagas there are, counted for everybody who looks at once, and the less often the longer it takes: an
//! overview that is open on ten screens must not weigh on the database of a busy monitor.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use service_runtime::{Pool, Problem};
use tokio::sync::Mutex;

use crate::store::sagas::{Counts, count_sagas};

/// A count is shown at least so long.
const SHOWN_FOR: Duration = Duration::from_secs(2);
/// And so many times as long as it took: counting takes a twentieth of the time at most.
const SHARE: u32 = 20;

/// Over which time sagas are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
pub(super) enum Range {
    /// One hour.
    #[serde(rename = "1h")]
    Hour,
    /// Six hours.
    #[default]
    #[serde(rename = "6h")]
    SixHours,
    /// A day.
    #[serde(rename = "24h")]
    Day,
}

/// How many columns a drawing of it has.
pub(super) const COLUMNS: i32 = 60;

impl Range {
    pub(super) const ALL: [Self; 3] = [Self::Hour, Self::SixHours, Self::Day];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Hour => "last hour",
            Self::SixHours => "last 6 hours",
            Self::Day => "last 24 hours",
        }
    }

    /// How long a column is.
    pub(super) const fn slice(self) -> TimeDelta {
        match self {
            Self::Hour => TimeDelta::minutes(1),
            Self::SixHours => TimeDelta::minutes(6),
            Self::Day => TimeDelta::minutes(24),
        }
    }

    /// When its first column begins: columns begin at full slices.
    pub(super) fn since(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let slice = self.slice().num_seconds();
        let end = (now.timestamp().div_euclid(slice) + 1) * slice;
        DateTime::from_timestamp(end, 0).unwrap_or(now) - self.slice() * COLUMNS
    }
}

#[derive(Clone)]
struct Known {
    since: DateTime<Utc>,
    at: Instant,
    took: Duration,
    counts: Arc<Counts>,
}

/// What was counted last. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct Counted(Arc<Mutex<BTreeMap<Range, Known>>>);

impl Counted {
    /// The counts of a range, and since when they are. One counts for all who ask meanwhile.
    pub(super) async fn counts(&self, pool: &Pool, range: Range) -> Result<(DateTime<Utc>, Arc<Counts>), Problem> {
        let mut known = self.0.lock().await;
        if let Some(known) = known.get(&range)
            && known.at.elapsed() < SHOWN_FOR.max(known.took * SHARE)
        {
            return Ok((known.since, Arc::clone(&known.counts)));
        }
        let began = Instant::now();
        let since = range.since(Utc::now());
        let counts = Arc::new(count_sagas(&pool.get().await?, since, range.slice()).await?);
        let fresh = Known { since, at: Instant::now(), took: began.elapsed(), counts: Arc::clone(&counts) };
        known.insert(range, fresh);
        Ok((since, counts))
    }
}
