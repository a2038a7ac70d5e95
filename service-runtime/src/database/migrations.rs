//! Migrations at the start. Each crate that owns tables brings its own, with a history of their own.
//!
//! refinery takes no lock, and two instances that start together would both apply them; so all run
//! under one advisory lock of the database.
//!
//! Old and new releases work side by side on one schema (docs/decisions/0020): a database that a newer
//! release has migrated is taken as it is, and no migration holds up those who work for long.

use std::{error::Error, time::Duration};

use anyhow::{Context, bail, ensure};
use deadpool_postgres::{ClientWrapper, Pool};
use futures::{FutureExt, future::BoxFuture};
use refinery::{Migration, Runner};
use tokio::time::{Instant, sleep};

/// The advisory lock of migrations: "commerce" in ASCII.
const LOCK: i64 = 0x636f_6d6d_6572_6365;

/// The migrations of one crate.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The table with their history, such as `messaging_migrations`: one per crate, so that the
    /// crates number theirs independently.
    pub table: &'static str,
    /// What `refinery::embed_migrations!` generates.
    pub runner: fn() -> Runner,
}

/// How migrations wait for others.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For another instance's migrations.
    for_others: Duration,
    /// How often they are looked for. A statement that waits for them would hold up whoever builds an index
    /// concurrently.
    look_every: Duration,
    /// For a table that somebody holds. As long as the migration waits, whoever comes later waits behind it.
    for_a_table: Duration,
    /// Until a table is asked for again: those who came later go first.
    pause: Duration,
    /// For tables altogether.
    for_tables: Duration,
}

/// Less for tables than for others, so that of two instances the second doesn't give up first.
const PATIENCE: Patience = Patience {
    for_others: Duration::from_mins(2),
    look_every: Duration::from_millis(100),
    for_a_table: Duration::from_secs(3),
    pause: Duration::from_secs(2),
    for_tables: Duration::from_secs(90),
};

/// Applies what isn't applied yet, in the order given. Safe when several instances start together.
pub fn migrate<'a>(pool: &'a Pool, all: &'a [Migrations]) -> BoxFuture<'a, anyhow::Result<()>> {
    migrate_with(pool, all, PATIENCE).boxed()
}

async fn migrate_with(pool: &Pool, all: &[Migrations], patience: Patience) -> anyhow::Result<()> {
    let mut client = pool.get().await.context("connecting to migrate")?;
    let limits = format!("SET statement_timeout = 0; SET lock_timeout = {}", patience.for_a_table.as_millis());
    client.batch_execute(&limits).await.context("preparing to migrate")?;
    wait_for_others(&client, patience).await?;
    let outcome = apply_all(&mut client, all, patience).await;
    let unlock = format!("SELECT pg_advisory_unlock({LOCK}); RESET statement_timeout; RESET lock_timeout");
    // A connection that is lost has lost its lock, too; what failed before is the news.
    let unlocked = client.batch_execute(&unlock).await;
    outcome?;
    unlocked.context("giving back the lock of the migrations")
}

async fn wait_for_others(client: &ClientWrapper, patience: Patience) -> anyhow::Result<()> {
    let until = Instant::now() + patience.for_others;
    let lock = format!("SELECT pg_try_advisory_lock({LOCK})");
    while !client.query_one(&lock, &[]).await.context("asking for the lock of the migrations")?.get::<_, bool>(0) {
        ensure!(Instant::now() < until, "another instance migrates for longer than {:?}", patience.for_others);
        sleep(patience.look_every).await;
    }
    Ok(())
}

async fn apply_all(client: &mut ClientWrapper, all: &[Migrations], patience: Patience) -> anyhow::Result<()> {
    let until = Instant::now() + patience.for_tables;
    for migrations in all {
        let mut runner = (migrations.runner)();
        runner.set_migration_table_name(migrations.table);
        if is_newer_than(&runner, client, migrations.table).await? {
            tracing::warn!(history = migrations.table, "a newer release has migrated the database");
            continue;
        }
        apply(&runner, client, migrations.table, until, patience.pause).await?;
    }
    Ok(())
}

/// Whether the database is past the migrations known here. It has to hold all of them then, as they are here:
/// what was applied under the same number is the same, and none is left out.
async fn is_newer_than(runner: &Runner, client: &mut ClientWrapper, table: &str) -> anyhow::Result<bool> {
    let has_history = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await;
    if !has_history.context("looking for the history of the migrations")?.get::<_, bool>(0) {
        return Ok(false);
    }
    let applied = runner.get_applied_migrations_async(&mut **client).await;
    let applied = applied.with_context(|| format!("reading {table}"))?;
    let latest = |migrations: &[Migration]| migrations.iter().map(Migration::version).max();
    let known = runner.get_migrations();
    if latest(&applied) <= latest(known) {
        return Ok(false);
    }
    match known.iter().find(|known| !applied.contains(known)) {
        Some(missing) => {
            bail!("{table}: a newer release has migrated the database, but not by {missing} as it is here")
        }
        None => Ok(true),
    }
}

/// Each migration is a transaction of its own: one that found its table held is tried again, those before it stay.
async fn apply(
    runner: &Runner,
    client: &mut ClientWrapper,
    table: &'static str,
    until: Instant,
    pause: Duration,
) -> anyhow::Result<()> {
    loop {
        let outcome = runner.run_async(&mut **client).await;
        let report = outcome.as_ref().map_or_else(refinery::Error::report, Some);
        for applied in report.iter().flat_map(|report| report.applied_migrations()) {
            tracing::info!(history = table, migration = %applied, "migrated");
        }
        match outcome {
            Ok(_) => return Ok(()),
            Err(error) if is_table_held(&error) && Instant::now() + pause < until => {
                let error = crate::chain(&error);
                tracing::warn!(history = table, error, "a table is in use; its migration is tried again");
                sleep(pause).await;
            }
            Err(error) => return Err(error).with_context(|| format!("applying the migrations of {table}")),
        }
    }
}

fn is_table_held(error: &refinery::Error) -> bool {
    error.source().and_then(<dyn Error>::downcast_ref).is_some_and(super::is_lock_wait)
}

#[cfg(test)]
mod tests;
