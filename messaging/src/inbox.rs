//! The inbox: which events this group has seen, and where each stands.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;
use common_events::EventId;
use uuid::Uuid;

use crate::{record::Record, tx::Tx};

/// The day under which an event without a memory stands while it waits, retries or is dead: events of topics
/// that are kept for ever.
pub(crate) const STANDING: NaiveDate = NaiveDate::from_ymd_opt(1, 1, 1).expect("a day");

/// Where an event stands in this group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Handled.
    Applied,
    /// Behind a failed event of its key, in `waiting_events`.
    Waiting,
    /// On its way through a retry topic or the replay topic, as the record of this hop.
    Retrying,
    /// A parked row of `dead_letters`.
    Parked,
    /// A dead row of `dead_letters`.
    Dead,
    /// Closed for good.
    Discarded,
    /// Republished to its own topic: to be handled as if it had never come.
    Unread,
}

impl State {
    const ALL: [Self; 7] =
        [Self::Applied, Self::Waiting, Self::Retrying, Self::Parked, Self::Dead, Self::Discarded, Self::Unread];

    /// As it stands in the table, and in `GET /admin/inbox/{eventId}`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::Unread => "unread",
        }
    }

    /// The state of that name. The table holds no others.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

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
