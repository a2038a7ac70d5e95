//! Switching faults on and off, where `FAULT_INJECTION` allows it.

use std::time::{Duration, Instant};

use actix_web::{delete, get, http::StatusCode, put, web::Data};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_runtime::{
    Caller, Operator, Problem,
    http::{Json, RequestTrace},
};
use utoipa::ToSchema;

use super::{
    Office,
    audit::{Act, Action, Asked},
    justification::Justification,
    selection::Text,
};
use crate::{
    faults::{Fault, Kind, Side, Step},
    tx::Tx,
};

const DEFAULT_SECONDS: u32 = 600;
const MAX_SECONDS: u32 = 3_600;
const MAX_TIMES: u32 = 1_000;

/// What happens to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum FaultKind {
    /// Handling it fails, and it climbs the ladder.
    Transient,
    /// It is dead at once.
    Unprocessable,
    /// Its handler panics.
    Panic,
    /// Its transaction loses a race, and is tried again at once.
    Conflict,
    /// Its transaction waits too long for a lock.
    LockWait,
    /// Handling it works, and the process seems dead at a step.
    Death,
}

/// What this process is made to fail at, and with which events; all of what is said must be so.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskedFault {
    kind: FaultKind,
    /// Where the process seems dead: nothing is done after it, and what brought the event comes again. Required with `death`;
    /// optional with the others, which then fail until it dies. `drain` and `replay` are of no event in particular: with
    /// them no topic, key or share is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    /// On which side of the step's COMMIT; default before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Side>,
    /// Only those of this topic, without prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<Text>,
    /// Only those with this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Text>,
    /// Only this share of them, the same events each time; default 1, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    share: Option<f64>,
    /// It ends when so many attempts have failed, each at one event or a batch of them, or with a `step` when the process died so
    /// often: 1 to 1,000, default as often as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000)]
    times: Option<u32>,
    /// It ends by itself after so many seconds: 1 to 3,600, default 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600)]
    for_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, value_type = Justification, inline)]
    reason: Option<String>,
}

impl Asked for AskedFault {
    fn action(&self) -> Action {
        Action::FaultSet
    }

    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What is switched on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FaultView {
    kind: FaultKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    share: f64,
    /// How often it still strikes, if that is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    times_left: Option<u32>,
    /// How long it still lasts.
    seconds_left: u64,
}

/// What is switched on in this process, and whether anything can be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FaultSwitch {
    /// Whether `FAULT_INJECTION` allows faults here.
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultView>,
}

impl AskedFault {
    fn fault(&self) -> Result<Fault, Problem> {
        let share = self.share.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(Problem::invalid_field("share", "A number from 0 to 1 is expected."));
        }
        let seconds = self.for_seconds.unwrap_or(DEFAULT_SECONDS);
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(Problem::invalid_field("forSeconds", format!("1 to {MAX_SECONDS} seconds are expected.")));
        }
        if self.times.is_some_and(|times| !(1..=MAX_TIMES).contains(&times)) {
            return Err(Problem::invalid_field("times", format!("1 to {MAX_TIMES} times are expected.")));
        }
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let text = |text: &Option<Text>| text.clone().map(String::from);
        let (fails, dies, times) = (self.kind.fails(), self.dies()?, self.times);
        Ok(Fault { fails, dies, topic: text(&self.topic), key: text(&self.key), share, times, until })
    }

    /// Whether it is for some events only.
    const fn is_of_some(&self) -> bool {
        self.topic.is_some() || self.key.is_some() || self.share.is_some()
    }

    fn dies(&self) -> Result<Option<(Step, Side)>, Problem> {
        match (self.step, self.side) {
            (None, _) if self.kind == FaultKind::Death => Err(Problem::invalid_field("step", "Say where it dies.")),
            (None, Some(_)) => Err(Problem::invalid_field("side", "A side of which step?")),
            (None, None) => Ok(None),
            (Some(step), _) if step.is_of_no_event() && self.is_of_some() => {
                let field = if self.topic.is_some() {
                    "topic"
                } else if self.key.is_some() {
                    "key"
                } else {
                    "share"
                };
                Err(Problem::invalid_field(field, "That step is of no event in particular."))
            }
            (Some(step), side) => Ok(Some((step, side.unwrap_or(Side::Before)))),
        }
    }
}

impl FaultKind {
    /// What handlers do.
    const fn fails(self) -> Option<Kind> {
        match self {
            Self::Transient => Some(Kind::Transient),
            Self::Unprocessable => Some(Kind::Unprocessable),
            Self::Panic => Some(Kind::Panic),
            Self::Conflict => Some(Kind::Conflict),
            Self::LockWait => Some(Kind::LockWait),
            Self::Death => None,
        }
    }

    const fn of(fault: &Fault) -> Self {
        match fault.fails {
            Some(Kind::Transient) => Self::Transient,
            Some(Kind::Unprocessable) => Self::Unprocessable,
            Some(Kind::Panic) => Self::Panic,
            Some(Kind::Conflict) => Self::Conflict,
            Some(Kind::LockWait) => Self::LockWait,
            None => Self::Death,
        }
    }
}

fn switch(office: &Office) -> FaultSwitch {
    let fault = office.group().faults.get().map(|fault| FaultView {
        kind: FaultKind::of(&fault),
        step: fault.dies.map(|(step, _)| step),
        side: fault.dies.map(|(_, side)| side),
        topic: fault.topic,
        key: fault.key,
        share: fault.share,
        times_left: fault.times,
        seconds_left: fault.until.saturating_duration_since(Instant::now()).as_secs(),
    });
    FaultSwitch { allowed: office.allows_faults(), fault }
}

/// What this process is made to fail at.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    responses((status = 200, body = FaultSwitch)),
)]
#[get("/admin/faults")]
pub(super) async fn find_fault(_: Operator, office: Data<Office>) -> Json<FaultSwitch> {
    Json(switch(&office))
}

/// Makes this process fail to handle some events, or seem dead at a step, in place of what was switched on before.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    request_body = AskedFault,
    responses(
        (status = 200, body = FaultSwitch),
        (status = 403, description = "`fault-injection-off`: `FAULT_INJECTION` isn't on here"),
    ),
)]
#[put("/admin/faults")]
pub(super) async fn set_fault(
    caller: Caller,
    trace: RequestTrace,
    office: Data<Office>,
    asked: Result<Json<AskedFault>, Problem>,
) -> Result<Json<FaultSwitch>, Problem> {
    let does = async |act: &Act, asked: AskedFault| {
        if !office.allows_faults() {
            let detail = "Faults are switched on only where FAULT_INJECTION=true, which is for tests.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "fault-injection-off", detail));
        }
        Justification::said(asked.reason.as_deref())?;
        let fault = asked.fault()?;
        write_down(&office, act).await?;
        office.group().faults.set(Some(fault));
        Ok(Json(switch(&office)))
    };
    office.audited((caller, trace), Action::FaultSet, asked, does).await
}

/// Nothing more is said than that it is to end.
#[derive(Serialize)]
struct AskedEnd {}

impl Asked for AskedEnd {
    fn action(&self) -> Action {
        Action::FaultCleared
    }

    fn reason(&self) -> Option<&str> {
        None
    }
}

/// Lets this process work again.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    responses((status = 200, body = FaultSwitch)),
)]
#[delete("/admin/faults")]
pub(super) async fn clear_fault(
    caller: Caller,
    trace: RequestTrace,
    office: Data<Office>,
) -> Result<Json<FaultSwitch>, Problem> {
    let does = async |act: &Act, _: AskedEnd| {
        write_down(&office, act).await?;
        office.group().faults.set(None);
        Ok(Json(switch(&office)))
    };
    office.audited((caller, trace), Action::FaultCleared, Ok(Json(AskedEnd {})), does).await
}

async fn write_down(office: &Office, act: &Act) -> Result<(), Problem> {
    let mut client = office.pool().get().await?;
    let tx = Tx::begin(&mut client).await?;
    act.done(&tx, json!({})).await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<AskedFault>("/properties/forSeconds/maximum", MAX_SECONDS);
        assert_limit::<AskedFault>("/properties/times/maximum", MAX_TIMES);
        assert_limit::<AskedFault>("/properties/reason/maxLength", Justification::MAX_CHARS);
    }
}
