//! Why a saga doesn't move: for each thing that is owed, where the event lies for which it is owed.

mod reason;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use common_events::{EventId, Service};
use service_runtime::Pool;

use crate::{
    alarm::{AlarmKind, CauseClass, Raised},
    cluster::Standing,
    domain::{Cause, Mark, Owed, Saga, not_undone},
    flows::Role,
    services::{Question, Services},
    store::{
        hops, log,
        sagas::{Judged, Suspect},
    },
    whereabouts::{self, Event, GroupState, Whereabouts},
};
use reason::{Reason, class_of, consumer_dead, detail, due, newer_version, unknown, unreadable};

/// After so many questions to the services a round begins with no other saga; the next round does.
const MAX_QUESTIONS: usize = 300;

/// What one round finds out. Each question is asked once, and who didn't answer isn't asked again.
pub(super) struct Inquiry<'i> {
    pool: &'i Pool,
    services: &'i Services,
    cluster: &'i Standing,
    known: BTreeMap<(Service, EventId), Whereabouts>,
    away: BTreeSet<Service>,
    relay: Option<RelayState>,
    questions: usize,
    /// Whoever hasn't moved since then is stuck.
    unmoved_since: DateTime<Utc>,
    /// When the events that others wait behind were tried last.
    tried: BTreeMap<(Service, EventId), Option<DateTime<Utc>>>,
    /// The sagas that wait behind an event which is tried again and again: they move with it.
    pub(super) moved: BTreeMap<String, DateTime<Utc>>,
    /// The causes that were found, by what tells them apart.
    pub(super) raised: BTreeMap<String, Raised>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RelayState {
    Works,
    Away,
}

impl<'i> Inquiry<'i> {
    pub(super) fn new(
        pool: &'i Pool,
        services: &'i Services,
        cluster: &'i Standing,
        unmoved_since: DateTime<Utc>,
    ) -> Self {
        let (known, away, tried, moved, raised) = <_>::default();
        Self { pool, services, cluster, known, away, relay: None, questions: 0, unmoved_since, tried, moved, raised }
    }

    /// Whether the round should begin with no other saga.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.questions >= MAX_QUESTIONS
    }

    /// Judges a stuck saga; `None` when nothing is owed in it any more, or it moves with the event that it waits behind.
    pub(super) async fn judge(&mut self, suspect: &Suspect) -> anyhow::Result<Option<Judged>> {
        let Ok(saga) = Saga::from_json(suspect.flow, &suspect.facts) else {
            return Ok(Some(self.judged(suspect, unreadable(suspect), Vec::new())));
        };
        let Some(standing) = saga.standing() else { return Ok(None) };
        // What is owed may be what can't be read here.
        if !standing.owed.is_empty() && standing.marks.contains(&Mark::UnknownVersion) {
            return Ok(Some(self.judged(suspect, newer_version(), Vec::new())));
        }
        let mut first: Option<Reason> = None;
        let mut lost = Vec::new();
        for owed in &standing.owed {
            let reason = self.reason_of(suspect, owed).await?;
            let is_undo =
                saga.flow.declaration().step(owed.event).is_some_and(|step| matches!(step.role, Role::Undo(_)));
            if is_undo && !reason.class.is_on_its_way() {
                lost.push(not_undone(owed.event, owed.line.as_deref()));
            }
            first.get_or_insert(reason);
        }
        let Some(reason) = first else { return Ok(None) };
        if let Some(tried_at) = reason.tried_at.filter(|tried_at| *tried_at > self.unmoved_since) {
            self.moved.insert(suspect.saga.clone(), tried_at);
            return Ok(None);
        }
        Ok(Some(self.judged(suspect, reason, lost)))
    }

    fn judged(&mut self, suspect: &Suspect, reason: Reason, not_undone: Vec<String>) -> Judged {
        let judged = Judged {
            saga: suspect.saga.clone(),
            progress_at: suspect.progress_at,
            cause: reason.cause.clone(),
            class: reason.class,
            not_undone,
        };
        self.raise(reason);
        judged
    }

    /// Who waits behind an event says less of it than whoever the event belongs to.
    fn raise(&mut self, reason: Reason) {
        let Reason { cause, class, title, detail, tried_at: _ } = reason;
        let raised = Raised { kind: AlarmKind::Stuck, cause: cause.clone(), class, title, detail, count: 0 };
        let known = self.raised.entry(cause).or_insert_with(|| raised.clone());
        if known.class == CauseClass::WaitingBehind {
            *known = raised;
        }
    }

    async fn reason_of(&mut self, suspect: &Suspect, owed: &Owed) -> anyhow::Result<Reason> {
        let group = owed.from;
        if owed.causes.is_empty() {
            return Ok(self.lost(suspect, owed, CauseClass::EventLost).await);
        }
        if !self.cluster.is_alive(group) {
            return Ok(consumer_dead(group, owed));
        }
        for cause in &owed.causes {
            let Some(whereabouts) = self.find(group, cause).await? else { return Ok(unknown(group, owed)) };
            if whereabouts.state != GroupState::Applied {
                return self.not_applied(owed, cause, whereabouts).await;
            }
        }
        Ok(self.lost(suspect, owed, CauseClass::AnswerLost).await)
    }

    /// `None` when the group doesn't answer.
    async fn find(&mut self, group: Service, cause: &Cause) -> anyhow::Result<Option<Whereabouts>> {
        self.find_event(group, cause.id, Some((cause.event.name(), cause.place))).await
    }

    async fn find_event(
        &mut self,
        group: Service,
        id: EventId,
        lies: Option<(&str, crate::domain::Place)>,
    ) -> anyhow::Result<Option<Whereabouts>> {
        if let Some(known) = self.known.get(&(group, id)) {
            return Ok(Some(known.clone()));
        }
        if self.away.contains(&group) {
            return Ok(None);
        }
        let heard = match lies {
            Some((topic, place)) => hops::list_hops(&self.pool.get().await?, topic, place).await?,
            None => Vec::new(),
        };
        self.questions += 1;
        let found = whereabouts::find(self.services, Some(self.cluster), group, Event { id, lies }, &heard).await;
        match found {
            Ok(whereabouts) => {
                self.known.insert((group, id), whereabouts.clone());
                Ok(Some(whereabouts))
            }
            Err(trouble) => {
                tracing::warn!(%group, event = %id, error = %trouble, "where an event lies can't be found out");
                self.away.insert(group);
                Ok(None)
            }
        }
    }

    async fn not_applied(&mut self, owed: &Owed, cause: &Cause, found: Whereabouts) -> anyhow::Result<Reason> {
        let group = owed.from;
        // One event that holds up others is the cause of all of them.
        let (class, culprit) = match (found.state, found.behind) {
            (GroupState::Waiting, Some(head)) => (CauseClass::WaitingBehind, head),
            (state, _) => (class_of(state), cause.id),
        };
        let (head, tried_at) = match found.behind {
            Some(head) => (self.find_event(group, head, None).await?, self.last_tried(group, head).await?),
            None => (None, None),
        };
        let is_backlog = class == CauseClass::Unread;
        let told = match &head {
            Some(head) => format!("{group} has {} waiting behind {culprit}, which is {}", cause.event, head.state),
            None => format!("{group} has {} {}{}", cause.event, found.state, due(&found)),
        };
        Ok(Reason {
            // The same as of a dead consumer: which of the two it is takes the session timeout to find out.
            cause: if is_backlog { format!("consumer/{group}") } else { format!("event/{group}/{culprit}") },
            class,
            title: format!("{told}: {} is owed", owed.event),
            detail: detail(owed, Some(cause), Some(&found)),
            tried_at,
        })
    }

    /// When the group tried that event last, as far as its retry topics tell.
    async fn last_tried(&mut self, group: Service, event: EventId) -> anyhow::Result<Option<DateTime<Utc>>> {
        if let Some(known) = self.tried.get(&(group, event)) {
            return Ok(*known);
        }
        let client = self.pool.get().await?;
        let mut tried_at = None;
        for lying in log::list_lying(&client, &[event]).await? {
            let heard = hops::list_hops(&client, &lying.topic, lying.place).await?;
            tried_at = heard.iter().filter(|(_, hop)| hop.group == group).map(|(at, _)| *at).chain(tried_at).max();
        }
        self.tried.insert((group, event), tried_at);
        Ok(tried_at)
    }

    /// Of a saga of its own, unless nothing moves at all.
    async fn lost(&mut self, suspect: &Suspect, owed: &Owed, class: CauseClass) -> Reason {
        if self.relay().await == RelayState::Away {
            return Reason {
                cause: "relay".to_owned(),
                class: CauseClass::RelayDead,
                title: format!("outbox-relay doesn't answer: {} of {} may wait in an outbox", owed.event, owed.from),
                detail: detail(owed, None, None),
                tried_at: None,
            };
        }
        let told = match (class, owed.causes.first()) {
            (CauseClass::AnswerLost, Some(cause)) => {
                format!("{} has handled {}, but its {} is on no topic", owed.from, cause.event, owed.event)
            }
            (_, _) => format!("{} of {} is on no topic", owed.event, owed.from),
        };
        Reason {
            cause: format!("lost/{}/{}/{}", suspect.saga, owed.event, owed.line.as_deref().unwrap_or_default()),
            class,
            title: format!("{told} ({} {})", suspect.flow, suspect.key),
            detail: detail(owed, owed.causes.first(), None),
            tried_at: None,
        }
    }

    /// Asked when something is lost: a relay that is away looks the same. Where nobody says where it is, it is
    /// taken to work.
    async fn relay(&mut self) -> RelayState {
        if let Some(known) = self.relay {
            return known;
        }
        let relay = Service::OutboxRelay;
        let state =
            if !self.services.knows(relay) || self.services.ask(relay, &Question::get("/health/ready")).await.is_ok() {
                RelayState::Works
            } else {
                RelayState::Away
            };
        self.relay = Some(state);
        state
    }
}
