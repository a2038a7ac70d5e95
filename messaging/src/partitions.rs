//! Day partitions of `inbox` and `kept_answers`: made when the first event of a day comes, dropped
//! when the day is past what anybody may still send. Dropped, not deleted row by row. Whoever only reads the whole table, a
//! backup or a forgotten `psql`, keeps no new day from beginning, and an old one only from going.

use std::{collections::BTreeSet, sync::Mutex};

use chrono::{Days as Span, NaiveDate};
use deadpool_postgres::Transaction;
use service_runtime::{
    chain,
    database::{Pool, is_lock_wait},
    museum::{self, Bug},
};
use tokio_postgres::Error;
use tracing::warn;

use crate::delivery::Stalled;

/// The one maximum age of an event (ARCHITECTURE.md, "What is remembered"): above the longest topic retention (30
/// days), the ladder and the time a dead letter lies before somebody looks. Older events are refused.
pub(crate) const MAX_AGE_DAYS: u64 = 45;
/// How far a producer's clock may be ahead. Each such day costs a partition, so there is a limit.
const MAX_AHEAD_DAYS: u64 = 7;
/// Two processes must not make the same partition at once. Any fixed number of our own will do.
const ADVISORY_LOCK: i64 = 0x0069_6e62_6f78;

/// What has a partition for each day.
const TABLES: [&str; 2] = ["inbox", "kept_answers"];
const BRIEFLY: &str = "SET LOCAL lock_timeout = '100ms'";

/// The days for which this process knows a partition.
#[derive(Default)]
pub(crate) struct Days {
    known: Mutex<BTreeSet<NaiveDate>>,
}

/// Whether an event of that day is still, and already, remembered. `today` is the database's: a member whose
/// clock is wrong must not set aside what is well.
pub(crate) fn is_remembered(day: NaiveDate, today: NaiveDate) -> bool {
    today - Span::new(MAX_AGE_DAYS) <= day && day <= today + Span::new(MAX_AHEAD_DAYS)
}

impl Days {
    /// Makes the partitions of these days where they are missing.
    pub(crate) async fn ensure(&self, pool: &Pool, days: &BTreeSet<NaiveDate>) -> Result<(), Stalled> {
        let missing: Vec<NaiveDate> = days.difference(&self.lock()).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut client = pool.get().await?;
        let tx = client.transaction().await?;
        tx.execute("SELECT pg_advisory_xact_lock($1)", &[&ADVISORY_LOCK]).await?;
        for day in &missing {
            for table in TABLES {
                make(&tx, table, *day).await?;
            }
        }
        tx.commit().await?;
        self.lock().extend(missing);
        Ok(())
    }

    /// Looks for the partitions again when they are needed.
    pub(crate) fn forget_known(&self) {
        self.lock().clear();
    }

    /// Drops the partitions of days that are past the maximum age. Returns how many. One whose table somebody reads stays
    /// for now: whoever came meanwhile would wait behind the drop.
    pub(crate) async fn drop_old(&self, pool: &Pool, today: NaiveDate) -> Result<usize, Stalled> {
        let max_age = if museum::is_back(Bug::InboxForgetsFirst) { 7 } else { MAX_AGE_DAYS };
        let oldest = today - Span::new(max_age + 1);
        let mut client = pool.get().await?;
        let tables = client
            .query(
                "SELECT child.relname::text, parent.relname::text FROM pg_inherits
                 JOIN pg_class child ON child.oid = inhrelid
                 JOIN pg_class parent ON parent.oid = inhparent
                 WHERE parent.relname = ANY($2)
                   AND child.relname ~ '_[0-9]{8}$' AND right(child.relname, 8) < $1",
                &[&oldest.format("%Y%m%d").to_string(), &TABLES.as_slice()],
            )
            .await?;
        let (mut dropped, mut is_read) = (0, BTreeSet::<&str>::new());
        for table in &tables {
            if is_read.contains(table.get::<_, &str>(1)) {
                continue;
            }
            let tx = client.transaction().await?;
            tx.batch_execute(BRIEFLY).await?;
            match tx.batch_execute(&format!("DROP TABLE IF EXISTS \"{}\"", table.get::<_, &str>(0))).await {
                Ok(()) => {
                    tx.commit().await?;
                    dropped += 1;
                }
                Err(error) if is_lock_wait(&error) => {
                    let (error, table) = (chain(&error), table.get::<_, &str>(1));
                    warn!(error, table, "somebody reads it: its days past the maximum age are dropped later");
                    tx.rollback().await?;
                    is_read.insert(table);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.lock().retain(|day| *day >= oldest);
        Ok(dropped)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<NaiveDate>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Makes a day's partition of a table, where it is missing. As a table of its own that is attached then, it waits for
/// nobody who reads the table.
async fn make(tx: &Transaction<'_>, table: &str, day: NaiveDate) -> Result<(), Error> {
    let (name, next) = (format!("{table}_{}", day.format("%Y%m%d")), day + Span::new(1));
    // Not by to_regclass: a session that has looked for it before remembers that it isn't there.
    let sql =
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = $1 AND relnamespace = current_schema()::regnamespace)";
    if tx.query_one(sql, &[&name]).await?.get(0) {
        return Ok(());
    }
    tx.batch_execute(&format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL);
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{next}')"
    ))
    .await
}
