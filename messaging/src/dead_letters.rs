//! Dead letters: records this group could not handle, kept byte for byte with where they lay and why. Parked
//! ones, which batches still try, are rows of the same table.
//!
//! Each service owns its own. The record on `G.dlt` is the notice of it to others.

use chrono::{DateTime, NaiveDate, Utc};
use common_events::{EventId, envelope};
use deadpool_postgres::Client;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    inbox::Arrival,
    ladder::headers::{self, Trouble},
    record::{Record, storable, without_nul},
    tx::Tx,
};

/// How a dead letter stands (docs/contract.md §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = DeadLetterState)]
pub enum State {
    /// Waits for somebody to look at it.
    Dead,
    /// A batch tries it at `due_at`.
    Parked,
    /// Was sent to be handled again, or came again by itself. It is dead again if that fails.
    Replayed,
    /// Closed for good.
    Discarded,
}

impl State {
    const ALL: [Self; 4] = [Self::Dead, Self::Parked, Self::Replayed, Self::Discarded];
    /// Nobody has decided about these yet.
    pub(crate) const OPEN: [Self; 2] = [Self::Dead, Self::Parked];

    /// The state of that name. The table holds no others.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// As it stands in the table and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dead => "DEAD",
            Self::Parked => "PARKED",
            Self::Replayed => "REPLAYED",
            Self::Discarded => "DISCARDED",
        }
    }
}

/// A record that is set aside.
pub(crate) struct Letter<'l> {
    pub(crate) record: &'l Record,
    /// Its row in the inbox; `None` when it could not be read.
    pub(crate) identity: Option<(NaiveDate, EventId)>,
    pub(crate) state: State,
    pub(crate) trouble: &'l Trouble,
    pub(crate) parked_attempts: u32,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) alarm_due_at: Option<DateTime<Utc>>,
}

/// What is written either way; `$n` as [`write()`] binds them.
macro_rules! insert_letter {
    ($known:literal) => {
        concat!(
            "INSERT INTO dead_letters (
                 id, state, origin_topic, origin_partition, origin_offset, origin_timestamp, key, payload,
                 header_names, header_values, event_id, event_type, event_time, trace_id, key_text,
                 attempts, error_class, error_message, first_failed_at, last_failed_at,
                 day, parked_attempts, due_at, alarm_due_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                     $20, $21, $22, $23, $24)
             ON CONFLICT ",
            $known
        )
    };
}

/// What changes when it is known already.
macro_rules! upsert_letter {
    ($conflict:literal, $where:literal) => {
        concat!(
            insert_letter!(""),
            $conflict,
            " DO UPDATE SET state = EXCLUDED.state, origin_topic = EXCLUDED.origin_topic,
                 origin_partition = EXCLUDED.origin_partition, origin_offset = EXCLUDED.origin_offset,
                 origin_timestamp = EXCLUDED.origin_timestamp, attempts = EXCLUDED.attempts,
                 error_class = EXCLUDED.error_class, error_message = EXCLUDED.error_message,
                 last_failed_at = EXCLUDED.last_failed_at, parked_attempts = EXCLUDED.parked_attempts,
                 due_at = EXCLUDED.due_at, alarm_due_at = EXCLUDED.alarm_due_at, alarm_attempts = 0,
                 closed_at = NULL",
            $where
        )
    };
}

/// The inbox says that the event may be here, so it may.
const UPSERT_EVENT: &str = upsert_letter!("(event_id, day) WHERE day IS NOT NULL", "");
/// Of what could not be read, only this table knows whether it is here: anew only after a replay.
const UPSERT_UNREADABLE: &str = upsert_letter!(
    "(origin_topic, origin_partition, origin_offset) WHERE day IS NULL",
    " WHERE dead_letters.state = 'REPLAYED'"
);
const INSERT_IF_ABSENT: &str = insert_letter!("DO NOTHING");

/// Sets a record aside, or moves it within the table. False when what could not be read lies here already.
pub(crate) async fn upsert(tx: &Tx<'_>, letter: &Letter<'_>) -> Result<bool, tokio_postgres::Error> {
    let sql = if letter.identity.is_some() { UPSERT_EVENT } else { UPSERT_UNREADABLE };
    Ok(write(tx, sql, letter).await? == 1)
}

/// Sets a record aside that isn't here, in whatever state.
pub(crate) async fn insert_if_absent(tx: &Tx<'_>, letter: &Letter<'_>) -> Result<bool, tokio_postgres::Error> {
    Ok(write(tx, INSERT_IF_ABSENT, letter).await? == 1)
}

async fn write(tx: &Tx<'_>, sql: &'static str, letter: &Letter<'_>) -> Result<u64, tokio_postgres::Error> {
    let Letter { record, identity, state, trouble, parked_attempts, due_at, alarm_due_at } = letter;
    let (topic, partition, offset) = record.origin();
    let peeked = envelope::peek(record.value.as_deref().unwrap_or_default());
    let own = headers::headers_to_keep(record);
    let names: Vec<String> = own.iter().map(|(name, _)| without_nul(name)).collect();
    let values: Vec<&[u8]> = own.iter().map(|(_, value)| &**value).collect();
    let key_text =
        record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).filter(|key| !key.contains('\0'));
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    tx.execute(
        sql,
        &[
            &tx.new_id(),
            &state.name(),
            &topic,
            &partition,
            &offset,
            &record.origin_timestamp(),
            &record.key,
            &record.value,
            &names,
            &values,
            &identity.map(|(_, id)| id).or(peeked.id).map(EventId::uuid),
            &peeked.kind.as_deref().map(without_nul),
            &storable(peeked.time),
            &peeked.trace.map(|trace| trace.trace_id.to_string()),
            &key_text,
            &count(trouble.attempts),
            &trouble.class,
            &trouble.message,
            &trouble.first_failed_at,
            &tx.now(),
            &identity.map(|(day, _)| day),
            &count(*parked_attempts),
            due_at,
            alarm_due_at,
        ],
    )
    .await
}

/// Parked events that were handled after all were never dead, but for those that a replay brought back: these
/// are its success.
pub(crate) async fn delete_parked(tx: &Tx<'_>, events: &[(NaiveDate, EventId)]) -> Result<(), tokio_postgres::Error> {
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = events.iter().map(|(day, id)| (*day, id.uuid())).unzip();
    tx.execute(
        "DELETE FROM dead_letters USING unnest($1::date[], $2::uuid[]) AS applied (day, id)
         WHERE event_id = applied.id AND dead_letters.day = applied.day AND state = 'PARKED' AND replay_id IS NULL",
        &[&days, &ids],
    )
    .await?;
    tx.execute(
        "UPDATE dead_letters SET state = 'REPLAYED', due_at = NULL
         FROM unnest($1::date[], $2::uuid[]) AS applied (day, id)
         WHERE event_id = applied.id AND dead_letters.day = applied.day AND state = 'PARKED'",
        &[&days, &ids],
    )
    .await?;
    Ok(())
}

/// What could not be read when it died, and was brought back by a replay, can be read now: its letter is that of
/// its event from here on. If the event has another letter, this one is done with.
pub(crate) async fn adopt(tx: &Tx<'_>, arrivals: &[Arrival<'_>]) -> Result<(), tokio_postgres::Error> {
    let days: Vec<NaiveDate> = arrivals.iter().map(|arrival| arrival.day).collect();
    let ids: Vec<Uuid> = arrivals.iter().map(|arrival| arrival.id.uuid()).collect();
    let origins = || arrivals.iter().map(|arrival| arrival.record.origin());
    let topics: Vec<&str> = origins().map(|(topic, _, _)| topic).collect();
    let (partitions, offsets): (Vec<i32>, Vec<i64>) =
        origins().map(|(_, partition, offset)| (partition, offset)).unzip();
    tx.execute(
        r#"UPDATE dead_letters letter
           SET event_id = now.event_id,
               day = CASE WHEN other.id IS NULL THEN now.day END,
               closed_at = CASE WHEN other.id IS NOT NULL THEN clock_timestamp() END
           FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[])
               AS now (day, event_id, topic, "partition", "offset")
           LEFT JOIN dead_letters other ON other.event_id = now.event_id AND other.day = now.day
           WHERE letter.origin_topic = now.topic AND letter.origin_partition = now."partition"
             AND letter.origin_offset = now."offset"
             AND letter.day IS NULL AND letter.state = 'REPLAYED' AND letter.closed_at IS NULL"#,
        &[&days, &ids, &topics, &partitions, &offsets],
    )
    .await?;
    Ok(())
}

/// Closes what could not be read when it died and was applied since, as its topic was read again by a release that can:
/// the inbox knows the event from the same place. Returns how many.
pub(crate) async fn close_applied(client: &Client) -> Result<u64, tokio_postgres::Error> {
    let sql = r#"
        UPDATE dead_letters letter SET state = 'REPLAYED', closed_at = clock_timestamp(), alarm_due_at = NULL
        FROM inbox
        WHERE letter.state = 'DEAD' AND letter.day IS NULL
          AND inbox.event_id = letter.event_id AND inbox.day = (letter.event_time AT TIME ZONE 'UTC')::date
          AND inbox.state = 'applied' AND inbox.topic = letter.origin_topic
          AND inbox."partition" = letter.origin_partition AND inbox."offset" = letter.origin_offset"#;
    client.execute(&client.prepare_cached(sql).await?, &[]).await
}

/// Whether the event has a letter, in whatever state.
pub(crate) async fn is_known(tx: &Tx<'_>, day: NaiveDate, id: EventId) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT EXISTS (SELECT FROM dead_letters WHERE event_id = $1 AND day = $2)";
    Ok(tx.query_one(sql, &[&id.uuid(), &day]).await?.get(0))
}

/// Forgets the event's row; for one that turned out to stand elsewhere.
pub(crate) async fn delete_event(tx: &Tx<'_>, day: NaiveDate, id: EventId) -> Result<u64, tokio_postgres::Error> {
    tx.execute("DELETE FROM dead_letters WHERE event_id = $1 AND day = $2", &[&id.uuid(), &day]).await
}
