//! `sagas`: where each saga stands.

mod counting;
mod judged;
mod listing;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use messaging::Tx;
use metrics::counter;
use tokio_postgres::Error;
use uuid::Uuid;

pub use counting::{Counts, Slice, count_sagas};
pub use judged::{
    Judged, Mismatched, Suffering, Suspect, is_any_unjudged, list_mismatched, list_suffering, list_suspects,
    mark_mismatched, mark_stuck, update_judged,
};
pub(crate) use listing::Conditions;
pub use listing::{Listed, SagaFilter, SagaPosition, Whole, find_sagas, list_sagas};

use super::log::trace_uuid;
use crate::{
    domain::{Saga, Standing},
    events::told::SagaRef,
};

/// The facts that are kept of sagas, by reference.
pub type Facts = BTreeMap<SagaRef, Saga>;

/// Reads what is kept of these sagas; for one of which nothing is known, an empty one. One that can't be read is left
/// out, so that it holds up no other; the log has what belongs to it. Whoever calls holds the projection's lock.
pub async fn list_facts(tx: &Tx<'_>, refs: impl Iterator<Item = SagaRef>) -> Result<Facts, Error> {
    let mut facts: Facts = refs.map(|saga| (saga.clone(), Saga::new(saga.flow))).collect();
    let names: BTreeMap<String, SagaRef> = facts.keys().map(|saga| (saga.to_string(), saga.clone())).collect();
    let keys: Vec<&str> = names.keys().map(String::as_str).collect();
    let rows = tx.query("SELECT saga, facts FROM sagas WHERE saga = ANY($1)", &[&keys]).await?;
    for row in &rows {
        let Some(saga) = names.get(row.get::<_, &str>(0)) else { continue };
        match Saga::from_json(saga.flow, row.get(1)) {
            Ok(known) => _ = facts.insert(saga.clone(), known),
            Err(error) => {
                counter!("sagas_unreadable_total").increment(1);
                let error = service_runtime::chain(&error);
                tracing::error!(%saga, error, "what is kept of a saga can't be read: rebuild the projection from the log");
                facts.remove(saga);
            }
        }
    }
    Ok(facts)
}

/// Columns of sagas to be written, one array each.
#[derive(Default)]
struct Columns {
    sagas: Vec<String>,
    types: Vec<&'static str>,
    keys: Vec<String>,
    traces: Vec<Option<Uuid>>,
    states: Vec<&'static str>,
    started: Vec<DateTime<Utc>>,
    facts_at: Vec<DateTime<Utc>>,
    hops_at: Vec<Option<DateTime<Utc>>>,
    events: Vec<Option<&'static str>>,
    froms: Vec<Option<&'static str>>,
    doubts: Vec<String>,
    marks: Vec<String>,
    facts: Vec<String>,
}

/// What separates texts that are handed over as one; none of them holds it.
const SEPARATOR: &str = "\u{1f}";

impl Columns {
    fn push(&mut self, saga: &SagaRef, kept: &Saga, standing: &Standing, hop_at: Option<DateTime<Utc>>) {
        let waits_for = standing.owed.first();
        let joined = |texts: Vec<String>| texts.join(SEPARATOR);
        self.sagas.push(saga.to_string());
        self.types.push(saga.flow.name());
        self.keys.push(saga.id().to_owned());
        self.traces.push(standing.trace.map(trace_uuid));
        self.states.push(standing.state.as_str());
        self.started.push(standing.started_at);
        self.facts_at.push(standing.last_progress_at);
        self.hops_at.push(hop_at);
        self.events.push(waits_for.map(|owed| owed.event.name()));
        self.froms.push(waits_for.map(|owed| owed.from.name()));
        self.doubts.push(joined(standing.doubts.iter().map(ToString::to_string).collect()));
        self.marks.push(joined(standing.marks.iter().map(ToString::to_string).collect()));
        self.facts.push(kept.to_json());
    }
}

/// Stores sagas; one that moved is no longer what the detection said of it.
const UPSERT: &str = r"
    INSERT INTO sagas AS known (saga, type, key, trace_id, state, started_at, fact_at, hop_at, waiting_event,
                                waiting_from, doubts, marks, facts)
    SELECT saga, type, key, trace_id, state, started_at, fact_at, hop_at, waiting_event, waiting_from,
           string_to_array(doubts, $14), string_to_array(marks, $14), facts
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
         AS now (saga, type, key, trace_id, state, started_at, fact_at, hop_at, waiting_event, waiting_from, doubts,
                 marks, facts)
    ON CONFLICT (saga) DO UPDATE
    SET key = excluded.key, trace_id = excluded.trace_id, state = excluded.state, started_at = excluded.started_at,
        fact_at = excluded.fact_at, hop_at = GREATEST(known.hop_at, excluded.hop_at),
        waiting_event = excluded.waiting_event, waiting_from = excluded.waiting_from, doubts = excluded.doubts,
        marks = excluded.marks, facts = excluded.facts,
        stuck = known.stuck AND known.state = excluded.state
                AND known.progress_at >= GREATEST(excluded.fact_at, excluded.hop_at),
        mismatches = CASE WHEN excluded.doubts = known.doubts AND known.doubts <> '{}' THEN known.mismatches
                     ELSE '{}' END,
        (cause, cause_class) = (
            SELECT known.cause, known.cause_class
            WHERE known.state = excluded.state AND known.progress_at >= GREATEST(excluded.fact_at, excluded.hop_at))";

/// Stores sagas and what follows from their facts, with the latest hop of those that have one.
pub async fn update_facts(tx: &Tx<'_>, facts: &Facts, hops: &BTreeMap<String, DateTime<Utc>>) -> Result<(), Error> {
    let mut columns = Columns::default();
    for (saga, kept) in facts {
        if let Some(standing) = kept.standing() {
            columns.push(saga, kept, &standing, hops.get(&saga.to_string()).copied());
        }
    }
    tx.execute(
        UPSERT,
        &[
            &columns.sagas,
            &columns.types,
            &columns.keys,
            &columns.traces,
            &columns.states,
            &columns.started,
            &columns.facts_at,
            &columns.hops_at,
            &columns.events,
            &columns.froms,
            &columns.doubts,
            &columns.marks,
            &columns.facts,
            &SEPARATOR,
        ],
    )
    .await?;
    Ok(())
}

/// A retry of one of its events is progress of a saga.
pub async fn update_hop_times(tx: &Tx<'_>, hops: &BTreeMap<String, DateTime<Utc>>) -> Result<(), Error> {
    let sagas: Vec<&str> = hops.keys().map(String::as_str).collect();
    let times: Vec<DateTime<Utc>> = hops.values().copied().collect();
    tx.execute(
        "UPDATE sagas SET hop_at = GREATEST(sagas.hop_at, hop.at), stuck = false, cause = NULL, cause_class = NULL
         FROM unnest($1::text[], $2::timestamptz[]) AS hop (saga, at)
         WHERE sagas.saga = hop.saga AND (sagas.hop_at IS NULL OR sagas.hop_at < hop.at)",
        &[&sagas, &times],
    )
    .await?;
    Ok(())
}

/// Forgets everything that is projected from the log.
pub async fn delete_projection(tx: &Tx<'_>) -> Result<(), Error> {
    tx.execute("DELETE FROM sagas", &[]).await?;
    tx.execute("DELETE FROM hops", &[]).await?;
    Ok(())
}
