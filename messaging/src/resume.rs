//! Asking a group for its answers again (docs/decisions/0009): the event goes to the group's replay topic, marked,
//! through the asker's own outbox. The group decides what comes of it: what it has applied it answers again from what
//! it kept; what it never had is a first delivery; anything else it drops. So asking twice does no harm.

use common_events::{Service, envelope};

use crate::{OwnTopic, Record, Tx, X_ORIGIN_OFFSET, X_ORIGIN_PARTITION, X_ORIGIN_TOPIC, X_RESUME};

/// Asks `group` for its answers to the event that `record` is, byte for byte as it lay on its topic, with this
/// transaction.
///
/// # Errors
/// What the database answers.
pub async fn ask_for_answers(tx: &Tx<'_>, group: Service, record: &Record) -> Result<(), tokio_postgres::Error> {
    let value = record.value.as_deref().unwrap_or_default();
    let trace = envelope::peek(value).trace.map(|trace| trace.to_string());
    let headers = [
        ("content-type", Some(envelope::CONTENT_TYPE.to_owned())),
        (envelope::TRACEPARENT, trace.clone()),
        (X_ORIGIN_TOPIC, Some(record.topic.clone())),
        (X_ORIGIN_PARTITION, Some(record.partition.to_string())),
        (X_ORIGIN_OFFSET, Some(record.offset.to_string())),
        (X_RESUME, Some("true".to_owned())),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?.into_bytes())));
    let (names, values): (Vec<&str>, Vec<Vec<u8>>) = headers.unzip();
    tx.execute(
        "INSERT INTO outbox (topic, key, payload, header_names, header_values, traceparent, compacted)
         VALUES ($1, $2, $3, $4, $5, $6, false)",
        &[&OwnTopic::Replay.name(group), &record.key, &record.value, &names, &values, &trace],
    )
    .await?;
    Ok(())
}
