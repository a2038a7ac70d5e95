//! `/sagas/{key}`: one saga. What holds it up and what helps first, then the picture of its flow, then every step.

mod diagnosis;

use actix_web::{
    HttpResponse,
    web::{Form, Path, Query},
};
use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};
use messaging::admin::Justification;
use serde::Deserialize;
use service_runtime::{Problem, http::RequestTrace};

use self::diagnosis::{Diagnosis, Helps, diagnose};
use super::{
    Frame, MENU, Visitor, guard, ok,
    picture::{Picture, Shown},
    see,
    show::{self, Badge, Span, indented, saga_path},
};
use crate::{
    alarm::CauseClass,
    domain::{Saga, StepStatus},
    http::{
        get_saga::{Found, PairView, SagaDetail, find_one, look_at},
        resume_saga::resume_one,
        view::{SagaView, StepView},
    },
    store::sagas::Whole,
};

#[derive(Template)]
#[template(path = "one_saga.html")]
struct OneSaga {
    frame: Frame,
    detail: SagaDetail,
    picture: Option<Picture>,
    steps: Vec<ShownStep>,
    diagnosis: Option<Diagnosis>,
    /// What came of the last action.
    done: bool,
    trouble: Option<String>,
    reason: String,
    path: String,
}

/// A step, with the time since the one before it.
struct ShownStep {
    step: StepView,
    gap: TimeDelta,
    since_start: TimeDelta,
    payload: Option<String>,
}

impl ShownStep {
    fn class(&self) -> &'static str {
        match (self.step.status, self.step.compensates) {
            (StepStatus::Dead, _) => "bad",
            (StepStatus::Failed | StepStatus::Retrying | StepStatus::Parked, _) => "warn",
            (StepStatus::Success, Some(_)) => "back",
            (StepStatus::Success, None) => "good",
        }
    }

    /// Long enough to be noticed: the picture of time shows it.
    fn is_long(&self) -> bool {
        self.gap >= TimeDelta::seconds(1)
    }

    fn place(&self) -> String {
        format!("{}/{}@{}", self.step.topic, self.step.partition, self.step.offset)
    }
}

/// In the order of time; a clock that goes back is no time.
fn shown_steps(steps: Vec<StepView>, started_at: DateTime<Utc>) -> Vec<ShownStep> {
    let mut before = started_at;
    let shown = |step: StepView| {
        let gap = (step.at - before).max(TimeDelta::zero());
        before = step.at;
        let payload = step.payload.as_ref().map(|payload| indented(payload.get()));
        ShownStep { gap, since_start: (step.at - started_at).max(TimeDelta::zero()), payload, step }
    };
    steps.into_iter().map(shown).collect()
}

#[derive(Template)]
#[template(path = "several_sagas.html")]
struct SeveralSagas {
    frame: Frame,
    key: String,
    sagas: Vec<SagaView>,
}

/// What an action left for the page that shows it.
#[derive(Default)]
struct Outcome {
    done: bool,
    trouble: Option<String>,
    reason: String,
}

#[derive(Deserialize)]
pub(super) struct Came {
    done: Option<String>,
}

pub(super) async fn one(visitor: Visitor, key: Path<String>, came: Query<Came>) -> Result<HttpResponse, Problem> {
    match find_one(&visitor.desk, &key).await? {
        Found::One(whole) => {
            let outcome = Outcome { done: came.done.is_some(), ..Outcome::default() };
            ok(&page(&visitor, *whole, outcome).await?)
        }
        Found::Several(sagas) => {
            ok(&SeveralSagas { frame: Frame::of(&visitor, "sagas"), key: key.to_ascii_lowercase(), sagas })
        }
    }
}

pub(super) async fn see_it(_: Visitor, key: Path<String>) -> HttpResponse {
    see(&saga_path(&key))
}

#[derive(Deserialize)]
pub(super) struct Resume {
    reason: String,
}

/// Asks for the answer again; a refusal is shown where it was asked for.
pub(super) async fn resume(
    visitor: Visitor,
    key: Path<String>,
    trace: RequestTrace,
    asked: Form<Resume>,
) -> Result<HttpResponse, Problem> {
    let Found::One(whole) = find_one(&visitor.desk, &key).await? else {
        return Err(Problem::conflict("several-sagas", "Several sagas belong to this trace: open one of them."));
    };
    let path = saga_path(&whole.listed.key);
    let resumed = match Justification::said(Some(&asked.reason)) {
        Ok(reason) => {
            resume_one(&visitor.desk, *whole.clone(), (visitor.name(), trace.0.trace_id), &reason).await.map(drop)
        }
        Err(problem) => Err(problem),
    };
    match resumed {
        Ok(()) => Ok(see(&format!("{path}?done=resumed"))),
        Err(problem) => {
            let outcome = Outcome {
                done: false,
                trouble: Some(problem.body().detail.to_string()),
                reason: asked.into_inner().reason,
            };
            Ok(guard::answer(&problem, page(&visitor, *whole, outcome).await?.render()))
        }
    }
}

async fn page(visitor: &Visitor, whole: Whole, outcome: Outcome) -> Result<OneSaga, Problem> {
    let saga = Saga::from_json(whole.listed.flow, &whole.facts).map_err(Problem::internal)?;
    let path = saga_path(&whole.listed.key);
    let detail = look_at(&visitor.desk, whole).await?;
    let standing = saga.standing();
    let diagnosis = match &standing {
        Some(standing) if standing.state.is_open() => Some(diagnose(&visitor.desk, &detail, standing).await?),
        Some(_) | None => None,
    };
    let owed_for = diagnosis.as_ref().map(Diagnosis::owed_for).unwrap_or_default();
    let picture = standing.as_ref().map(|standing| {
        Picture::of(&Shown { saga: &saga, standing, is_stuck: detail.saga.stuck, owed_for: &owed_for })
    });
    let mut detail = detail;
    let steps = shown_steps(std::mem::take(&mut detail.steps), detail.saga.started_at);
    Ok(OneSaga {
        frame: Frame::of(visitor, "sagas"),
        picture,
        steps,
        diagnosis,
        done: outcome.done,
        trouble: outcome.trouble,
        reason: outcome.reason,
        path,
        detail,
    })
}

impl OneSaga {
    fn flow_name(&self) -> &'static str {
        match self.detail.saga.flow {
            crate::flows::Flow::Order => "Order",
            crate::flows::Flow::CouponIssue => "Coupon request",
        }
    }

    fn took(&self) -> Span {
        Span((self.detail.saga.last_progress_at - self.detail.saga.started_at).max(TimeDelta::zero()))
    }

    fn undone(pair: &PairView) -> Badge {
        use super::show::Tone;
        match (pair.done, pair.undone) {
            (true, true) => Badge::new(Tone::Quiet, "undone"),
            (true, false) => Badge::new(Tone::Good, "stands"),
            (false, true) => Badge::new(Tone::Bad, "undone, never done"),
            (false, false) => Badge::new(Tone::Quiet, "not done"),
        }
    }
}
