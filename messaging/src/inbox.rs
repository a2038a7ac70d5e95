//! The inbox: which events this group has seen, and where each stands.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;
use common_events::EventId;
use uuid::Uuid;

use crate::{record::Record, tx::Tx};

/// An event of a batch, and the record it came in.
pub(crate) struct Arrival<'r> {
    pub(crate) day: NaiveDate,
    pub(crate) id: EventId,
    pub(crate) record: &'r Record,
}

/// Notes the events as applied by this transaction. Returns the ids that were not known before.
pub(crate) async fn insert_new(
    tx: &Tx<'_>,
    arrivals: &[Arrival<'_>],
) -> Result<HashSet<EventId>, tokio_postgres::Error> {
    if arrivals.is_empty() {
        return Ok(HashSet::new());
    }
    let days: Vec<NaiveDate> = arrivals.iter().map(|arrival| arrival.day).collect();
    let ids: Vec<Uuid> = arrivals.iter().map(|arrival| arrival.id.uuid()).collect();
    let origins = || arrivals.iter().map(|arrival| arrival.record.origin());
    let topics: Vec<&str> = origins().map(|(topic, _, _)| topic).collect();
    let partitions: Vec<i32> = origins().map(|(_, partition, _)| partition).collect();
    let offsets: Vec<i64> = origins().map(|(_, _, offset)| offset).collect();
    let rows = tx
        .query(
            r#"INSERT INTO inbox (day, event_id, topic, "partition", "offset")
               SELECT * FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[])
                   AS arrival (day, event_id, topic, "partition", "offset")
               ORDER BY event_id
               ON CONFLICT DO NOTHING
               RETURNING event_id"#,
            &[&days, &ids, &topics, &partitions, &offsets],
        )
        .await?;
    Ok(rows.iter().map(|row| EventId::new(row.get(0))).collect())
}

/// The states of known events.
pub(crate) async fn states(
    tx: &Tx<'_>,
    events: &[(NaiveDate, EventId)],
) -> Result<HashMap<EventId, String>, tokio_postgres::Error> {
    let days: Vec<NaiveDate> = events.iter().map(|(day, _)| *day).collect();
    let ids: Vec<Uuid> = events.iter().map(|(_, id)| id.uuid()).collect();
    let rows = tx
        .query(
            "SELECT event_id, state FROM inbox
             JOIN unnest($1::date[], $2::uuid[]) AS asked (day, id) ON event_id = asked.id AND inbox.day = asked.day",
            &[&days, &ids],
        )
        .await?;
    Ok(rows.iter().map(|row| (EventId::new(row.get(0)), row.get(1))).collect())
}

/// Notes that the event ended as a dead letter. Returns false when it had been applied in the meantime.
pub(crate) async fn mark_dead(tx: &Tx<'_>, arrival: &Arrival<'_>) -> Result<bool, tokio_postgres::Error> {
    let (topic, partition, offset) = arrival.record.origin();
    let touched = tx
        .execute(
            r#"INSERT INTO inbox (day, event_id, state, topic, "partition", "offset")
               VALUES ($1, $2, 'dead', $3, $4, $5)
               ON CONFLICT (event_id, day) DO NOTHING"#,
            &[&arrival.day, &arrival.id.uuid(), &topic, &partition, &offset],
        )
        .await?;
    Ok(touched == 1)
}
