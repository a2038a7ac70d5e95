//! The inbox: which events this group has seen, and where each stands.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use common_events::EventId;
use deadpool_postgres::Client;
use serde::Serialize;
use service_runtime::museum::{self, Bug};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{record::Record, tx::Tx};

/// The day under which an event without a memory stands while it waits, retries or is dead: events of topics
/// that are kept for ever.
pub(crate) const STANDING: NaiveDate = NaiveDate::from_ymd_opt(1, 1, 1).expect("a day");

/// Where an event stands in this group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EventState)]
pub(crate) enum State {
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
    pub(crate) const fn name(self) -> &'static str {
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

/// What noting a batch found.
pub(crate) struct Inserted {
    /// The ids that were not known before.
    pub(crate) new: HashSet<EventId>,
    /// Whether any key of this group has an event that later ones wait for.
    pub(crate) some_key_waits: bool,
}

/// A batch as columns, in the order of `day, event_id, topic, partition, offset`.
struct Columns<'a> {
    days: Vec<NaiveDate>,
    ids: Vec<Uuid>,
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(arrivals: impl Iterator<Item = &'a Arrival<'a>> + Clone) -> Self {
        let origins = arrivals.clone().map(|arrival| arrival.record.origin());
        Self {
            days: arrivals.clone().map(|arrival| arrival.day).collect(),
            ids: arrivals.map(|arrival| arrival.id.uuid()).collect(),
            topics: origins.clone().map(|(topic, _, _)| topic).collect(),
            partitions: origins.clone().map(|(_, partition, _)| partition).collect(),
            offsets: origins.map(|(_, _, offset)| offset).collect(),
        }
    }
}

/// Notes the events as applied by this transaction. While no key waits, this is all the inbox costs.
pub(crate) async fn insert_new(tx: &Tx<'_>, arrivals: &[Arrival<'_>]) -> Result<Inserted, tokio_postgres::Error> {
    if arrivals.is_empty() {
        return Ok(Inserted { new: HashSet::new(), some_key_waits: false });
    }
    let Columns { days, ids, topics, partitions, offsets } = Columns::of(arrivals.iter());
    let row = tx
        .query_one(
            r#"WITH inserted AS (
                   INSERT INTO inbox (day, event_id, topic, "partition", "offset")
                   SELECT day, event_id, topic, "partition", "offset"
                   FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[])
                       AS arrival (day, event_id, topic, "partition", "offset")
                   ORDER BY event_id
                   ON CONFLICT DO NOTHING
                   RETURNING event_id
               )
               SELECT array(SELECT event_id FROM inserted), EXISTS (SELECT FROM waiting_keys)"#,
            &[&days, &ids, &topics, &partitions, &offsets],
        )
        .await?;
    let new: Vec<Uuid> = row.get(0);
    Ok(Inserted { new: new.into_iter().map(EventId::new).collect(), some_key_waits: row.get(1) })
}

/// Notes the event as dead, if it isn't known.
pub(crate) async fn insert_dead(tx: &Tx<'_>, arrival: &Arrival<'_>) -> Result<bool, tokio_postgres::Error> {
    let (topic, partition, offset) = arrival.record.origin();
    let inserted = tx
        .execute(
            r#"INSERT INTO inbox (day, event_id, state, topic, "partition", "offset")
               VALUES ($1, $2, 'dead', $3, $4, $5) ON CONFLICT DO NOTHING"#,
            &[&arrival.day, &arrival.id.uuid(), &topic, &partition, &offset],
        )
        .await?;
    Ok(inserted == 1)
}

/// Events that were set back to unread are applied by this transaction. Returns which.
pub(crate) async fn apply_unread(
    tx: &Tx<'_>,
    arrivals: &[Arrival<'_>],
) -> Result<HashSet<EventId>, tokio_postgres::Error> {
    let Columns { days, ids, .. } = Columns::of(arrivals.iter());
    let rows = tx
        .query(
            "UPDATE inbox SET state = 'applied', changed_at = now()
             FROM unnest($1::date[], $2::uuid[]) AS came (day, id)
             WHERE event_id = came.id AND inbox.day = came.day AND state = 'unread'
             RETURNING event_id",
            &[&days, &ids],
        )
        .await?;
    Ok(rows.iter().map(|row| EventId::new(row.get(0))).collect())
}

/// Events that stand where their record says, in that state by that hop, are applied by this transaction.
/// Returns which.
pub(crate) async fn apply_hops(
    tx: &Tx<'_>,
    claims: &[(Arrival<'_>, (State, i32))],
) -> Result<HashSet<(NaiveDate, EventId)>, tokio_postgres::Error> {
    let Columns { days, ids, .. } = Columns::of(claims.iter().map(|(arrival, _)| arrival));
    let (states, hops): (Vec<&str>, Vec<i32>) = claims.iter().map(|(_, (state, hop))| (state.name(), *hop)).unzip();
    macro_rules! apply {
        ($is_as_it_came:literal) => {
            concat!(
                "UPDATE inbox SET state = 'applied', tier = NULL, due_at = NULL, changed_at = now()
                 FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[]) AS came (day, id, state, hop)
                 WHERE event_id = came.id AND inbox.day = came.day AND ",
                $is_as_it_came,
                " RETURNING inbox.day, event_id"
            )
        };
    }
    let sql = if museum::is_back(Bug::StaleHop) {
        apply!("true")
    } else {
        apply!("inbox.state = came.state AND inbox.hop = came.hop")
    };
    let rows = tx.query(sql, &[&days, &ids, &states, &hops]).await?;
    Ok(rows.iter().map(|row| (row.get(0), EventId::new(row.get(1)))).collect())
}

/// New events of this transaction wait instead of being applied.
pub(crate) async fn set_waiting(tx: &Tx<'_>, followers: &[Arrival<'_>]) -> Result<(), tokio_postgres::Error> {
    let Columns { days, ids, topics, partitions, offsets } = Columns::of(followers.iter());
    tx.execute(
        r#"INSERT INTO inbox (day, event_id, state, topic, "partition", "offset")
           SELECT day, event_id, 'waiting', topic, "partition", "offset"
           FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[])
               AS arrival (day, event_id, topic, "partition", "offset")
           ON CONFLICT (event_id, day) DO UPDATE SET state = 'waiting', changed_at = now()"#,
        &[&days, &ids, &topics, &partitions, &offsets],
    )
    .await?;
    Ok(())
}

/// Followers whose turn it is are applied by this transaction.
pub(crate) async fn apply_waiting(tx: &Tx<'_>, events: &[(NaiveDate, EventId)]) -> Result<(), tokio_postgres::Error> {
    let (days, ids) = day_and_id(events);
    tx.execute(
        "UPDATE inbox SET state = 'applied', changed_at = now()
         FROM unnest($1::date[], $2::uuid[]) AS turn (day, id)
         WHERE event_id = turn.id AND inbox.day = turn.day AND state = 'waiting'",
        &[&days, &ids],
    )
    .await?;
    Ok(())
}

/// Events without a memory are forgotten once they are applied.
pub(crate) async fn delete_standing(
    tx: &Tx<'_>,
    applied: &[(NaiveDate, EventId)],
) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<Uuid> = applied.iter().filter(|(day, _)| *day == STANDING).map(|(_, id)| id.uuid()).collect();
    if !ids.is_empty() {
        tx.execute("DELETE FROM inbox WHERE day = $1 AND event_id = ANY($2)", &[&STANDING, &ids]).await?;
    }
    Ok(())
}

/// A move to another place, and where the event must stand for it. `from` is `None` for an event that isn't
/// known, or was set back to unread.
pub(crate) struct Move<'m> {
    pub(crate) arrival: Arrival<'m>,
    pub(crate) from: Option<(State, Option<i32>)>,
    pub(crate) to: State,
    pub(crate) tier: Option<&'static str>,
    pub(crate) due_at: Option<DateTime<Utc>>,
}

/// Moves those that stand where they should. Returns the number of their hops.
pub(crate) async fn move_on(tx: &Tx<'_>, moves: &[Move<'_>]) -> Result<HashMap<EventId, i32>, tokio_postgres::Error> {
    let (leaving, entering): (Vec<&Move<'_>>, Vec<&Move<'_>>) = moves.iter().partition(|one| one.from.is_some());
    let mut hops = HashMap::with_capacity(moves.len());
    if !entering.is_empty() {
        hops.extend(enter(tx, &entering).await?);
    }
    if !leaving.is_empty() {
        hops.extend(leave(tx, &leaving).await?);
    }
    Ok(hops)
}

async fn enter(tx: &Tx<'_>, moves: &[&Move<'_>]) -> Result<Vec<(EventId, i32)>, tokio_postgres::Error> {
    let Columns { days, ids, topics, partitions, offsets } = Columns::of(moves.iter().map(|one| &one.arrival));
    let (states, tiers, due) = places(moves);
    let rows = tx
        .query(
            r#"INSERT INTO inbox (day, event_id, topic, "partition", "offset", state, tier, due_at, hop)
               SELECT DISTINCT ON (event_id) day, event_id, topic, "partition", "offset", state, tier, due_at, 1
               FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::bigint[], $6::text[], $7::text[],
                           $8::timestamptz[])
                   AS entering (day, event_id, topic, "partition", "offset", state, tier, due_at)
               ORDER BY event_id
               ON CONFLICT (event_id, day) DO UPDATE
                   SET state = EXCLUDED.state, tier = EXCLUDED.tier, due_at = EXCLUDED.due_at, hop = inbox.hop + 1,
                       changed_at = now()
                   WHERE inbox.state = 'unread'
               RETURNING event_id, hop"#,
            &[&days, &ids, &topics, &partitions, &offsets, &states, &tiers, &due],
        )
        .await?;
    Ok(rows.iter().map(|row| (EventId::new(row.get(0)), row.get(1))).collect())
}

async fn leave(tx: &Tx<'_>, moves: &[&Move<'_>]) -> Result<Vec<(EventId, i32)>, tokio_postgres::Error> {
    let Columns { days, ids, .. } = Columns::of(moves.iter().map(|one| &one.arrival));
    let (states, tiers, due) = places(moves);
    let from_states: Vec<Option<&str>> = moves.iter().map(|one| one.from.map(|(state, _)| state.name())).collect();
    let from_hops: Vec<Option<i32>> = moves.iter().map(|one| one.from.and_then(|(_, hop)| hop)).collect();
    let rows = tx
        .query(
            "UPDATE inbox SET state = leaving.state, tier = leaving.tier, due_at = leaving.due_at,
                              hop = inbox.hop + 1, changed_at = now()
             FROM unnest($1::date[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[], $7::timestamptz[])
                 AS leaving (day, id, from_state, from_hop, state, tier, due_at)
             WHERE event_id = leaving.id AND inbox.day = leaving.day AND inbox.state = leaving.from_state
               AND (leaving.from_hop IS NULL OR inbox.hop = leaving.from_hop)
             RETURNING event_id, inbox.hop",
            &[&days, &ids, &from_states, &from_hops, &states, &tiers, &due],
        )
        .await?;
    Ok(rows.iter().map(|row| (EventId::new(row.get(0)), row.get(1))).collect())
}

type Places = (Vec<&'static str>, Vec<Option<&'static str>>, Vec<Option<DateTime<Utc>>>);

fn places(moves: &[&Move<'_>]) -> Places {
    let states = moves.iter().map(|one| one.to.name()).collect();
    (states, moves.iter().map(|one| one.tier).collect(), moves.iter().map(|one| one.due_at).collect())
}

/// The states of known events.
pub(crate) async fn states(
    tx: &Tx<'_>,
    events: &[(NaiveDate, EventId)],
) -> Result<HashMap<EventId, State>, tokio_postgres::Error> {
    let (days, ids) = day_and_id(events);
    let standings = query_standings(tx.transaction(), &days, &ids).await?;
    Ok(standings.into_iter().map(|(id, (state, _))| (id, state)).collect())
}

/// The states of known events, and by which hop they are there.
pub(crate) async fn find_standings(
    client: &Client,
    arrivals: &[Arrival<'_>],
) -> Result<HashMap<EventId, (State, i32)>, tokio_postgres::Error> {
    let Columns { days, ids, .. } = Columns::of(arrivals.iter());
    query_standings(client, &days, &ids).await
}

async fn query_standings(
    client: &Client,
    days: &[NaiveDate],
    ids: &[Uuid],
) -> Result<HashMap<EventId, (State, i32)>, tokio_postgres::Error> {
    let statement = client
        .prepare_cached(
            "SELECT event_id, state, hop FROM inbox
             JOIN unnest($1::date[], $2::uuid[]) AS asked (day, id) ON event_id = asked.id AND inbox.day = asked.day",
        )
        .await?;
    let rows = client.query(&statement, &[&days, &ids]).await?;
    let state = |row: &Row| State::of(row.get(1)).expect("the table holds no others");
    Ok(rows.iter().map(|row| (EventId::new(row.get(0)), (state(row), row.get(2)))).collect())
}

/// The days under which events stand here or among the dead letters, by their ids alone: for what can't say its day any
/// more.
pub(crate) async fn find_days(
    client: &Client,
    ids: &[EventId],
) -> Result<HashMap<EventId, NaiveDate>, tokio_postgres::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let statement = client
        .prepare_cached(
            "SELECT event_id, day FROM dead_letters WHERE event_id = ANY($1) AND day IS NOT NULL
             UNION ALL
             SELECT event_id, day FROM inbox WHERE event_id = ANY($1)",
        )
        .await?;
    let rows = client.query(&statement, &[&ids]).await?;
    Ok(rows.iter().map(|row| (EventId::new(row.get(0)), row.get(1))).collect())
}

fn day_and_id(events: &[(NaiveDate, EventId)]) -> (Vec<NaiveDate>, Vec<Uuid>) {
    events.iter().map(|(day, id)| (*day, id.uuid())).unzip()
}
