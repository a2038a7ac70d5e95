//! Dead letters: records this group could not handle, kept byte for byte with where they lay and why.
//! Each service owns its own.

use chrono::{DateTime, Datelike, Utc};
use common_events::envelope;
use uuid::Uuid;

use crate::{record::Record, tx::Tx};

/// The longest error message kept, in characters.
const MAX_MESSAGE_CHARS: usize = 1_000;
/// The first year that PostgreSQL's timestamps reach back to; chrono's go further.
const FIRST_YEAR: i32 = -4712;

/// Why a record is set aside.
pub(crate) struct Death {
    pub(crate) class: &'static str,
    pub(crate) message: String,
    pub(crate) attempts: i32,
    pub(crate) first_failed_at: DateTime<Utc>,
}

/// Whether a dead letter is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    /// What lay at that position had been set aside before.
    Before,
}

/// Sets a record aside. Again for the same position: nothing happens.
pub(crate) async fn insert(tx: &Tx<'_>, record: &Record, death: &Death) -> Result<Inserted, tokio_postgres::Error> {
    let (topic, partition, offset) = record.origin();
    let peeked = envelope::peek(record.value.as_deref().unwrap_or_default());
    let names: Vec<String> = record.headers.iter().map(|(name, _)| without_nul(name)).collect();
    let values: Vec<&[u8]> = record.headers.iter().map(|(_, value)| &**value).collect();
    let key_text =
        record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).filter(|key| !key.contains('\0'));
    let message: String = without_nul(&death.message).chars().take(MAX_MESSAGE_CHARS).collect();
    let inserted = tx
        .execute(
            "INSERT INTO dead_letters (
             id, state, origin_topic, origin_partition, origin_offset, origin_timestamp, key, payload,
             header_names, header_values, event_id, event_type, event_time, trace_id, key_text,
             attempts, error_class, error_message, first_failed_at, last_failed_at)
         VALUES ($1, 'DEAD', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
         ON CONFLICT (origin_topic, origin_partition, origin_offset) DO NOTHING",
            &[
                &Uuid::now_v7(),
                &topic,
                &partition,
                &offset,
                &storable(record.timestamp),
                &record.key,
                &record.value,
                &names,
                &values,
                &peeked.id.map(common_events::EventId::uuid),
                &peeked.kind.as_deref().map(without_nul),
                &storable(peeked.time),
                &peeked.trace.map(|trace| trace.trace_id.to_string()),
                &key_text,
                &death.attempts,
                &death.class,
                &message,
                &death.first_failed_at,
                &tx.now(),
            ],
        )
        .await?;
    Ok(if inserted == 1 { Inserted::New } else { Inserted::Before })
}

fn storable(time: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    time.filter(|time| time.year() >= FIRST_YEAR)
}

/// PostgreSQL's text can't hold NUL; a hostile record can.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
