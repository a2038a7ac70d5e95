//! How many rows are written in each of a service's own tables, so that a dry run can be held to its word.

use std::collections::BTreeMap;

use anyhow::Context;
use common_events::Service;
use service_runtime::Pool;
use test_support::Database;

use crate::shop::Shop;

/// Where it is noted which table each row was written in.
pub(crate) const WRITTEN: &str = "written";

/// How often what was seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, i64>);

impl Counts {
    pub(crate) fn add(&mut self, what: &str, count: i64) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(what, count): (&String, &i64)| {
            let more = count - before.0.get(what).copied().unwrap_or_default();
            (more != 0).then(|| (what.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    pub(crate) fn without(mut self, what: &str) -> Self {
        self.0.remove(what);
        self
    }
}

impl FromIterator<String> for Counts {
    fn from_iter<I: IntoIterator<Item = String>>(seen: I) -> Self {
        let mut counts = Self::default();
        for what in seen {
            counts.add(&what, 1);
        }
        counts
    }
}

/// The tables of messaging's own.
pub(crate) async fn tables_of_messaging() -> Vec<String> {
    tables(&Database::new(&[messaging::MIGRATIONS]).await.pool).await
}

/// Notes from now on what is written, but for these tables.
pub(crate) async fn note(pool: &Pool, unnoted: &[String]) {
    let client = pool.get().await.expect("a connection");
    let noting = format!(
        "CREATE TABLE {WRITTEN} (relation text NOT NULL);
         CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO {WRITTEN} VALUES (TG_RELID::regclass::text); RETURN NULL; END $$"
    );
    let of_the_service = tables(pool).await;
    client.batch_execute(&noting).await.expect("a table and a function");
    for table in of_the_service.iter().filter(|table| !unnoted.contains(table)) {
        let trigger = format!(
            "CREATE TRIGGER note_written AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION note_written()"
        );
        client.batch_execute(&trigger).await.expect("a trigger");
    }
}

async fn tables(pool: &Pool) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class
               WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace";
    let client = pool.get().await.expect("a connection");
    client.query(sql, &[]).await.expect("PostgreSQL answers").iter().map(|row| row.get(0)).collect()
}

impl Shop {
    /// Begins to count anew.
    pub(crate) async fn forget_written(&self, service: Service) -> anyhow::Result<()> {
        let client = self.database(service).get().await?;
        client.batch_execute(&format!("TRUNCATE {WRITTEN}")).await.context("forgetting what was written")
    }

    /// What was written in a service's own tables, row by row.
    pub(crate) async fn written(&self, service: Service) -> anyhow::Result<Counts> {
        let client = self.database(service).get().await?;
        let sql = format!("SELECT relation, count(*) FROM {WRITTEN} GROUP BY relation");
        let rows = client.query(&client.prepare_cached(&sql).await?, &[]).await.context("what was written")?;
        let mut counts = Counts::default();
        for row in rows {
            counts.add(row.get(0), row.get(1));
        }
        Ok(counts)
    }
}
