//! Claiming: the lowest rows that aren't in flight; in the same question, the acknowledged ones go.

use std::{collections::HashSet, time::SystemTime};

use deadpool_postgres::Client;

use super::barred::Lane;

/// The most rows one question brings.
pub(super) const MAX_CLAIM_ROWS: usize = 1_000;
/// One question brings no further row once it has brought so many bytes of payload; a thousand usual rows
/// have less than a quarter of that.
pub(super) const MAX_CLAIM_BYTES: usize = 4 * 1024 * 1024;

/// How much one question may bring, or how much is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) rows: usize,
    /// Of payload. The row that fills it up may be larger than what was left.
    pub(super) bytes: usize,
}

impl Room {
    /// For nothing at all.
    pub(super) const NONE: Self = Self { rows: 0, bytes: 0 };

    /// One row more, of so many bytes.
    pub(super) const fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// Less than the limit, of both.
    pub(super) const fn is_within(self, limit: Self) -> bool {
        self.rows < limit.rows && self.bytes < limit.bytes
    }

    /// What is left.
    pub(super) const fn without(self, taken: Self) -> Self {
        Self { rows: self.rows.saturating_sub(taken.rows), bytes: self.bytes.saturating_sub(taken.bytes) }
    }

    pub(super) fn at_most(self, most: Self) -> Self {
        Self { rows: self.rows.min(most.rows), bytes: self.bytes.min(most.bytes) }
    }
}

/// A row on its way.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    /// All of them, of a record that is sent on. `None`: an event of our own, which gets what events have.
    pub(super) headers: Option<Vec<(String, Vec<u8>)>>,
    pub(super) traceparent: Option<String>,
    pub(super) parent_span: Option<String>,
    pub(super) compacted: bool,
    pub(super) written_at: SystemTime,
}

/// Losing a delete in a crash only sends rows again.
pub(super) const SESSION: &str = "SET synchronous_commit = off; SET plan_cache_mode = force_custom_plan";

const DELETE_AND_CLAIM: &str = "
    WITH acknowledged AS (DELETE FROM outbox WHERE id = ANY($1))
    SELECT id, topic, key, payload, header_names, header_values, traceparent, parent_span, compacted, written_at
    FROM (SELECT id, topic, key, payload, header_names, header_values, traceparent, parent_span, compacted, written_at,
                 coalesce(sum(octet_length(payload))
                     OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
          FROM outbox
          WHERE id <> ALL($2) AND topic <> ALL($5)
            AND NOT EXISTS (SELECT FROM unnest($6::text[], $7::bytea[]) AS waiting (topic, key)
                            WHERE waiting.topic = outbox.topic AND waiting.key = outbox.key)
          ORDER BY id LIMIT $3) AS lowest
    WHERE bytes_before < $4 ORDER BY id";

const LOWEST_OF_LANE: &str = "
    SELECT id, topic, key, payload, header_names, header_values, traceparent, parent_span, compacted, written_at
    FROM outbox
    WHERE topic = $1 AND ($3::bytea IS NULL OR key = $3) AND (key IS NULL OR key <> ALL($4)) AND id <> ALL($2)
    ORDER BY id LIMIT 1";

/// Deletes `acknowledged`, and claims rows that are neither among them nor in flight, nor in one of the lanes `waiting`.
pub(super) async fn delete_and_claim<'l>(
    client: &Client,
    acknowledged: &[i64],
    in_flight: &HashSet<i64>,
    room: Room,
    waiting: impl IntoIterator<Item = &'l Lane>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let (mut topics, mut keyed, mut keys) = (Vec::<&str>::new(), Vec::<&str>::new(), Vec::<&[u8]>::new());
    for lane in waiting {
        match &lane.key {
            None => topics.push(&lane.topic),
            Some(key) => {
                keyed.push(&lane.topic);
                keys.push(key);
            }
        }
    }
    let taken: Vec<i64> = in_flight.iter().chain(acknowledged).copied().collect();
    let at_most = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let statement = client.prepare_cached(DELETE_AND_CLAIM).await?;
    let (rows, bytes) = (at_most(room.rows), at_most(room.bytes));
    let rows = client.query(&statement, &[&acknowledged, &taken, &rows, &bytes, &topics, &keyed, &keys]).await?;
    Ok(rows.into_iter().map(|row| read(&row)).collect())
}

/// Claims the lowest row of a lane that isn't in flight, nor of one of the keys `apart`.
pub(super) async fn claim_lowest(
    client: &Client,
    lane: &Lane,
    in_flight: &HashSet<i64>,
    apart: &[&[u8]],
) -> Result<Option<Row>, tokio_postgres::Error> {
    let taken: Vec<i64> = in_flight.iter().copied().collect();
    let statement = client.prepare_cached(LOWEST_OF_LANE).await?;
    Ok(client.query_opt(&statement, &[&lane.topic, &taken, &lane.key, &apart]).await?.map(|row| read(&row)))
}

fn read(row: &tokio_postgres::Row) -> Row {
    let names: Option<Vec<String>> = row.get(4);
    let values: Option<Vec<Vec<u8>>> = row.get(5);
    Row {
        id: row.get(0),
        topic: row.get(1),
        key: row.get(2),
        payload: row.get(3),
        headers: names.zip(values).map(|(names, values)| names.into_iter().zip(values).collect()),
        traceparent: row.get(6),
        parent_span: row.get(7),
        compacted: row.get(8),
        written_at: row.get(9),
    }
}
