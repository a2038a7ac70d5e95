//! What the detection says of sagas. Whoever writes here holds the projection's lock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::museum::{self, Bug};
use tokio_postgres::{Error, Row};

use super::SEPARATOR;
use crate::{alarm::CauseClass, domain::State, flows::Flow};

/// Marks open sagas that haven't moved since then, whatever the reason; at most so many, those that have stood still
/// for longest first. Returns how many are new.
pub async fn mark_stuck(tx: &Tx<'_>, unmoved_since: DateTime<Utc>, at_most: i64) -> Result<u64, Error> {
    macro_rules! mark {
        ($since:literal) => {
            concat!(
                "UPDATE sagas SET stuck = true, judged_at = NULL WHERE saga IN (
                     SELECT saga FROM sagas WHERE state IN ('IN_PROGRESS', 'COMPENSATING') AND NOT stuck AND ",
                $since,
                " <= $1 ORDER BY progress_at LIMIT $2)"
            )
        };
    }
    let sql = if museum::is_back(Bug::StuckSinceItsStart) { mark!("started_at") } else { mark!("progress_at") };
    tx.execute(sql, &[&unmoved_since, &at_most]).await
}

fn flow_names() -> Vec<&'static str> {
    Flow::ALL.iter().map(|flow| flow.name()).collect()
}

/// Whether some stuck saga was not judged yet: then not every cause is known. What a later release calls a saga is its own
/// to judge.
pub async fn is_any_unjudged(tx: &Tx<'_>) -> Result<bool, Error> {
    let unjudged = "SELECT EXISTS (SELECT FROM sagas WHERE stuck AND judged_at IS NULL AND type = ANY($1))";
    Ok(tx.query_one(unjudged, &[&flow_names()]).await?.get(0))
}

/// Believes the doubts about sagas of which everything up to then is known. Returns how many are new.
pub async fn mark_mismatched(tx: &Tx<'_>, known_until: DateTime<Utc>) -> Result<u64, Error> {
    tx.execute(
        "UPDATE sagas SET mismatches = doubts WHERE doubts <> '{}' AND progress_at <= $1 AND mismatches = '{}'",
        &[&known_until],
    )
    .await
}

/// A saga that is stuck, with all that its cause may follow from.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Its reference.
    pub saga: String,
    /// What kind of saga it is.
    pub flow: Flow,
    /// Its key.
    pub key: String,
    /// Where it stands.
    pub state: State,
    /// When it moved last.
    pub progress_at: DateTime<Utc>,
    /// What is kept of it.
    pub facts: String,
}

/// The stuck sagas that were judged longest ago.
pub async fn list_suspects(client: &Client, at_most: i64) -> Result<Vec<Suspect>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT saga, type, key, state, progress_at, facts FROM sagas WHERE stuck AND type = ANY($2)
             ORDER BY judged_at NULLS FIRST, progress_at LIMIT $1",
        )
        .await?;
    let rows = client.query(&statement, &[&at_most, &flow_names()]).await?;
    let suspect = |row: &Row| {
        Some(Suspect {
            saga: row.get("saga"),
            flow: row.get::<_, &str>("type").parse().ok()?,
            key: row.get("key"),
            state: row.get::<_, &str>("state").parse().ok()?,
            progress_at: row.get("progress_at"),
            facts: row.get("facts"),
        })
    };
    Ok(rows.iter().filter_map(suspect).collect())
}

/// What is said of a stuck saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which.
    pub saga: String,
    /// When it had moved last, as it was judged: if it has moved since, nothing is said of it.
    pub progress_at: DateTime<Utc>,
    /// The cause of the alarm that tells of it.
    pub cause: String,
    /// What holds it up.
    pub class: CauseClass,
    /// Undos that are owed and not on their way.
    pub not_undone: Vec<String>,
}

/// Stores what is said of stuck sagas.
pub async fn update_judged(tx: &Tx<'_>, judged: &[Judged]) -> Result<u64, Error> {
    let sagas: Vec<&str> = judged.iter().map(|one| &*one.saga).collect();
    let times: Vec<DateTime<Utc>> = judged.iter().map(|one| one.progress_at).collect();
    let causes: Vec<&str> = judged.iter().map(|one| &*one.cause).collect();
    let classes: Vec<&str> = judged.iter().map(|one| one.class.as_str()).collect();
    let not_undone: Vec<String> = judged.iter().map(|one| one.not_undone.join(SEPARATOR)).collect();
    tx.execute(
        "UPDATE sagas SET cause = now.cause, cause_class = now.cause_class, judged_at = clock_timestamp(),
                mismatches = sagas.doubts || string_to_array(now.not_undone, $6)
         FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
              AS now (saga, progress_at, cause, cause_class, not_undone)
         WHERE sagas.saga = now.saga AND sagas.progress_at = now.progress_at AND sagas.stuck",
        &[&sagas, &times, &causes, &classes, &not_undone, &SEPARATOR],
    )
    .await
}

/// A saga in which something doesn't match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatched {
    /// Which.
    pub saga: String,
    /// Its key.
    pub key: String,
    /// What doesn't match.
    pub mismatches: Vec<String>,
}

/// The newest sagas in which something doesn't match.
pub async fn list_mismatched(tx: &Tx<'_>, at_most: i64) -> Result<Vec<Mismatched>, Error> {
    let rows = tx
        .query(
            "SELECT saga, key, mismatches FROM sagas WHERE mismatches <> '{}'
             ORDER BY started_at DESC, saga DESC LIMIT $1",
            &[&at_most],
        )
        .await?;
    let read = |row: &Row| Mismatched { saga: row.get(0), key: row.get(1), mismatches: row.get(2) };
    Ok(rows.iter().map(read).collect())
}

/// The sagas of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffering {
    /// How many there are.
    pub count: i64,
    /// The keys of the first of them.
    pub keys: Vec<String>,
}

/// How many stuck sagas there are of each cause, with the keys of the first few.
pub async fn list_suffering(tx: &Tx<'_>, keys: i32) -> Result<BTreeMap<String, Suffering>, Error> {
    let rows = tx
        .query(
            "SELECT cause, count(*), (array_agg(key ORDER BY progress_at))[1:$1] FROM sagas
             WHERE stuck AND cause IS NOT NULL GROUP BY cause",
            &[&keys],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), Suffering { count: row.get(1), keys: row.get(2) })).collect())
}
