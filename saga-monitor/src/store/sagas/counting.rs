//! How many sagas there are, by state: now, and over the last hours.

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Client;
use tokio_postgres::{Error, Row};

use crate::domain::State;

/// Sagas that began within one slice of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// When the slice begins.
    pub from: DateTime<Utc>,
    /// Where they stand now.
    pub state: State,
    /// How many they are.
    pub count: i64,
}

/// How many sagas there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that are open, whenever they began.
    pub open: Vec<(State, i64)>,
    /// Those that began since, by slice and state, in the order of time.
    pub slices: Vec<Slice>,
    /// Those that don't move, whenever they began.
    pub stuck: i64,
    /// Those in which something doesn't match, whenever they began.
    pub mismatched: i64,
}

impl Counts {
    /// How many stand so: of those that are open all, of those that have ended the ones that began since.
    pub fn of(&self, state: State) -> i64 {
        if state.is_open() {
            return self.open.iter().filter(|(known, _)| *known == state).map(|(_, count)| count).sum();
        }
        self.slices.iter().filter(|slice| slice.state == state).map(|slice| slice.count).sum()
    }
}

/// Counts sagas; those that have ended since `since` only, which the index by time knows.
pub async fn count_sagas(client: &Client, since: DateTime<Utc>, slice: TimeDelta) -> Result<Counts, Error> {
    let seconds = slice.num_seconds();
    let slices = client
        .prepare_cached(
            "SELECT date_bin(make_interval(secs => $2::bigint), started_at, 'epoch') AS slice, state, count(*)
             FROM sagas WHERE started_at >= $1 GROUP BY slice, state ORDER BY slice, state",
        )
        .await?;
    let open = client
        .prepare_cached(
            "SELECT state, count(*) FROM sagas WHERE state IN ('IN_PROGRESS', 'COMPENSATING') GROUP BY state",
        )
        .await?;
    let wrong = client
        .prepare_cached(
            "SELECT (SELECT count(*) FROM sagas WHERE stuck), (SELECT count(*) FROM sagas WHERE mismatches <> '{}')",
        )
        .await?;
    let slice = |row: &Row| Some(Slice { from: row.get(0), state: state(row.get(1))?, count: row.get(2) });
    let open_one = |row: &Row| Some((state(row.get(0))?, row.get(1)));
    let slices = client.query(&slices, &[&since, &seconds]).await?.iter().filter_map(slice).collect();
    let open = client.query(&open, &[]).await?.iter().filter_map(open_one).collect();
    let row = client.query_one(&wrong, &[]).await?;
    Ok(Counts { open, slices, stuck: row.get(0), mismatched: row.get(1) })
}

/// The table's CHECK knows no others.
fn state(word: &str) -> Option<State> {
    word.parse().ok()
}
