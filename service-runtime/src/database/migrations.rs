//! Migrations at the start. Each crate that owns tables brings its own, with a history of their own.
//!
//! refinery takes no lock, and two instances that start together would both apply them; so all run
//! under one advisory lock of the database.

use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::{ClientWrapper, Pool};
use futures::{FutureExt, future::BoxFuture};

/// The advisory lock of migrations: "commerce" in ASCII.
const LOCK: i64 = 0x636f_6d6d_6572_6365;
/// How long another instance's migrations are waited for.
const LOCK_WAIT: Duration = Duration::from_mins(2);

/// The migrations of one crate.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The table with their history, such as `messaging_migrations`: one per crate, so that the
    /// crates number theirs independently.
    pub table: &'static str,
    /// What `refinery::embed_migrations!` generates.
    pub runner: fn() -> refinery::Runner,
}

/// Applies what isn't applied yet, in the order given. Safe when several instances start together.
pub fn migrate<'a>(pool: &'a Pool, all: &'a [Migrations]) -> BoxFuture<'a, anyhow::Result<()>> {
    migrate_alone(pool, all).boxed()
}

async fn migrate_alone(pool: &Pool, all: &[Migrations]) -> anyhow::Result<()> {
    let mut client = pool.get().await.context("connecting to migrate")?;
    let wait = LOCK_WAIT.as_millis();
    let lock = format!("SET statement_timeout = 0; SET lock_timeout = {wait}; SELECT pg_advisory_lock({LOCK})");
    client.batch_execute(&lock).await.context("waiting for another instance's migrations")?;
    let outcome = apply(&mut client, all).await;
    let unlock = format!("SELECT pg_advisory_unlock({LOCK}); RESET statement_timeout; RESET lock_timeout");
    // A connection that is lost has lost its lock, too; what failed before is the news.
    let unlocked = client.batch_execute(&unlock).await;
    outcome?;
    unlocked.context("giving back the lock of the migrations")
}

async fn apply(client: &mut ClientWrapper, all: &[Migrations]) -> anyhow::Result<()> {
    for migrations in all {
        let mut runner = (migrations.runner)();
        runner.set_migration_table_name(migrations.table);
        let report = runner
            .run_async(&mut **client)
            .await
            .with_context(|| format!("applying the migrations of {}", migrations.table))?;
        for applied in report.applied_migrations() {
            tracing::info!(history = migrations.table, migration = %applied, "migrated");
        }
    }
    Ok(())
}
