//! `GET /api/sagas/{key or traceId}`: one saga, step by step.

use std::{collections::HashMap, time::Duration};

use actix_web::{
    HttpResponse, get,
    web::{Data, Path},
};
use common_events::{EventId, Service};
use serde::Serialize;
use service_runtime::{
    Operator, Problem,
    problem::{CONTENT_TYPE, ProblemBody},
};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{
    Desk,
    view::{SagaView, StepView},
};
use crate::{
    domain::{Owed, Place, Saga, Standing, StepKey, StepStatus},
    flows::{Flow, Role},
    store::{
        log::{self, Logged},
        sagas::{self, Whole},
    },
    whereabouts::{self, Event, GroupState},
};

/// The most steps that are shown: an order of a hundred lines has some four hundred.
const MAX_STEPS: i64 = 1_000;

/// How long a group may take to say whether it has parked an event. Who looks is waiting.
const PARKED_ASKED_AT_MOST: Duration = Duration::from_secs(1);

/// How many sagas of a trace are named in words.
const KEYS_NAMED: usize = 4;

/// A step and what takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Pair)]
pub struct PairView {
    /// The step, in words.
    pub step: &'static str,
    /// The product of its line, where it is a line's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Its event's type.
    pub done_by: &'static str,
    /// The event's type that takes it back.
    pub undone_by: &'static str,
    /// Whether it was done.
    pub done: bool,
    /// Whether it was undone.
    pub undone: bool,
}

/// An event that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Owed)]
pub struct OwedView {
    /// Its type.
    pub event: &'static str,
    /// Who owes it.
    pub from: &'static str,
    /// Of which line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The events it is owed for.
    pub because: Vec<EventId>,
}

/// A saga, step by step.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SagaDetail {
    /// As lists show it.
    #[serde(flatten)]
    pub saga: SagaView,
    /// What doesn't match.
    pub mismatches: Vec<String>,
    /// Everything that is owed; the first is what it waits for.
    pub owed: Vec<OwedView>,
    /// The steps, in the order of time; an undo is a step of its own.
    pub steps: Vec<StepView>,
    /// Each step that can be undone, and whether it was.
    pub pairs: Vec<PairView>,
    /// Its trace in Zipkin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipkin_url: Option<String>,
}

/// One saga, by its key, its id here, or its trace.
#[utoipa::path(
    tag = "sagas",
    security(("identity" = ["operator"])),
    params(("key" = String, Path, description = "An order's id, the id of a request's event, or a trace id")),
    responses(
        (status = 200, body = SagaDetail),
        (status = 409, description = "`several-sagas`: the trace has several", body = SagaConflict),
    ),
)]
#[get("/api/sagas/{key}")]
pub(super) async fn get_saga(_: Operator, key: Path<String>, desk: Data<Desk>) -> Result<HttpResponse, Problem> {
    match find_one(&desk, &key).await? {
        Found::One(whole) => Ok(HttpResponse::Ok().json(look_at(&desk, *whole).await?)),
        Found::Several(candidates) => Ok(several(candidates)),
    }
}

/// Everything that is known of one saga.
pub(crate) async fn look_at(desk: &Desk, whole: Whole) -> Result<SagaDetail, Problem> {
    let saga = Saga::from_json(whole.listed.flow, &whole.facts).map_err(Problem::internal)?;
    let logged = log::list_steps(&desk.pool.get().await?, &whole.listed.saga, MAX_STEPS).await?;
    let standing = saga.standing();
    let owed = standing.as_ref().map(|standing: &Standing| standing.owed.clone()).unwrap_or_default();
    let parked = ask_for_parked(desk, &owed, &logged).await?;
    Ok(SagaDetail {
        mismatches: whole.listed.mismatches.clone(),
        zipkin_url: whole.listed.trace.map(|trace| desk.zipkin_url(trace)),
        owed: owed.iter().map(owed_view).collect(),
        steps: steps(whole.listed.flow, logged, &parked),
        pairs: pairs(&saga),
        saga: whole.listed.into(),
    })
}

/// A saga that was asked for, or which it may be.
pub(crate) enum Found {
    One(Box<Whole>),
    Several(Vec<SagaView>),
}

/// The saga that is known by this; 404 when there is none.
pub(crate) async fn find_one(desk: &Desk, key: &str) -> Result<Found, Problem> {
    let client = desk.pool.get().await?;
    // NUL is no text, and nothing is known by it.
    let known_by = if key.contains('\0') { "" } else { key };
    let mut found = sagas::find_sagas(&client, known_by).await?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Problem::not_found("saga")),
        (Some(one), true) => Ok(Found::One(Box::new(one))),
        (Some(last), false) => {
            let candidates = found.into_iter().chain([last]).map(|whole| SagaView::from(whole.listed));
            Ok(Found::Several(candidates.collect()))
        }
    }
}

/// A problem with a saga; with several, where it isn't known which one is meant.
#[derive(Serialize, ToSchema)]
pub(super) struct SagaConflict {
    #[serde(flatten)]
    #[schema(value_type = Problem)]
    problem: ProblemBody,
    /// The sagas that may be meant; of `several-sagas` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<SagaView>,
}

/// 409: which of them is meant?
pub(super) fn several(candidates: Vec<SagaView>) -> HttpResponse {
    let keys: Vec<&str> = candidates.iter().take(KEYS_NAMED).map(|saga| &*saga.key).collect();
    let detail = format!("Several sagas belong to this trace: ask for one by its key, such as {}.", keys.join(", "));
    let problem = Problem::conflict("several-sagas", detail).body().clone();
    HttpResponse::Conflict().content_type(CONTENT_TYPE).json(SagaConflict { problem, candidates })
}

fn owed_view(owed: &Owed) -> OwedView {
    OwedView {
        event: owed.event.name(),
        from: owed.from.name(),
        line: owed.line.clone(),
        because: owed.causes.iter().map(|cause| cause.id).collect(),
    }
}

/// Parked events lie on no topic: of those that were retried and are still unanswered, the group is asked. One
/// that doesn't answer leaves its steps as they were heard of last.
async fn ask_for_parked(desk: &Desk, owed: &[Owed], logged: &[Logged]) -> Result<Vec<(Service, Place)>, Problem> {
    let (mut parked, mut silent) = (Vec::new(), Vec::new());
    for owed in owed {
        for cause in &owed.causes {
            let was_retried = logged.iter().any(|row| {
                let is_of_it = row.hop.as_ref().is_some_and(|(origin, _)| *origin == cause.place);
                is_of_it && row.event_type.as_deref() == Some(cause.event.name()) && row.service == owed.from.name()
            });
            if !was_retried || silent.contains(&owed.from) {
                continue;
            }
            let event = Event { id: cause.id, lies: None };
            let asking = whereabouts::find(&desk.services, None, owed.from, event, &[]);
            match timeout(PARKED_ASKED_AT_MOST, asking).await {
                Ok(Ok(found)) if found.state == GroupState::Parked => parked.push((owed.from, cause.place)),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => silent.push(owed.from),
            }
        }
    }
    Ok(parked)
}

/// In the order of time; what happened at one moment in the order of the flow. An event that lies on its topic
/// several times is one step.
fn steps(flow: Flow, logged: Vec<Logged>, parked: &[(Service, Place)]) -> Vec<StepView> {
    let declared: HashMap<&str, usize> =
        flow.declaration().steps.iter().enumerate().map(|(index, step)| (step.event.name(), index)).collect();
    let by_place: HashMap<(String, Place), EventId> =
        logged.iter().filter_map(|row| Some(((row.topic.clone(), row.place), row.event_id?))).collect();
    let last_hops = last_hops(&logged);
    let mut rows = logged;
    rows.sort_by_key(|row| (row.occurred_at, declared.get(&*row.topic).copied().unwrap_or(usize::MAX), row.id));
    let mut steps: Vec<StepView> = Vec::with_capacity(rows.len());
    let mut first: HashMap<EventId, usize> = HashMap::new();
    for row in rows {
        if let Some(known) = row.event_id.and_then(|id| first.get(&id)) {
            let copies = &mut steps[*known].copies;
            *copies = Some(copies.unwrap_or(1) + 1);
            continue;
        }
        if let Some(id) = row.event_id {
            first.insert(id, steps.len());
        }
        let hop = row.hop.as_ref().map(|(origin, _)| *origin).zip(row.event_type.clone());
        let is_parked = hop.as_ref().is_some_and(|(origin, _)| {
            last_hops.get(&(row.service.clone(), *origin)) == Some(&row.id)
                && parked.iter().any(|(group, place)| group.name() == row.service && place == origin)
        });
        let mut step = StepView::from(row);
        if let Some((origin, topic)) = hop {
            step.event_id = by_place.get(&(topic, origin)).copied();
        }
        if is_parked {
            step.status = StepStatus::Parked;
        }
        steps.push(step);
    }
    steps
}

/// The last hop of each event in each group.
fn last_hops(logged: &[Logged]) -> HashMap<(String, Place), i64> {
    let mut last: HashMap<(String, Place), (chrono::DateTime<chrono::Utc>, i64)> = HashMap::new();
    for row in logged {
        let Some((origin, _)) = row.hop.as_ref() else { continue };
        let known = last.entry((row.service.clone(), *origin)).or_insert((row.occurred_at, row.id));
        *known = (*known).max((row.occurred_at, row.id));
    }
    last.into_iter().map(|(of, (_, id))| (of, id)).collect()
}

fn pairs(saga: &Saga) -> Vec<PairView> {
    let declaration = saga.flow.declaration();
    let mut pairs = Vec::new();
    for undo in declaration.steps {
        let Role::Undo(done_by) = undo.role else { continue };
        let Some(done) = declaration.step(done_by) else { continue };
        let has = |event, line: &Option<String>| {
            let key = StepKey { event, line: line.clone() };
            saga.facts().any(|(known, _)| *known == key)
        };
        let mut lines: Vec<Option<String>> = saga
            .facts()
            .filter(|(step, _)| step.event == done_by || step.event == undo.event)
            .map(|(step, _)| step.line.clone())
            .collect();
        lines.sort();
        lines.dedup();
        pairs.extend(lines.into_iter().map(|line| PairView {
            step: done.name,
            done_by: done_by.name(),
            undone_by: undo.event.name(),
            done: has(done_by, &line),
            undone: has(undo.event, &line),
            line,
        }));
    }
    pairs
}
