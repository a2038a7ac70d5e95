//! Against a real PostgreSQL.

use std::time::{Duration, Instant};

use common_events::Service;

use super::{own::OwnDatabase, *};
use crate::{
    Runtime, idempotency,
    settings::{CommonSettings, Env},
};

fn other_runner() -> refinery::Runner {
    let slow = "CREATE TABLE other (id int); SELECT pg_sleep(0.2); INSERT INTO other VALUES (1)";
    refinery::Runner::new(&[refinery::Migration::unapplied("V1__other", slow).expect("a name and SQL")])
}

const OTHER: Migrations = Migrations { table: "other_migrations", runner: other_runner };

async fn count(pool: &Pool, table: &str) -> i64 {
    let client = pool.get().await.expect("connects");
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.expect("counts").get(0)
}

#[tokio::test]
async fn instances_that_start_together_migrate_once() {
    let database = OwnDatabase::create().await;
    let all = [idempotency::MIGRATIONS, OTHER];
    let (one, two, three) =
        tokio::join!(migrate(&database.pool, &all), migrate(&database.pool, &all), migrate(&database.pool, &all));
    one.and(two).and(three).expect("all three start");
    assert_eq!(count(&database.pool, "other").await, 1);
    assert_eq!(count(&database.pool, "other_migrations").await, 1);
    assert_eq!(count(&database.pool, "service_runtime_migrations").await, 1);

    let start = Instant::now();
    migrate(&database.pool, &all).await.expect("nothing is left to do");
    assert!(start.elapsed() < Duration::from_millis(150), "a start with nothing to migrate is quick");
    database.drop().await;
}

#[tokio::test]
async fn a_migrated_connection_goes_back_with_its_timeout() {
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[idempotency::MIGRATIONS]).await.expect("migrates");
    let client = database.pool.get().await.expect("connects");
    let timeout: String = client.query_one("SHOW statement_timeout", &[]).await.expect("shows").get(0);
    assert_eq!(timeout, "30s");
    let timeout: String = client.query_one("SHOW lock_timeout", &[]).await.expect("shows").get(0);
    assert_eq!(timeout, "10s");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn errors_are_told_apart() {
    let database = OwnDatabase::create().await;
    let client = database.pool.get().await.expect("connects");
    let wrong = client.batch_execute("SELECT 1/0").await.expect_err("division by zero");
    assert!(!is_retryable(&wrong) && !is_connection_lost(&wrong));
    for state in ["40001", "40P01"] {
        let error = client.batch_execute(&raise(state)).await.expect_err("raised");
        assert!(is_retryable(&error) && !is_connection_lost(&error), "{state}");
    }
    for state in ["08006", "57P01", "53300"] {
        let error = client.batch_execute(&raise(state)).await.expect_err("raised");
        assert!(!is_retryable(&error) && is_connection_lost(&error), "{state}");
    }

    let victim = database.pool.get().await.expect("connects");
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.expect("has a pid").get(0);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&pid];
    let (killed, ended) = tokio::join!(
        victim.batch_execute("SELECT pg_sleep(30)"),
        client.execute("SELECT pg_terminate_backend($1)", &parameters)
    );
    ended.expect("may end it");
    assert!(is_connection_lost(&killed.expect_err("ended")));
    assert!(is_connection_lost(&victim.batch_execute("SELECT 1").await.expect_err("closed")));
    drop((client, victim));
    database.drop().await;
}

fn raise(state: &str) -> String {
    format!("DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{state}'; END $$")
}

fn runtime(database_url: &str, start_wait: &str) -> Runtime {
    let env = Env::of([("AUTH_MODE", "header"), ("DATABASE_URL", database_url), ("DATABASE_START_WAIT", start_wait)]);
    Runtime::new(Service::Order, env.clone(), CommonSettings::read(Service::Order, &env).expect("valid"))
}

/// A port that nobody listens on.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("postgres://u:p@{}/db", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_start_waits_for_the_database_and_then_fails() {
    let error = runtime(&nowhere(), "300ms").database(&[]).await.expect_err("nobody there");
    assert!(format!("{error:#}").starts_with("connecting to the database: "), "{error:#}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_database() {
    let runtime = runtime(&nowhere(), "1h");
    runtime.shutdown.cancel();
    assert!(runtime.database(&[]).await.is_err());
}

#[tokio::test]
async fn a_database_that_refuses_is_not_waited_for() {
    let database = OwnDatabase::create().await;
    let elsewhere = format!("{}_gone", database.url);
    let error = runtime(&elsewhere, "1h").database(&[]).await.expect_err("there is no such database");
    assert!(format!("{error:#}").contains("does not exist"), "{error:#}");
    database.drop().await;
}

#[tokio::test]
async fn health_asks_the_database() {
    let database = OwnDatabase::create().await;
    let runtime = runtime(&database.url, "1s");
    let _pool = runtime.database(&[idempotency::MIGRATIONS]).await.expect("starts");
    assert!(runtime.health.readiness().await.takes_requests());
    database.drop().await;
    let answer = tokio::time::timeout(Duration::from_secs(10), async {
        while runtime.health.readiness().await.takes_requests() {
            tokio::task::yield_now().await;
        }
    });
    answer.await.expect("the database is gone, and health notices");
}
