//! A role and a database per service, as the deployment makes them.

use anyhow::Context;
use tokio_postgres::{Client, NoTls};

/// A connection that lives as long as its client.
pub async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("PostgreSQL doesn't answer")?;
    tokio::spawn(connection);
    Ok(client)
}

/// The role `name` and its database, which no other role may enter.
pub(super) async fn create(server: &Client, name: &str) -> anyhow::Result<()> {
    for sql in [
        format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'"),
        format!("CREATE DATABASE {name} OWNER {name}"),
        format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"),
    ] {
        server.batch_execute(&sql).await.with_context(|| sql.clone())?;
    }
    Ok(())
}

pub(super) async fn drop(server: &Client, name: &str) -> anyhow::Result<()> {
    for sql in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("DROP ROLE IF EXISTS {name}")] {
        server.batch_execute(&sql).await.with_context(|| sql.clone())?;
    }
    Ok(())
}
