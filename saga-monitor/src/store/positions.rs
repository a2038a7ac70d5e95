//! How far each partition is read, as the log knows it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Client;
use messaging::Tx;
use tokio_postgres::Error;

/// How far one partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// What is read next: everything before it is in the log, or no record.
    pub next_offset: i64,
    /// The latest record time so far; 1970 while there was none.
    pub last_at: DateTime<Utc>,
}

/// By topic, without the suite's prefix, and partition.
pub type Positions = BTreeMap<(String, i32), Position>;

/// Moves positions on; never back.
pub async fn update_positions(tx: &Tx<'_>, positions: &Positions) -> Result<(), Error> {
    let topics: Vec<&str> = positions.keys().map(|(topic, _)| topic.as_str()).collect();
    let partitions: Vec<i32> = positions.keys().map(|(_, partition)| *partition).collect();
    let offsets: Vec<i64> = positions.values().map(|position| position.next_offset).collect();
    let times: Vec<DateTime<Utc>> = positions.values().map(|position| position.last_at).collect();
    tx.execute(
        r#"INSERT INTO read_positions AS known (topic, "partition", next_offset, last_at)
           SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[])
           ON CONFLICT (topic, "partition") DO UPDATE
           SET next_offset = GREATEST(known.next_offset, excluded.next_offset),
               last_at = GREATEST(known.last_at, excluded.last_at)"#,
        &[&topics, &partitions, &offsets, &times],
    )
    .await?;
    Ok(())
}

/// How far everything is read.
pub async fn list_positions(client: &Client) -> Result<Positions, Error> {
    let statement =
        client.prepare_cached(r#"SELECT topic, "partition", next_offset, last_at FROM read_positions"#).await?;
    let rows = client.query(&statement, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        ((row.get(0), row.get(1)), Position { next_offset: row.get(2), last_at: row.get(3) })
    };
    Ok(rows.iter().map(read).collect())
}
