//! Why one thing that is owed doesn't come, in words and for programs.

use chrono::{DateTime, Utc};
use common_events::{Service, Topic};
use serde_json::{Value, json};

use crate::{
    alarm::CauseClass,
    domain::{Cause, Owed},
    store::sagas::Suspect,
    whereabouts::{GroupState, Whereabouts},
};

/// Why one thing that is owed doesn't come.
pub(super) struct Reason {
    /// What tells it from others: sagas that suffer from the same have one alarm.
    pub(super) cause: String,
    pub(super) class: CauseClass,
    pub(super) title: String,
    pub(super) detail: Value,
    /// When the event that the owed one waits behind was tried last.
    pub(super) tried_at: Option<DateTime<Utc>>,
}

pub(super) fn class_of(state: GroupState) -> CauseClass {
    match state {
        GroupState::Unread => CauseClass::Unread,
        GroupState::Waiting => CauseClass::WaitingBehind,
        GroupState::Retrying => CauseClass::Retrying,
        GroupState::Parked => CauseClass::Parked,
        GroupState::Dead => CauseClass::Dead,
        GroupState::Discarded => CauseClass::Discarded,
        GroupState::Applied => CauseClass::AnswerLost,
        GroupState::Unknown => CauseClass::Unknown,
    }
}

pub(super) fn due(found: &Whereabouts) -> String {
    let tier = found.tier.as_deref().map(|tier| format!(" in {tier}")).unwrap_or_default();
    let due = |due: DateTime<Utc>| format!(", due {}", due.format("%H:%M:%S"));
    format!("{tier}{}", found.due_at.map(due).unwrap_or_default())
}

pub(super) fn unreadable(suspect: &Suspect) -> Reason {
    Reason {
        cause: format!("unreadable/{}", suspect.saga),
        class: CauseClass::Unknown,
        title: format!("what is kept of {} can't be read: saga-monitor rebuild makes it anew", suspect.saga),
        detail: json!({}),
        tried_at: None,
    }
}

/// One cause of all sagas that hold such an event: the same release helps them all.
pub(super) fn newer_version() -> Reason {
    Reason {
        cause: "newer-version".to_owned(),
        class: CauseClass::NewerVersion,
        title: "an event of a newer release, which this monitor can't read: deploy that, then saga-monitor rebuild"
            .to_owned(),
        detail: json!({}),
        tried_at: None,
    }
}

pub(super) fn consumer_dead(group: Service, owed: &Owed) -> Reason {
    Reason {
        cause: format!("consumer/{group}"),
        class: CauseClass::ConsumerDead,
        title: format!("no consumer of {group} is running: {} is owed", owed.event),
        detail: detail(owed, owed.causes.first(), None),
        tried_at: None,
    }
}

pub(super) fn unknown(group: Service, owed: &Owed) -> Reason {
    Reason {
        cause: format!("unknown/{group}"),
        class: CauseClass::Unknown,
        title: format!("{group} doesn't answer, so it isn't known why {} doesn't come", owed.event),
        detail: detail(owed, owed.causes.first(), None),
        tried_at: None,
    }
}

pub(super) fn detail(owed: &Owed, cause: Option<&Cause>, found: Option<&Whereabouts>) -> Value {
    let place = |cause: &Cause| {
        let Cause { event, id, place } = cause;
        json!({"eventId": id, "topic": Topic::name(*event), "partition": place.partition, "offset": place.offset})
    };
    json!({
        "waitingFor": {"event": owed.event.name(), "from": owed.from.name(), "line": owed.line},
        "because": cause.map(place),
        "where": found,
    })
}
