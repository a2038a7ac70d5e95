//! `POST /api/sagas/{key}/resume`: sets a saga going again from where it stopped.

use actix_web::{
    HttpResponse, post,
    web::{Data, Path},
};
use common_events::{EventId, Service, TraceId};
use messaging::{
    Record, Tx,
    admin::{Act, Action, Justification},
    resume::ask_for_answers,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_runtime::{
    Operator, Problem,
    http::{Json, RequestTrace},
};
use utoipa::ToSchema;

use super::{
    AFTER_SILENCE, Desk,
    get_saga::{Found, SagaConflict, find_one, several},
    kafka_unavailable,
};
use crate::{
    domain::{Cause, Owed, Saga},
    resume::{self, Asked, Refusal},
    store::{
        log::{self, Lying},
        sagas::Whole,
    },
};

/// Why, in the operator's words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Resume {
    #[schema(value_type = Justification, inline)]
    reason: String,
}

/// What was asked again, of whom.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resumed {
    saga_id: String,
    asked: Vec<Asked>,
}

/// Sets a saga going again: whoever owes an answer is asked for it again. Asking twice does no harm.
#[utoipa::path(
    tag = "sagas",
    params(("key" = String, Path, description = "An order's id, the id of a request's event, or a trace id")),
    security(("identity" = ["operator"])),
    request_body = Resume,
    responses(
        (status = 202, body = Resumed),
        (status = 409, description = "It can't help: `nothing-owed`; `event-unread`, `event-waiting`, \
            `event-in-ladder`: the group gets there by itself; `event-dead`, `event-discarded`, `event-lost`: somebody \
            has to act; `several-sagas`: the trace has several", body = SagaConflict),
        (status = 503, description = "It can't be found out: `group-unavailable`, `kafka-unavailable`"),
    ),
)]
#[post("/api/sagas/{key}/resume")]
pub(super) async fn resume_saga(
    Operator(caller): Operator,
    key: Path<String>,
    Json(Resume { reason }): Json<Resume>,
    trace: RequestTrace,
    desk: Data<Desk>,
) -> Result<HttpResponse, Problem> {
    let reason = Justification::said(Some(&reason))?;
    match find_one(&desk, &key).await? {
        Found::One(whole) => {
            let (who, trace) = (caller.user_id.as_str(), trace.0.trace_id);
            Ok(HttpResponse::Accepted().json(resume_one(&desk, *whole, (who, trace), &reason).await?))
        }
        Found::Several(candidates) => Ok(several(candidates)),
    }
}

/// Has a saga resumed, by this caller, in this trace and for a reason that was [checked](Justification::said); a refusal is written
/// down, too.
pub(crate) async fn resume_one(
    desk: &Desk,
    whole: Whole,
    (who, trace): (&str, TraceId),
    reason: &str,
) -> Result<Resumed, Problem> {
    let saga = Saga::from_json(whole.listed.flow, &whole.facts).map_err(Problem::internal)?;
    let owed = saga.standing().map(|standing| standing.owed).unwrap_or_default();
    let cluster = desk.look().await.ok_or_else(kafka_unavailable)?;
    let act = Act {
        who: who.to_owned(),
        action: Action::Resume,
        subject: json!({"saga": whole.listed.saga}),
        reason: Some(reason.to_owned()),
        trace: Some(trace),
    };
    match resume::plan(&desk.services, &cluster, &owed).await {
        Ok(questions) => {
            let asked = ask(desk, &act, &owed, questions).await?;
            Ok(Resumed { saga_id: whole.listed.saga, asked })
        }
        Err(refusal) => {
            let refused = problem(refusal);
            act.refused(&desk.pool, &refused).await?;
            Err(refused)
        }
    }
}

/// Questions and the note of who asked them are committed together.
async fn ask(desk: &Desk, act: &Act, owed: &[Owed], questions: Vec<(Service, Cause)>) -> Result<Vec<Asked>, Problem> {
    let mut client = desk.pool.get().await?;
    let ids: Vec<EventId> = questions.iter().map(|(_, cause)| cause.id).collect();
    let lying = log::list_lying(&client, &ids).await?;
    let tx = Tx::begin(&mut client).await?;
    let mut asked = Vec::with_capacity(questions.len());
    for (group, cause) in &questions {
        let lies_there = |lying: &&Lying| lying.topic == cause.event.name() && lying.place == cause.place;
        let Some(lying) = lying.iter().find(lies_there) else { continue };
        ask_for_answers(&tx, *group, &record(lying)).await?;
        let answer = owed.iter().find(|owed| owed.from == *group && owed.causes.contains(cause));
        asked.push(Asked {
            event_id: cause.id,
            event_type: cause.event.name().to_owned(),
            group: group.name().to_owned(),
            owes: answer.map_or_else(String::new, |owed| owed.event.name().to_owned()),
        });
    }
    act.done(&tx, json!({"asked": asked})).await?;
    tx.commit().await?;
    Ok(asked)
}

/// As it lay on its topic.
fn record(lying: &Lying) -> Record {
    Record {
        topic: lying.topic.clone(),
        partition: lying.place.partition,
        offset: lying.place.offset,
        timestamp: None,
        key: lying.key.clone(),
        value: lying.payload.clone(),
        headers: Vec::new(),
    }
}

fn problem(refusal: Refusal) -> Problem {
    let (code, detail) = (refusal.code(), refusal.to_string());
    match refusal {
        Refusal::NothingOwed | Refusal::Lost(_) | Refusal::NotYet { .. } => Problem::conflict(code, detail),
        Refusal::Unknown { source, .. } => {
            tracing::warn!(error = %source, "a resume can't be decided");
            Problem::unavailable(code, detail, AFTER_SILENCE)
        }
    }
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<Resume>("/properties/reason/maxLength", Justification::MAX_CHARS);
    }
}
