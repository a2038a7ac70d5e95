//! Setting a saga going again from where it stopped: whoever owes an answer is asked for it again, with the
//! event it is owed for. That works because flows are declared, handlers are idempotent, and answers are kept.
//!
//! Refused, with the reason, where it can't help: while the event is still before the group, or on its ladder,
//! or waits behind another; when it is dead (it is replayed there); and when nothing is owed.

use std::collections::BTreeSet;

use common_events::{EventId, Service};
use futures::future::{join_all, try_join_all};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    cluster::Standing,
    domain::{Cause, Owed},
    services::{Services, Trouble},
    whereabouts::{self, Event, GroupState},
};

/// An event that a group is asked about again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The event.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// The group that owes the answer.
    pub group: String,
    /// What it owes.
    pub owes: String,
}

/// Why a saga can't be resumed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It has ended, or only waits for what is on its way.
    #[error("Nothing is owed in this saga.")]
    NothingOwed,
    /// What is missing was caused by a request, which nobody can make again.
    #[error("{0} itself is lost, and a request caused it: nobody can tell it again.")]
    Lost(String),
    /// The group will get there by itself, or an operator has to act there.
    #[error("{group} has {event} {state}{hint}")]
    NotYet {
        /// The group.
        group: Service,
        /// The event's type.
        event: String,
        /// Where it is there.
        state: GroupState,
        /// What to do instead.
        hint: &'static str,
    },
    /// Where the event is can't be found out.
    #[error("{group} doesn't answer, so where {event} lies is not known")]
    Unknown {
        /// The group.
        group: Service,
        /// The event's type.
        event: String,
        /// What went wrong.
        #[source]
        source: Trouble,
    },
}

impl Refusal {
    /// What programs tell refusals apart by.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NothingOwed => "nothing-owed",
            Self::Lost(_) => "event-lost",
            Self::NotYet { state, .. } => match state {
                GroupState::Unread => "event-unread",
                GroupState::Waiting => "event-waiting",
                GroupState::Retrying | GroupState::Parked => "event-in-ladder",
                GroupState::Dead => "event-dead",
                GroupState::Discarded => "event-discarded",
                GroupState::Applied | GroupState::Unknown => "event-unknown",
            },
            Self::Unknown { .. } => "group-unavailable",
        }
    }
}

/// What is to be asked, of whom, for what is owed; each question once. What can't be helped doesn't keep the rest
/// from going on.
///
/// # Errors
/// The first reason, when nothing can be helped.
pub async fn plan(services: &Services, cluster: &Standing, owed: &[Owed]) -> Result<Vec<(Service, Cause)>, Refusal> {
    let judged = join_all(owed.iter().map(|owed| can_be_asked(services, cluster, owed))).await;
    let mut questions: Vec<(Service, Cause)> = Vec::new();
    let mut first_refusal = None;
    for (owed, judged) in owed.iter().zip(judged) {
        if let Err(refusal) = judged {
            first_refusal.get_or_insert(refusal);
            continue;
        }
        let known: BTreeSet<(Service, EventId)> = questions.iter().map(|(group, cause)| (*group, cause.id)).collect();
        let more = owed.causes.iter().filter(|cause| !known.contains(&(owed.from, cause.id)));
        questions.extend(more.map(|cause| (owed.from, cause.clone())));
    }
    match (questions.is_empty(), first_refusal) {
        (false, _) => Ok(questions),
        (true, Some(refusal)) => Err(refusal),
        (true, None) => Err(Refusal::NothingOwed),
    }
}

/// When the debtor has handled everything that he owes it for.
async fn can_be_asked(services: &Services, cluster: &Standing, owed: &Owed) -> Result<(), Refusal> {
    if owed.causes.is_empty() {
        return Err(Refusal::Lost(owed.event.name().to_owned()));
    }
    try_join_all(owed.causes.iter().map(|cause| is_applied(services, cluster, owed.from, cause))).await?;
    Ok(())
}

/// Only what the group has handled is answered again; what it never saw would be a first delivery, out of turn.
async fn is_applied(services: &Services, cluster: &Standing, group: Service, cause: &Cause) -> Result<(), Refusal> {
    let event = Event { id: cause.id, lies: Some((cause.event.name(), cause.place)) };
    let found = whereabouts::find(services, Some(cluster), group, event, &[]).await;
    let name = || cause.event.name().to_owned();
    let found = found.map_err(|source| Refusal::Unknown { group, event: name(), source })?;
    let hint = match found.state {
        GroupState::Applied => return Ok(()),
        GroupState::Unread => ": it comes by itself once the group reads on",
        GroupState::Waiting => ": it goes on when the event before it is through",
        GroupState::Retrying | GroupState::Parked => ": it is tried again by itself",
        GroupState::Dead => ": replay its dead letter there",
        GroupState::Discarded => ": its dead letter was closed for good",
        GroupState::Unknown => "",
    };
    Err(Refusal::NotYet { group, event: name(), state: found.state, hint })
}
