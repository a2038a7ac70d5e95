//! A database of its own for each test, on the real PostgreSQL, dropped when the test ends. It is a copy of a template
//! that has the migrations, as applying them takes several times as long as copying what they made.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{TimeDelta, Utc};
use common_events::Service;
use futures::{FutureExt, future::BoxFuture};
use service_runtime::{
    database::{self, Migrations, Pool},
    settings::{DatabaseSettings, DatabaseUrl, Env, Setting},
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::eventually;

const DEFAULT_SERVER: &str = "postgres://postgres:postgres@127.0.0.1:15432/postgres";
/// Connections of a test's pool; many tests run side by side on one server.
const POOL_SIZE: usize = 6;
/// Who makes a template holds this advisory lock, in the database that all connect to first.
const TEMPLATES: i64 = 0x7465_6d70;

/// One test's database. Dropping it drops the database.
pub struct Database {
    /// Connections to it.
    pub pool: Pool,
    /// Where it is.
    pub url: String,
    name: String,
}

impl Database {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new database with these migrations applied.
    ///
    /// # Panics
    /// When PostgreSQL doesn't answer, in one line that says where it was looked for.
    pub fn new(migrations: &[Migrations]) -> BoxFuture<'_, Self> {
        // Boxed: an async function is compiled where it is awaited, so in every test.
        Self::made_of(migrations).boxed()
    }

    async fn made_of(migrations: &[Migrations]) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let server = connect_to_server().await;
        let template = template_of(&server, migrations).await;
        execute(&server, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = at_server(&name);
        Self { pool: pool(&url), url, name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.pool.close();
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime of its own, as the test's may be ending.
        let dropping = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(async { execute(&connect_to_server().await, &drop).await });
        });
        let wait = || {
            let _ = dropping.join();
        };
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            // DROP DATABASE waits for connections that are being opened; their tasks must be able to run.
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

/// The name of a database with these migrations, to which nobody can connect; made when it isn't there.
async fn template_of(server: &Client, migrations: &[Migrations]) -> String {
    let name = template_name(migrations);
    if is_there(server, &name).await {
        return name;
    }
    execute(server, &format!("SELECT pg_advisory_lock({TEMPLATES})")).await;
    if !is_there(server, &name).await {
        drop_old_templates(server).await;
        // Whoever died while he made it left it unfinished.
        let unfinished = format!("{name}_unfinished");
        execute(server, &format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await;
        execute(server, &format!("CREATE DATABASE {unfinished}")).await;
        let pool = pool(&at_server(&unfinished));
        database::migrate(&pool, migrations).await.expect("the migrations apply");
        pool.close();
        execute(server, &format!("ALTER DATABASE {unfinished} WITH ALLOW_CONNECTIONS false")).await;
        let rename = format!("ALTER DATABASE {unfinished} RENAME TO {name}");
        eventually("its connections are closed", || async { server.batch_execute(&rename).await.ok() }).await;
    }
    execute(server, &format!("SELECT pg_advisory_unlock({TEMPLATES})")).await;
    name
}

/// The name says which migrations and which day: so what nobody uses any more is known by it.
fn template_name(migrations: &[Migrations]) -> String {
    let mut hasher = DefaultHasher::new();
    for Migrations { table, runner } in migrations {
        table.hash(&mut hasher);
        for migration in runner().get_migrations() {
            migration.checksum().hash(&mut hasher);
        }
    }
    format!("template_{}_{:016x}", Utc::now().format("%Y%m%d"), hasher.finish())
}

async fn is_there(server: &Client, name: &str) -> bool {
    let found = server.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await;
    found.expect("PostgreSQL knows its databases").is_some()
}

/// Drops templates of the days before yesterday; yesterday's may be in use by a test that began before midnight.
async fn drop_old_templates(server: &Client) {
    let yesterday = (Utc::now() - TimeDelta::days(1)).format("template_%Y%m%d").to_string();
    let old = "SELECT datname FROM pg_database WHERE datname LIKE 'template\\_%' AND datname < $1";
    for row in server.query(old, &[&yesterday]).await.expect("PostgreSQL knows its databases") {
        execute(server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", row.get::<_, &str>(0))).await;
    }
}

fn pool(url: &str) -> Pool {
    let parsed = DatabaseUrl::parse(url).expect("a PostgreSQL URL in TEST_POSTGRES_URL");
    let settings = DatabaseSettings::of(parsed, &Env::of([("", ""); 0])).expect("defaults are right");
    database::connect(Service::Order, &settings, POOL_SIZE).expect("a pool for the test's database")
}

fn server() -> String {
    std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| DEFAULT_SERVER.to_owned())
}

fn at_server(database: &str) -> String {
    let server = server();
    let (before, _) = server.rsplit_once('/').expect("TEST_POSTGRES_URL ends with /database");
    format!("{before}/{database}")
}

/// A connection that lives as long as its client.
async fn connect_to_server() -> Client {
    let server = server();
    let (client, connection) = tokio_postgres::connect(&server, NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL doesn't answer at TEST_POSTGRES_URL={server}: {error}"));
    tokio::spawn(connection);
    client
}

async fn execute(server: &Client, sql: &str) {
    server.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
