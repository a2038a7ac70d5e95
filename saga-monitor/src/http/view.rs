//! Sagas and steps as callers see them.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use common_events::{EventId, Topic, TraceId};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    alarm::CauseClass,
    domain::{State, StepStatus},
    flows::{Flow, Role},
    store::{
        log::Logged,
        sagas::{Listed, SagaPosition},
    },
};

/// The event that a saga waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitingFor {
    /// Its type.
    pub event: String,
    /// Who owes it.
    pub from: String,
}

/// A saga in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Saga)]
pub struct SagaView {
    /// Its type and key in one.
    pub saga_id: String,
    /// What kind of saga it is.
    #[serde(rename = "type")]
    pub flow: Flow,
    /// The order's id, or the id of the request's event.
    pub key: String,
    /// The trace of the request that began it; none when its events name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Where it stands.
    pub state: State,
    /// Whether it hasn't moved for `STUCK_AFTER`, though it should.
    pub stuck: bool,
    /// Whether something in it doesn't match.
    pub mismatched: bool,
    /// What it waits for, and from whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// What holds it up, while it is stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseClass>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When something of it happened last; a retry is something.
    pub last_progress_at: DateTime<Utc>,
    /// What was odd about its records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
}

impl From<Listed> for SagaView {
    fn from(saga: Listed) -> Self {
        Self {
            saga_id: saga.saga,
            flow: saga.flow,
            key: saga.key,
            trace_id: saga.trace,
            state: saga.state,
            stuck: saga.stuck,
            mismatched: !saga.mismatches.is_empty(),
            waiting_for: saga.waiting_for.map(|(event, from)| WaitingFor { event, from }),
            cause: saga.cause,
            started_at: saga.started_at,
            last_progress_at: saga.progress_at,
            marks: saga.marks,
        }
    }
}

impl SagaView {
    pub(crate) fn position(&self) -> SagaPosition {
        SagaPosition(self.started_at, self.saga_id.clone())
    }
}

/// A step: an event, or what a group that failed made of one.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Step)]
pub struct StepView {
    /// What was done, in words.
    pub step: String,
    /// What became of it.
    pub status: StepStatus,
    /// The step that it takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensates: Option<&'static str>,
    /// The event's id; of a retry or dead letter that of the event it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// The event's type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Who told it; of a retry or dead letter, the group that failed.
    pub service: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Where it lies, without the suite's prefix.
    pub topic: String,
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// The record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The trace it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The event as it lies on its topic; as base64 when it is no JSON. None of a retry or dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub payload: Option<Box<RawValue>>,
    /// How large the event is, when that is too much to be shown: above 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<i32>,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// How often it lies on its topic, when more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<usize>,
    /// The saga it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saga_id: Option<String>,
    /// Of a retry: which retry topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Of a retry or dead letter: attempts made so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Of a retry: when it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// Of a retry or dead letter: what kind of failure the last one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// Of a retry or dead letter: what it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

impl From<Logged> for StepView {
    fn from(logged: Logged) -> Self {
        let event: Option<Topic> = logged.topic.parse().ok();
        let (tier, attempt, due_at, error_class, error_message) = match logged.hop {
            Some((_, says)) => (Some(says.tier), Some(says.attempt), says.due_at, says.error_class, says.error_message),
            None => (None, None, None, None, None),
        };
        Self {
            step: logged.step,
            status: logged.status,
            compensates: event.and_then(compensated_by),
            event_id: logged.event_id,
            event_type: logged.event_type,
            service: logged.service,
            at: logged.occurred_at,
            topic: logged.topic,
            partition: logged.place.partition,
            offset: logged.place.offset,
            key: logged.key,
            trace_id: logged.trace,
            payload: logged.payload.map(shown),
            payload_bytes: logged.payload_bytes,
            marks: logged.marks,
            copies: None,
            saga_id: logged.saga,
            tier,
            attempt,
            due_at,
            error_class,
            error_message,
        }
    }
}

fn compensated_by(event: Topic) -> Option<&'static str> {
    let declaration = Flow::of(event)?.declaration();
    match declaration.step(event)?.role {
        Role::Undo(done) => declaration.step(done).map(|step| step.name),
        Role::Forward | Role::Refusal | Role::Success | Role::Failure | Role::Cancel => None,
    }
}

/// As it is when it is JSON, so that nothing of it is lost by parsing.
fn shown(payload: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(payload);
    let json = text
        .map_err(std::string::FromUtf8Error::into_bytes)
        .and_then(|text| RawValue::from_string(text.clone()).map_err(|_| text.into_bytes()));
    json.unwrap_or_else(|bytes| {
        let quoted = format!("\"{}\"", BASE64_STANDARD.encode(bytes));
        RawValue::from_string(quoted).expect("base64 between quotes is JSON")
    })
}
