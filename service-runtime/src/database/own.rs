//! A database of a test's own, on the PostgreSQL at `TEST_POSTGRES_URL`, gone when the test is over.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

use std::time::Duration;

use common_events::Service;
use deadpool_postgres::Pool;
use tokio_postgres::NoTls;

use crate::settings::{DatabaseSettings, Env};

const DEFAULT_URL: &str = "postgres://postgres:postgres@127.0.0.1:15432/postgres";

pub(crate) struct OwnDatabase {
    name: String,
    server: tokio_postgres::Config,
    pub(crate) url: String,
    pub(crate) pool: Pool,
}

impl OwnDatabase {
    pub(crate) async fn create() -> Self {
        let server_url = std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned());
        let server: tokio_postgres::Config = server_url.parse().expect("TEST_POSTGRES_URL is a PostgreSQL URL");
        let name = format!("test_runtime_{}", uuid::Uuid::now_v7().simple());
        run(&server, &format!("CREATE DATABASE {name}")).await;
        let (address, _) = server_url.rsplit_once('/').expect("the URL names a database");
        let url = format!("{address}/{name}");
        let env = Env::of([("DATABASE_URL", url.as_str()), ("DATABASE_POOL_WAIT", "2s")]);
        let settings = DatabaseSettings::of(env.required("DATABASE_URL").expect("an URL"), &env).expect("valid");
        let pool = super::connect(Service::Order, &settings, settings.pool_size).expect("a pool");
        Self { name, server, url, pool }
    }

    pub(crate) async fn drop(self) {
        self.pool.close();
        run(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn run(server: &tokio_postgres::Config, statement: &str) {
    let connecting = tokio::time::timeout(Duration::from_secs(5), server.connect(NoTls)).await;
    let (client, connection) = match connecting {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => panic!("no PostgreSQL for the tests (TEST_POSTGRES_URL): {}", crate::chain(&error)),
        Err(late) => panic!("no PostgreSQL for the tests (TEST_POSTGRES_URL): {late}"),
    };
    tokio::spawn(connection);
    client.batch_execute(statement).await.expect("the tests' role may create databases");
}
