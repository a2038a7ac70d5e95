//! A database that is away: it refuses connections, and those it had are cut.

use test_support::Database;
use tokio_postgres::{Client, NoTls};

/// Lasts until [`Outage::end`].
pub(crate) struct Outage {
    server: Client,
    database: String,
}

impl Outage {
    pub(crate) async fn of(database: &Database) -> Self {
        let (server, name) = database.url.rsplit_once('/').expect("an URL ends with the database's name");
        let (client, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls)
            .await
            .expect("the server is there, only the test's database will not be");
        tokio::spawn(connection);
        let outage = Self { server: client, database: name.to_owned() };
        outage.execute("ALTER DATABASE", "ALLOW_CONNECTIONS false").await;
        outage.cut().await;
        outage
    }

    /// Cuts the connections there are.
    async fn cut(&self) {
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
        self.server.query(sql, &[&self.database]).await.expect("connections can be cut");
    }

    pub(crate) async fn end(self) {
        self.execute("ALTER DATABASE", "ALLOW_CONNECTIONS true").await;
    }

    async fn execute(&self, what: &str, how: &str) {
        let sql = format!("{what} {} {how}", self.database);
        self.server.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
