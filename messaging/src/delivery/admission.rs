//! Admission: which records of a batch are to be handled in this transaction. The rest is known already,
//! stale, or kept behind a failed event of its key.

use std::collections::HashSet;

use chrono::NaiveDate;
use common_events::EventId;
use service_runtime::museum::{self, Bug};

use super::{Delivered, Heard, Reading, passes::Item};
use crate::{
    dead_letters,
    failure::Failure,
    inbox::{self, Arrival, State},
    ladder::Came,
    outbox,
    subscriptions::{Decoded, Hearing},
    tx::Tx,
    waiting,
};

/// An event that is handled now, with who handles it.
pub(super) struct Fresh<'h> {
    pub(super) decoded: &'h Decoded,
    pub(super) hearing: &'h dyn Hearing,
    pub(super) heard: &'h Heard<'h>,
}

/// Notes the events in the inbox and keeps those that are to be handled; answers resumes.
pub(super) async fn admit<'h>(
    tx: &Tx<'_>,
    part: &[Item<'h>],
    delivered: &mut Delivered,
) -> Result<Vec<Fresh<'h>>, Failure> {
    let (mut first, mut climbing, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for item in part {
        match item.heard.came {
            Came::First | Came::Asked => first.push(item.heard),
            Came::Hop { .. } | Came::Parked { .. } => climbing.push(item.heard),
            Came::Waiting => waiting.push(item.heard),
        }
    }
    let mut admitted = HashSet::with_capacity(part.len());
    if !first.is_empty() {
        admitted.extend(admit_first(tx, &first, delivered).await?);
    }
    if !climbing.is_empty() {
        admitted.extend(admit_climbing(tx, &climbing).await?);
    }
    let mut still_waiting = 0;
    if !waiting.is_empty() {
        let turns = admit_waiting(tx, &waiting).await?;
        still_waiting = waiting.len() - turns.len();
        admitted.extend(turns);
    }
    let mut fresh = Vec::with_capacity(part.len());
    for Item { heard, .. } in part {
        let Reading::Event { decoded, hearing } = &heard.reading else { continue };
        // An event that is there twice is handled once.
        if admitted.remove(&decoded.id) {
            fresh.push(Fresh { decoded, hearing: *hearing, heard });
        }
    }
    delivered.duplicates += part.len() - fresh.len() - delivered.waiting - still_waiting;
    Ok(fresh)
}

/// Events that come for the first time, as far as they say.
async fn admit_first(
    tx: &Tx<'_>,
    heard: &[&Heard<'_>],
    delivered: &mut Delivered,
) -> Result<HashSet<EventId>, Failure> {
    let (remembered, standing): (Vec<&Heard<'_>>, Vec<&Heard<'_>>) =
        heard.iter().partition(|heard| heard.event().is_some_and(|event| event.day.is_some()));
    let arrivals: Vec<Arrival<'_>> = remembered.iter().filter_map(|heard| heard.arrival()).collect();
    let inbox::Inserted { mut new, some_key_waits } = inbox::insert_new(tx, &arrivals).await?;
    let asked: Vec<Arrival<'_>> =
        heard.iter().filter(|heard| heard.came == Came::Asked).filter_map(|heard| heard.arrival()).collect();
    if !asked.is_empty() {
        dead_letters::adopt(tx, &asked).await?;
    }
    let known: Vec<&Heard<'_>> = remembered.into_iter().filter(|heard| !is_in(&new, heard)).collect();
    if !known.is_empty() {
        new.extend(admit_known(tx, &known, delivered).await?);
    }
    if !standing.is_empty() {
        new.extend(admit_standing(tx, &standing).await?);
    }
    // Whoever finds none of its events known can't have been overtaken by one that blocks their key.
    if some_key_waits || !known.is_empty() || !standing.is_empty() {
        let new_ones: Vec<&Heard<'_>> = heard.iter().copied().filter(|heard| is_in(&new, heard)).collect();
        let kept = keep_waiting(tx, &new_ones).await?;
        delivered.waiting += kept.len();
        new.retain(|id| !kept.contains(id));
    }
    Ok(new)
}

/// Of events that are known, those are handled that were set back to unread; resumes are answered.
async fn admit_known(
    tx: &Tx<'_>,
    known: &[&Heard<'_>],
    delivered: &mut Delivered,
) -> Result<HashSet<EventId>, Failure> {
    let arrivals: Vec<Arrival<'_>> = known.iter().filter_map(|heard| heard.arrival()).collect();
    let unread = inbox::apply_unread(tx, &arrivals).await?;
    let asked = |heard: &&&Heard<'_>| heard.record.is_resume() && !is_in(&unread, heard);
    let resumes: Vec<(NaiveDate, EventId)> = known
        .iter()
        .filter(asked)
        .filter_map(|heard| heard.arrival())
        .map(|arrival| (arrival.day, arrival.id))
        .collect();
    if !resumes.is_empty() {
        delivered.resumed += answer_again(tx, &resumes).await?;
    }
    Ok(unread)
}

/// Events without a memory are new, but for those that wait, retry or are dead.
async fn admit_standing(tx: &Tx<'_>, heard: &[&Heard<'_>]) -> Result<HashSet<EventId>, Failure> {
    let arrivals: Vec<Arrival<'_>> = heard.iter().filter_map(|heard| heard.arrival()).collect();
    let known = inbox::find_standings(tx.transaction(), &arrivals).await?;
    Ok(arrivals.iter().map(|arrival| arrival.id).filter(|id| !known.contains_key(id)).collect())
}

/// Puts those behind the failed event of their key, if there is one. Returns whom.
async fn keep_waiting(tx: &Tx<'_>, new: &[&Heard<'_>]) -> Result<HashSet<EventId>, Failure> {
    if museum::is_back(Bug::FollowerOvertakes) {
        return Ok(HashSet::new());
    }
    let keys: HashSet<_> = new.iter().filter_map(|heard| heard.order_key()).collect();
    let blocked = waiting::lock_blocked(tx, &keys).await?;
    let is_blocked = |heard: &&Heard<'_>| heard.order_key().is_some_and(|key| blocked.contains(&waiting::owned(key)));
    let mut seen = HashSet::new();
    let followers: Vec<Arrival<'_>> = new
        .iter()
        .copied()
        .filter(is_blocked)
        .filter_map(Heard::arrival)
        .filter(|arrival| seen.insert(arrival.id))
        .collect();
    if !followers.is_empty() {
        inbox::set_waiting(tx, &followers).await?;
        waiting::append(tx, &followers).await?;
    }
    Ok(seen)
}

/// Events on the ladder, each as the hop that it says; others are stale. Their keys are free then.
async fn admit_climbing(tx: &Tx<'_>, heard: &[&Heard<'_>]) -> Result<HashSet<EventId>, Failure> {
    let (mut claims, mut parked) = (Vec::new(), false);
    for heard in heard {
        let from = match heard.came {
            Came::Hop { number, .. } => (State::Retrying, number),
            Came::Parked { hop, .. } => {
                parked = true;
                (State::Parked, hop)
            }
            Came::First | Came::Asked | Came::Waiting => continue,
        };
        claims.extend(heard.arrival().map(|arrival| (arrival, from)));
    }
    let applied = inbox::apply_hops(tx, &claims).await?;
    let claimed: Vec<(NaiveDate, EventId)> = applied.iter().copied().collect();
    if !claimed.is_empty() {
        if parked {
            dead_letters::delete_parked(tx, &claimed).await?;
        }
        waiting::release(tx, &claimed).await?;
        inbox::delete_standing(tx, &claimed).await?;
    }
    Ok(applied.into_iter().map(|(_, id)| id).collect())
}

/// Followers whose turn it is: nobody else drains their key until this transaction ends.
async fn admit_waiting(tx: &Tx<'_>, heard: &[&Heard<'_>]) -> Result<HashSet<EventId>, Failure> {
    let keys: HashSet<_> = heard.iter().filter_map(|heard| heard.order_key()).collect();
    let released = waiting::lock_released(tx, &keys).await?;
    let is_released = |heard: &&Heard<'_>| heard.order_key().is_some_and(|key| released.contains(&waiting::owned(key)));
    let turns: Vec<(NaiveDate, EventId)> = heard
        .iter()
        .copied()
        .filter(is_released)
        .filter_map(Heard::arrival)
        .map(|arrival| (arrival.day, arrival.id))
        .collect();
    let taken = waiting::take(tx, &turns).await?;
    let taken: Vec<(NaiveDate, EventId)> = turns.into_iter().filter(|(_, id)| taken.contains(id)).collect();
    inbox::apply_waiting(tx, &taken).await?;
    inbox::delete_standing(tx, &taken).await?;
    waiting::delete_drained(tx, &keys).await?;
    Ok(taken.into_iter().map(|(_, id)| id).collect())
}

/// Events that are applied are answered again from what was kept; any other known state has an owner
/// already (the ladder, a dead letter), so the resume is dropped.
async fn answer_again(tx: &Tx<'_>, resumes: &[(NaiveDate, EventId)]) -> Result<usize, Failure> {
    let states = inbox::states(tx, resumes).await?;
    let is_applied = |(_, id): &&(NaiveDate, EventId)| states.get(id) == Some(&State::Applied);
    let applied: Vec<(NaiveDate, EventId)> = resumes.iter().filter(is_applied).copied().collect();
    outbox::publish_kept_answers(tx.transaction(), &applied).await?;
    Ok(applied.len())
}

fn is_in(ids: &HashSet<EventId>, heard: &Heard<'_>) -> bool {
    heard.event().is_some_and(|event| ids.contains(&event.id))
}
