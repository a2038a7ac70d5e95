//! All tables of all services at one moment, so that two moments can be compared.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::{Suite, suite::SERVICES};

/// Table by table: how many rows, and a hash over them.
pub type Snapshot = BTreeMap<String, (i64, String)>;

/// Who moves an outbox is no event's effect.
const LEFT_OUT: &[&str] = &["relay_lease"];

/// Looks at every table of every service.
pub async fn snapshot(suite: &Suite) -> anyhow::Result<Snapshot> {
    let mut all = Snapshot::new();
    for service in SERVICES {
        let database = suite.database(service).await?;
        let tables = database
            .query("SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace", &[])
            .await?;
        for table in tables.iter().map(|row| row.get::<_, String>(0)).filter(|name| !LEFT_OUT.contains(&name.as_str()))
        {
            let sql = format!(
                "SELECT count(*), coalesce(md5(string_agg(hash, '' ORDER BY hash)), '')
                 FROM (SELECT md5(row::text) AS hash FROM {table} AS row) AS rows"
            );
            let row = database.query_one(&sql, &[]).await.with_context(|| format!("looking at {table}"))?;
            all.insert(format!("{service} {table}"), (row.get(0), row.get(1)));
        }
    }
    Ok(all)
}
