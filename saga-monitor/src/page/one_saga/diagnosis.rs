//! Of a saga that isn't over: what it waits for, where the events lie that it is owed for, and what helps.

use std::collections::BTreeMap;

use common_events::{EventId, Service};
use futures::future::join_all;
use service_runtime::Problem;
use tokio::time::{Duration, timeout};

use crate::{
    alarm::CauseClass,
    domain::{Cause, Owed, Standing},
    http::{Desk, get_saga::SagaDetail},
    page::show::query,
    store::hops,
    whereabouts::{self, Event, GroupState, Whereabouts},
};

/// So many debts are looked into: an order of a hundred lines owes a hundred answers for one reason.
const MAX_LOOKED_INTO: usize = 6;
/// A page waits for nobody longer than this.
const AT_MOST: Duration = Duration::from_secs(1);

/// What a saga waits for.
pub(super) struct Diagnosis {
    pub(super) waits: Vec<Wait>,
    /// Debts beyond those.
    pub(super) more: usize,
    pub(super) cause: Option<CauseClass>,
    pub(super) helps: Helps,
}

/// What somebody can do here and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Helps {
    /// Asking for the answer again.
    Resume,
    /// Its dead letter; the page of it.
    DeadLetter(String),
    /// The event before it, in that saga or group.
    Head(String),
    /// Nothing on this page: it goes on by itself, or something else has to be mended.
    Nothing,
}

/// One debt.
pub(super) struct Wait {
    pub(super) event: &'static str,
    pub(super) from: Service,
    pub(super) line: Option<String>,
    /// The events it is owed for, and where each is at the debtor.
    pub(super) because: Vec<Lies>,
}

/// An event and where it lies.
pub(super) struct Lies {
    pub(super) event: &'static str,
    pub(super) id: EventId,
    pub(super) place: String,
    pub(super) at: Whereabouts,
}

pub(super) async fn diagnose(desk: &Desk, detail: &SagaDetail, standing: &Standing) -> Result<Diagnosis, Problem> {
    let looked_into = standing.owed.iter().take(MAX_LOOKED_INTO);
    let waits: Vec<Wait> =
        join_all(looked_into.map(|owed| wait(desk, owed))).await.into_iter().collect::<Result<_, _>>()?;
    let more = standing.owed.len().saturating_sub(MAX_LOOKED_INTO);
    let helps = helps(&waits);
    Ok(Diagnosis { waits, more, cause: detail.saga.cause.filter(|_| detail.saga.stuck), helps })
}

async fn wait(desk: &Desk, owed: &Owed) -> Result<Wait, Problem> {
    let because = join_all(owed.causes.iter().map(|cause| lies(desk, owed.from, cause))).await;
    let because = because.into_iter().collect::<Result<_, _>>()?;
    Ok(Wait { event: owed.event.name(), from: owed.from, line: owed.line.clone(), because })
}

async fn lies(desk: &Desk, group: Service, cause: &Cause) -> Result<Lies, Problem> {
    let (topic, place) = (cause.event.name(), cause.place);
    let heard = hops::list_hops(&desk.pool.get().await?, topic, place).await?;
    let seen = desk.observed.ends();
    let cluster = seen.as_ref().and_then(|(_, now)| now.cluster.as_ref());
    let event = Event { id: cause.id, lies: Some((topic, place)) };
    let found = timeout(AT_MOST, whereabouts::find(&desk.services, cluster, group, event, &heard)).await;
    let at = found.ok().and_then(Result::ok).unwrap_or_else(|| Whereabouts::of(group, GroupState::Unknown));
    let place = format!("{topic}/{}@{}", place.partition, place.offset);
    Ok(Lies { event: topic, id: cause.id, place, at })
}

/// The first that can be helped.
fn helps(waits: &[Wait]) -> Helps {
    for wait in waits {
        for lies in &wait.because {
            match (lies.at.state, lies.at.dead_letter_id, lies.at.behind) {
                (GroupState::Dead | GroupState::Parked, Some(letter), _) => {
                    return Helps::DeadLetter(format!("/dead-letters/{}/{letter}", wait.from));
                }
                (GroupState::Waiting, _, Some(head)) => {
                    return Helps::Head(format!("/where{}", query([("event", &*head.to_string())])));
                }
                (
                    GroupState::Unread
                    | GroupState::Waiting
                    | GroupState::Retrying
                    | GroupState::Parked
                    | GroupState::Dead
                    | GroupState::Discarded
                    | GroupState::Applied
                    | GroupState::Unknown,
                    _,
                    _,
                ) => {}
            }
        }
    }
    let is_applied =
        |wait: &Wait| !wait.because.is_empty() && wait.because.iter().all(|lies| lies.at.state == GroupState::Applied);
    if waits.iter().any(is_applied) { Helps::Resume } else { Helps::Nothing }
}

impl Diagnosis {
    /// Why nothing moves, as far as it can be told before the detection has judged it.
    pub(super) fn cause(&self) -> Option<CauseClass> {
        self.cause
    }

    /// Whether an event of it was set aside, or waits behind one: nothing will come of it by itself.
    pub(super) fn is_held_up(&self) -> bool {
        matches!(self.helps, Helps::DeadLetter(_) | Helps::Head(_))
    }

    /// Where the event lies that each answer is owed for, as far as it was looked into: the one that is worst off.
    pub(super) fn owed_for(&self) -> BTreeMap<&'static str, GroupState> {
        let mut worst = BTreeMap::new();
        for wait in &self.waits {
            for lies in &wait.because {
                let known = worst.entry(wait.event).or_insert(lies.at.state);
                if badness(lies.at.state) > badness(*known) {
                    *known = lies.at.state;
                }
            }
        }
        worst
    }

    /// Whether the one button is the resume.
    pub(super) fn can_be_resumed(&self) -> bool {
        self.helps == Helps::Resume
    }
}

const fn badness(state: GroupState) -> u8 {
    match state {
        GroupState::Dead | GroupState::Discarded => 2,
        GroupState::Retrying | GroupState::Parked | GroupState::Waiting => 1,
        GroupState::Unread | GroupState::Applied | GroupState::Unknown => 0,
    }
}
