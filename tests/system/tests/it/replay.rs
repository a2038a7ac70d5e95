//! Everything once more.

use anyhow::ensure;
use system::{Suite, law, suite::SERVICES};

use crate::crashes::Rush;

pub(crate) async fn replaying_every_topic_from_the_first_record_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let rush = Rush::begin(suite, 50).await?;
    rush.until_more_accepted(200).await?;
    rush.end().await?;
    suite.until_quiet().await?;
    suite.terminate_all().await?;
    let groups = suite.groups()?;
    let (before, written) = (law::snapshot(suite).await?, groups.written().await?);

    groups.rewind(&SERVICES).await?;
    let unread = groups.nothing_to_read(&SERVICES).await;
    ensure!(unread.is_err(), "after the rewind there is nothing to read");
    suite.start_all().await?;
    suite.until_quiet().await?;
    suite.terminate_all().await?;

    let (after, written_after) = (law::snapshot(suite).await?, groups.written().await?);
    ensure!(written == written_after, "something was published: {written:?} {written_after:?}");
    for (table, rows) in &before {
        ensure!(after.get(table) == Some(rows), "{table} changed: {rows:?} → {:?}", after.get(table));
    }
    ensure!(before.len() == after.len(), "tables came or went");
    suite.start_all().await
}
