//! A database of its own for each test, on the real PostgreSQL, dropped when the test ends.

use common_events::Service;
use service_runtime::{
    database::{self, Migrations, Pool},
    settings::{DatabaseSettings, DatabaseUrl, Env, Setting},
};
use tokio_postgres::NoTls;
use uuid::Uuid;

const DEFAULT_SERVER: &str = "postgres://postgres:postgres@127.0.0.1:15432/postgres";
/// Connections of a test's pool; many tests run side by side on one server.
const POOL_SIZE: usize = 6;

/// One test's database. Dropping it drops the database.
pub struct Database {
    /// Connections to it.
    pub pool: Pool,
    /// Where it is.
    pub url: String,
    name: String,
}

impl Database {
    /// A new database with these migrations applied.
    ///
    /// # Panics
    /// When PostgreSQL doesn't answer, in one line that says where it was looked for.
    pub async fn new(migrations: &[Migrations]) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        execute_on_server(&format!("CREATE DATABASE {name}")).await;
        let url = at_server(&name);
        let parsed = DatabaseUrl::parse(&url).expect("a PostgreSQL URL in TEST_POSTGRES_URL");
        let settings = DatabaseSettings::of(parsed, &Env::of([("", ""); 0])).expect("defaults are right");
        let pool = database::connect(Service::Order, &settings, POOL_SIZE).expect("a pool for the test's database");
        database::migrate(&pool, migrations).await.expect("the migrations apply");
        Self { pool, url, name }
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
                .block_on(execute_on_server(&drop));
        });
        let _ = dropping.join();
    }
}

fn server() -> String {
    std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| DEFAULT_SERVER.to_owned())
}

fn at_server(database: &str) -> String {
    let server = server();
    let (before, _) = server.rsplit_once('/').expect("TEST_POSTGRES_URL ends with /database");
    format!("{before}/{database}")
}

async fn execute_on_server(sql: &str) {
    let server = server();
    let (client, connection) = tokio_postgres::connect(&server, NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL doesn't answer at TEST_POSTGRES_URL={server}: {error}"));
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    drop(client);
    let _ = connection.await;
}
