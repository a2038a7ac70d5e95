//! What handling a record would do: its handler works in a transaction that its caller rolls back.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use common_events::ReasonCode;
use serde::Deserialize;
use tokio_postgres::Row;

use super::{Group, Reading, attempt::catch_panics};
use crate::{
    failure::{Failure, Transient},
    record::Record,
    tx::{Foretold, Tx},
};

/// What would come of a record.
#[derive(Debug)]
pub(crate) enum Rehearsed {
    /// It can't be read as an event of its topic, or not any more.
    Refused { class: &'static str, message: String },
    /// The handler would fail.
    Failed(Failure),
    /// Its remote call isn't made in a rehearsal, and what its handler does depends on the answer.
    Remote,
    /// It would be handled.
    Handled(Effects),
}

/// What a handler did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The type of each event it published, with the reason that it gives, if it gives one.
    pub(crate) answers: Vec<(&'static str, Option<ReasonCode>)>,
    /// How many rows it wrote, by table.
    pub(crate) changes: BTreeMap<String, i64>,
    /// Why the event came too late, if the handler says so, or answered so.
    pub(crate) too_late: Option<ReasonCode>,
}

/// Rows written in this session so far, by table. Counts only grow, also over savepoints that are rolled back.
const WRITTEN: &str = "
    SELECT relname::text, written FROM (
        SELECT relname, pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid)
            + pg_stat_get_xact_tuples_deleted(oid) AS written
        FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
    ) AS tables WHERE written > 0";

impl Group {
    /// Lets the record be handled in `tx`, on top of what was rehearsed in it before. Remote calls aren't
    /// made, and the inbox isn't asked. What fails leaves nothing in `tx`.
    ///
    /// The error is the database's, when it can't go on.
    pub(crate) async fn rehearse(
        &self,
        tx: &Tx<'_>,
        record: &Record,
        today: NaiveDate,
    ) -> Result<Rehearsed, tokio_postgres::Error> {
        let heard = self.hear(record, today);
        let (decoded, hearing) = match heard.reading {
            Reading::Refused { class, message } => return Ok(Rehearsed::Refused { class, message }),
            Reading::Event { decoded, hearing } => (decoded, hearing),
        };
        let foretold_failure = self.faults.foretold(record, decoded.id);
        if hearing.is_remote() && foretold_failure.is_none() {
            return Ok(Rehearsed::Remote);
        }
        let before = written(tx).await?;
        tx.transaction().batch_execute("SAVEPOINT rehearsal").await?;
        let struck = async {
            match foretold_failure {
                Some(kind) => kind.strike(tx).await,
                None => Ok(()),
            }
        };
        let handled = if hearing.is_remote() {
            catch_panics(struck).await
        } else {
            self.handle(hearing, tx, &[&decoded], struck).await
        };
        let foretold = tx.forget_published();
        if let Err(failure) = handled {
            tx.transaction().batch_execute("ROLLBACK TO rehearsal; RELEASE rehearsal").await?;
            return Ok(Rehearsed::Failed(failure));
        }
        // A statement that failed and was overlooked would keep the transaction from being committed.
        if tx.transaction().batch_execute("RELEASE rehearsal").await.is_err() {
            tx.transaction().batch_execute("ROLLBACK TO rehearsal; RELEASE rehearsal").await?;
            return Ok(Rehearsed::Failed(Transient::new("database", "a statement failed unnoticed").into()));
        }
        let changes = grown(&before, written(tx).await?);
        Ok(Rehearsed::Handled(Effects::of(foretold, changes)))
    }
}

impl Effects {
    fn of(Foretold { published, came_too_late }: Foretold, changes: BTreeMap<String, i64>) -> Self {
        let answers: Vec<_> = published.iter().map(|(topic, payload)| (topic.name(), reason(payload))).collect();
        let answered = answers.iter().any(|(_, reason)| *reason == Some(ReasonCode::ORDER_CANCELLED));
        let too_late = came_too_late.or_else(|| answered.then_some(ReasonCode::ORDER_CANCELLED));
        Self { answers, changes, too_late }
    }
}

async fn written(tx: &Tx<'_>) -> Result<BTreeMap<String, i64>, tokio_postgres::Error> {
    let read = |row: &Row| (row.get(0), row.get(1));
    Ok(tx.query(WRITTEN, &[]).await?.iter().map(read).collect())
}

fn grown(before: &BTreeMap<String, i64>, after: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let growth = |(table, rows): (String, i64)| {
        let more = rows - before.get(&table).copied().unwrap_or_default();
        (more > 0).then_some((table, more))
    };
    after.into_iter().filter_map(growth).collect()
}

/// The reason in an event's data, if it gives one.
fn reason(payload: &[u8]) -> Option<ReasonCode> {
    #[derive(Deserialize)]
    struct Event {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        reason: Option<ReasonCode>,
    }
    serde_json::from_slice::<Event>(payload).ok()?.data.reason
}
