//! What a record is to the monitor. Whatever lies on a topic is something, so reading never fails.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{EventId, OrderId, Service, Topic, TraceId, TraceParent, catalogue::Key, envelope};
use messaging::{
    OwnTopic, Record, X_ATTEMPT, X_DUE_AT, X_ERROR_CLASS, X_ERROR_MESSAGE, X_ORIGIN_OFFSET, X_ORIGIN_PARTITION,
    X_ORIGIN_TOPIC,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    OF_FAILURES,
    told::{SagaRef, Told, told},
    watched_groups,
};
use crate::{
    domain::{Fact, Mark, Place, StepKey, StepStatus},
    flows::{Flow, Role},
};

/// How far a clock may be ahead of ours before its time isn't believed.
const AHEAD: TimeDelta = TimeDelta::minutes(5);
/// What reached its topic so long after it happened is late: it waited for somebody.
const LATE: TimeDelta = TimeDelta::seconds(2);
/// The longest type or error that is kept, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// A record, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it lies, without the suite's prefix.
    pub topic: String,
    /// Where it lies.
    pub place: Place,
    /// What it is ordered by.
    pub key: Option<Vec<u8>>,
    /// Its id, when it has one that can be read.
    pub event_id: Option<EventId>,
    /// Its type, or what it says its type is.
    pub event_type: Option<String>,
    /// Who told it; of a failure, the group that failed.
    pub service: Service,
    /// What was done, in words.
    pub step: Cow<'static, str>,
    /// What became of it.
    pub status: StepStatus,
    /// Its trace, when it says so properly.
    pub trace: Option<TraceId>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was written to its topic; when it was read, if its record doesn't say so.
    pub written_at: DateTime<Utc>,
    /// The same, only if its record says so.
    pub timestamp: Option<DateTime<Utc>>,
    /// What is odd about it.
    pub marks: Vec<Mark>,
    /// Byte for byte; nothing of a failure, as its origin has it.
    pub payload: Option<Vec<u8>>,
    /// What it is to the sagas.
    pub meaning: Meaning,
}

/// What a record is to the sagas.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A step of one.
    Step {
        /// Of which.
        saga: SagaRef,
        /// Which step.
        step: StepKey,
        /// What is known by it.
        fact: Fact,
    },
    /// Something that belongs to a saga, or is one of its own, and can't be read.
    Strange {
        /// Which.
        saga: SagaRef,
    },
    /// It belongs to none.
    NoSaga,
    /// A group could not handle an event.
    Hop(Hop),
}

/// An event that a group could not handle, on its way to the next attempt or to nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The group.
    pub group: Service,
    /// Where the event lay first.
    pub origin_topic: String,
    /// Where it lay first.
    pub origin: Place,
    /// What its headers say.
    pub says: HopSays,
}

/// What the headers of a hop say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HopSays {
    /// Attempts made so far.
    pub attempt: i32,
    /// `retry-1` … `retry-3`, `dlt`.
    pub tier: String,
    /// Not handled before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// What kind of failure the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

impl Entry {
    /// The saga it is written down under; a hop is where its origin is.
    pub fn saga(&self) -> Option<&SagaRef> {
        match &self.meaning {
            Meaning::Step { saga, .. } | Meaning::Strange { saga } => Some(saga),
            Meaning::NoSaga | Meaning::Hop(_) => None,
        }
    }
}

/// Reads a record. `now` bounds the times it says.
pub fn read(record: &Record, now: DateTime<Utc>) -> Entry {
    let timestamp = record.timestamp.filter(|time| is_plausible(*time, now));
    let written_at = timestamp.unwrap_or(now);
    let own = watched_groups().find_map(|group| Some((group, OwnTopic::of(group, &record.topic)?)));
    match own.filter(|(_, own)| OF_FAILURES.contains(own)) {
        Some((group, own)) => Entry { timestamp, ..read_hop(record, group, own, written_at) },
        None => Entry { timestamp, ..read_event(record, written_at, now) },
    }
}

fn is_plausible(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    DateTime::<Utc>::UNIX_EPOCH <= time && time <= now + AHEAD
}

/// By its headers alone: what failed may be anything.
fn read_hop(record: &Record, group: Service, own: OwnTopic, written_at: DateTime<Utc>) -> Entry {
    let header = |name| record.header(name);
    let text = |name| header(name).map(|text| bounded(text).into_owned());
    let origin = || {
        let place = Place {
            partition: header(X_ORIGIN_PARTITION)?.parse().ok()?,
            offset: header(X_ORIGIN_OFFSET)?.parse().ok()?,
        };
        Some((bounded(header(X_ORIGIN_TOPIC)?).into_owned(), place))
    };
    let here = Place { partition: record.partition, offset: record.offset };
    let known = origin();
    let marks = if known.is_some() { Vec::new() } else { vec![Mark::Unreadable] };
    let (origin_topic, origin) = known.unwrap_or_else(|| (record.topic.clone(), here));
    let trace: Option<TraceParent> = header(envelope::TRACEPARENT).and_then(|text| text.parse().ok());
    let is_dead = own == OwnTopic::Dlt;
    let step = origin_topic.parse::<Topic>().ok().map_or(Cow::Borrowed("unknown"), step_name);
    Entry {
        topic: record.topic.clone(),
        place: here,
        key: record.key.clone(),
        event_id: None,
        event_type: Some(origin_topic.clone()),
        service: group,
        step,
        status: if is_dead { StepStatus::Dead } else { StepStatus::Retrying },
        trace: trace.map(|trace| trace.trace_id),
        occurred_at: written_at,
        written_at,
        timestamp: None,
        marks,
        payload: None,
        meaning: Meaning::Hop(Hop {
            group,
            origin_topic,
            origin,
            says: HopSays {
                tier: own.suffix().to_owned(),
                attempt: header(X_ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or_default(),
                due_at: header(X_DUE_AT)
                    .and_then(|text| text.parse().ok())
                    .filter(|due: &DateTime<Utc>| is_plausible(*due, written_at + TimeDelta::days(1))),
                error_class: text(X_ERROR_CLASS),
                error_message: text(X_ERROR_MESSAGE),
            },
        }),
    }
}

/// The attributes of an event, whatever they hold.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Label<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dataschema: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    traceid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

fn read_event(record: &Record, written_at: DateTime<Utc>, now: DateTime<Utc>) -> Entry {
    let value = record.value.as_deref().unwrap_or_default();
    let label: Option<Label<'_>> = serde_json::from_slice(value).ok();
    let mut marks = Vec::new();
    if label.is_none() {
        marks.push(Mark::Unreadable);
    }
    let label = label.unwrap_or_default();
    let event_id: Option<EventId> = label.id.as_deref().and_then(|id| id.parse().ok());
    if event_id.is_none() {
        marks.push(Mark::NoEventId);
    }
    let trace = read_trace(&label, &mut marks);
    let topic: Option<Topic> = record.topic.parse().ok();
    let time = label.time.as_deref().and_then(|time| time.parse().ok());
    let occurred_at = time.filter(|time| is_plausible(*time, now)).unwrap_or(written_at);
    let place = Place { partition: record.partition, offset: record.offset };
    let told = read_told(topic, &label, event_id, &mut marks);
    let meaning = match (told, topic.and_then(Flow::of)) {
        (Some((id, Told { saga, step, says })), _) => {
            let late = Some(written_at).filter(|written_at| *written_at - occurred_at > LATE);
            Meaning::Step { saga, step, fact: Fact { at: occurred_at, id, place, late, trace, says } }
        }
        (None, Some(flow)) => {
            let order = order_of_key(record, topic).or_else(|| order_of_newer(flow, &label, &marks));
            let of_its_own = || SagaRef::of_record(flow, &record.topic, record.partition, record.offset);
            Meaning::Strange { saga: order.map_or_else(of_its_own, SagaRef::of_order) }
        }
        (None, None) => Meaning::NoSaga,
    };
    let status = match &meaning {
        Meaning::Step { step, .. } => status_of(step.event),
        Meaning::Strange { .. } => StepStatus::Failed,
        Meaning::NoSaga | Meaning::Hop(_) => StepStatus::Success,
    };
    Entry {
        topic: record.topic.clone(),
        place,
        key: record.key.clone(),
        event_id,
        event_type: label.kind.as_deref().map(|kind| bounded(kind).into_owned()),
        service: topic.map_or(Service::SagaMonitor, |topic| topic.spec().writer),
        step: topic.map_or(Cow::Borrowed("unknown"), step_name),
        status,
        trace,
        occurred_at,
        written_at,
        timestamp: None,
        marks,
        payload: record.value.clone(),
        meaning,
    }
}

fn read_trace(label: &Label<'_>, marks: &mut Vec<Mark>) -> Option<TraceId> {
    let Some(text) = label.traceid.as_deref().filter(|text| !text.is_empty()) else {
        marks.push(Mark::NoTraceId);
        return None;
    };
    let trace: Option<TraceId> = text.parse().ok();
    let parent: Option<TraceParent> = label.traceparent.as_deref().and_then(|text| text.parse().ok());
    let agrees = trace.is_some() && parent.map(|parent| parent.trace_id) == trace;
    if !agrees {
        marks.push(Mark::InvalidTraceId);
    }
    trace.filter(|_| agrees)
}

/// The event's data with its id, if it is of its topic's type and version.
fn read_told(
    topic: Option<Topic>,
    label: &Label<'_>,
    id: Option<EventId>,
    marks: &mut Vec<Mark>,
) -> Option<(EventId, Told)> {
    let (topic, id) = (topic?, id?);
    let read = if label.kind.as_deref() == Some(topic.name()) {
        let schema = label.dataschema.as_deref().unwrap_or_default();
        told(topic, schema, label.data.map_or("null", RawValue::get), id)
    } else {
        Err(Mark::UnknownType)
    };
    read.map_err(|odd| marks.push(odd)).ok().flatten().map(|told| (id, told))
}

/// The order that an event of a newer version is about, if it names it as ours do: most are not keyed by it.
fn order_of_newer(flow: Flow, label: &Label<'_>, marks: &[Mark]) -> Option<OrderId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OfOrder {
        order_id: OrderId,
    }
    let is_asked = flow == Flow::Order && marks.contains(&Mark::UnknownVersion);
    let data = label.data.filter(|_| is_asked)?;
    Some(serde_json::from_str::<OfOrder>(data.get()).ok()?.order_id)
}

/// The order that it is keyed by, if its topic is keyed by orders.
fn order_of_key(record: &Record, topic: Option<Topic>) -> Option<OrderId> {
    topic.filter(|topic| topic.spec().key == Key::Order)?;
    std::str::from_utf8(record.key.as_deref()?).ok()?.parse().ok()
}

fn status_of(event: Topic) -> StepStatus {
    let role = Flow::of(event).and_then(|flow| flow.declaration().step(event)).map(|step| step.role);
    match role {
        Some(Role::Refusal | Role::Failure) => StepStatus::Failed,
        Some(Role::Forward | Role::Undo(_) | Role::Success | Role::Cancel) | None => StepStatus::Success,
    }
}

/// What the step is called: as in its flow, or as its topic.
pub(crate) fn step_name(event: Topic) -> Cow<'static, str> {
    let step = Flow::of(event).and_then(|flow| flow.declaration().step(event));
    Cow::Borrowed(step.map_or(event.name(), |step| step.name))
}

/// PostgreSQL's text can't hold NUL; a hostile record can, and be long.
fn bounded(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(MAX_TEXT_CHARS).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
