//! The fault switch: a consumer group is made to fail on purpose, or to seem dead at a step, so that everybody can watch its
//! ladder, and what becomes of its events (`FAULT_INJECTION`, on loopback only).
//!
//! A fault is this process's, and ends by itself: one that was forgotten hurts nobody for long.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use common_events::{EventId, ids::in_lower_case};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    delivery::Stalled,
    failure::{Failure, Handled, Transient, Unprocessable},
    record::Record,
    tx::Tx,
};

/// What dead letters of an injected transient fault are grouped by.
const CLASS: &str = "injected-fault";

/// How handling fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may do better later.
    Transient,
    /// It makes no sense.
    Unprocessable,
    /// Its handler panics.
    Panic,
    /// Its transaction loses a race.
    Conflict,
    /// Its transaction waits too long for a lock.
    LockWait,
}

/// Something that is done to events in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = FaultStep)]
pub enum Step {
    /// They are handled.
    Handle,
    /// They wait behind another of their key.
    Wait,
    /// One that others wait for is through.
    Release,
    /// They go to a retry topic.
    Hop,
    /// They are parked.
    Park,
    /// They are dead letters.
    Bury,
    /// Keys are claimed whose followers are next.
    Drain,
    /// Dead letters are sent again.
    Replay,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Handle, Self::Wait, Self::Release, Self::Hop, Self::Park, Self::Bury, Self::Drain, Self::Replay];

    /// Whether it is done to keys or dead letters of any kind at once, not to certain events.
    pub(crate) const fn is_of_no_event(self) -> bool {
        matches!(self, Self::Drain | Self::Replay)
    }
}

/// On which side of that transaction's COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(as = FaultSide)]
pub enum Side {
    /// Everything is written, and none of it stays.
    #[serde(rename = "before-commit")]
    Before,
    /// It stays, and nobody in this process was told.
    #[serde(rename = "after-commit")]
    After,
}

/// What goes wrong, and whom it hits: all of what is said must be so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// What handlers do.
    pub(crate) fails: Option<Kind>,
    /// Nothing is done after this step, as if the process had died there. What brought it comes again.
    pub(crate) dies: Option<(Step, Side)>,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<String>,
    /// Of the events, by their ids: the same ones each time. 0 to 1.
    pub(crate) share: f64,
    /// It ends when it has struck so often; when the process has died so often, where it dies.
    pub(crate) times: Option<u32>,
    pub(crate) until: Instant,
}

/// A fault that is switched on.
#[derive(Debug)]
struct Lasting {
    fault: Fault,
    struck: AtomicU32,
}

impl Lasting {
    fn is_on(&self) -> bool {
        Instant::now() < self.fault.until
            && self.fault.times.is_none_or(|times| self.struck.load(Ordering::Relaxed) < times)
    }

    /// What fails until the process dies fails as often as it comes.
    fn takes_failure(&self) -> bool {
        self.fault.dies.is_some() || self.takes_one()
    }

    /// Takes one of the times that are left. False when another was faster.
    fn takes_one(&self) -> bool {
        let Some(times) = self.fault.times else { return true };
        let one_more = |struck| (struck < times).then_some(struck + 1);
        self.struck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// What is switched on in this process.
#[derive(Debug, Default)]
pub(crate) struct Faults(RwLock<Option<Lasting>>);

impl Faults {
    pub(crate) fn set(&self, fault: Option<Fault>) {
        let lasting = fault.map(|fault| Lasting { fault, struck: AtomicU32::new(0) });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lasting;
    }

    /// The fault that is on, with the times that are left of it.
    pub(crate) fn get(&self) -> Option<Fault> {
        let lasting = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lasting = lasting.as_ref().filter(|lasting| lasting.is_on())?;
        let times = lasting.fault.times.map(|times| times.saturating_sub(lasting.struck.load(Ordering::Relaxed)));
        Some(Fault { times, ..lasting.fault.clone() })
    }

    /// Fails in place of their handler if one of these events is to fail; panics, if it is to panic.
    pub(crate) async fn strike<'e>(&self, tx: &Tx<'_>, events: impl Iterator<Item = (&'e Record, EventId)>) -> Handled {
        let events = events.map(|(record, id)| (record, Some(id)));
        match self.hit(|fault| fault.fails, events, Lasting::takes_failure) {
            Some(kind) => kind.strike(tx).await,
            None => Ok(()),
        }
    }

    /// How handling it would fail.
    pub(crate) fn foretold(&self, record: &Record, id: EventId) -> Option<Kind> {
        self.hit(|fault| fault.fails, std::iter::once((record, Some(id))), |_| true)
    }

    /// Whether the process is to seem dead anywhere.
    pub(crate) fn kills(&self) -> bool {
        let lasting = self.0.read().unwrap_or_else(PoisonError::into_inner);
        lasting.as_ref().is_some_and(|lasting| lasting.fault.dies.is_some())
    }

    /// Fails if the process is to seem dead on this side of the step.
    pub(crate) fn die<'e>(
        &self,
        at: (Step, Side),
        records: impl Iterator<Item = (&'e Record, Option<EventId>)>,
    ) -> Result<(), Death> {
        match self.hit(|fault| fault.dies.filter(|dies| *dies == at), records, Lasting::takes_one) {
            Some((step, side)) => Err(Death { step, side }),
            None => Ok(()),
        }
    }

    /// What the fault that is on does, if it hits one of the events. What is about no event in particular is hit by every
    /// fault.
    fn hit<'e, T>(
        &self,
        does: impl Fn(&Fault) -> Option<T>,
        events: impl Iterator<Item = (&'e Record, Option<EventId>)>,
        takes_one: impl Fn(&Lasting) -> bool,
    ) -> Option<T> {
        let lasting = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lasting = lasting.as_ref().filter(|lasting| lasting.is_on())?;
        let what = does(&lasting.fault)?;
        let mut events = events.peekable();
        let hits = events.peek().is_none() || events.any(|(record, id)| lasting.fault.hits(record, id));
        (hits && takes_one(lasting)).then_some(what)
    }
}

impl Kind {
    /// What the handler would do.
    pub(crate) async fn strike(self, tx: &Tx<'_>) -> Handled {
        match self {
            Self::Transient => Err(Transient::new(CLASS, "somebody switched a fault on").into()),
            Self::Unprocessable => Err(Unprocessable::new("injected-fault: somebody switched a fault on").into()),
            #[expect(clippy::panic, reason = "somebody wants to see what becomes of it")]
            Self::Panic => panic!("injected-fault: somebody switched a fault on"),
            Self::Conflict => Ok(raise(tx, "40001").await?),
            Self::LockWait => Ok(raise(tx, "55P03").await?),
        }
    }
}

/// Has PostgreSQL refuse a statement with this code, as it would.
async fn raise(tx: &Tx<'_>, code: &str) -> Result<(), tokio_postgres::Error> {
    let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'somebody switched a fault on' USING ERRCODE = '{code}'; END $$");
    tx.transaction().batch_execute(&raise).await
}

/// The process is to seem dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("somebody switched a fault on: it is to seem dead, {step:?}, {side:?} COMMIT")]
pub struct Death {
    /// What was being done.
    pub step: Step,
    /// How far it went.
    pub side: Side,
}

impl From<Death> for Stalled {
    fn from(death: Death) -> Self {
        Self(death.into())
    }
}

impl From<Death> for Failure {
    fn from(death: Death) -> Self {
        Transient::new("death", death).into()
    }
}

impl Fault {
    fn hits(&self, record: &Record, id: Option<EventId>) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == record.event_topic())
            && self.key.as_deref().is_none_or(|wanted| has_key(record, wanted))
            && id.is_none_or(|id| share_of(id) < self.share)
    }
}

fn has_key(record: &Record, wanted: &str) -> bool {
    let is = |key: &str| record.key.as_deref() == Some(key.as_bytes());
    is(wanted) || in_lower_case(wanted).is_some_and(|ours| is(&ours))
}

/// Where the event stands between 0 and 1: the same for ever, and even over many events.
fn share_of(id: EventId) -> f64 {
    let (high, low) = id.uuid().as_u64_pair();
    // The last step of SplitMix64.
    let mixed = (high ^ low.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits");
    f64::from(top) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn fault() -> Fault {
        let until = Instant::now() + Duration::from_mins(1);
        Fault { fails: Some(Kind::Transient), dies: None, topic: None, key: None, share: 1.0, times: None, until }
    }

    fn struck(faults: &Faults, key: &str, id: EventId) -> bool {
        let record = Record {
            topic: "order-created".to_owned(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: Some(key.into()),
            value: None,
            headers: Vec::new(),
        };
        faults.hit(|fault| fault.fails, [(&record, Some(id))].into_iter(), Lasting::takes_failure).is_some()
    }

    #[test]
    fn a_fault_hits_what_it_names_and_ends_by_itself() {
        let (faults, id) = (Faults::default(), EventId::new(Uuid::now_v7()));
        assert!(!struck(&faults, "kim", id));
        faults.set(Some(Fault { key: Some("kim".to_owned()), ..fault() }));
        assert!(struck(&faults, "kim", id) && !struck(&faults, "lee", id));
        let order = Uuid::now_v7().to_string();
        faults.set(Some(Fault { key: Some(order.to_uppercase()), ..fault() }));
        assert!(struck(&faults, &order, id) && struck(&faults, &order.to_uppercase(), id));
        faults.set(Some(Fault { topic: Some("payment-failed".to_owned()), ..fault() }));
        assert!(!struck(&faults, "kim", id));
        faults.set(Some(Fault { until: Instant::now(), ..fault() }));
        assert!(!struck(&faults, "kim", id) && faults.get().is_none());
        faults.set(Some(Fault { times: Some(2), key: Some("kim".to_owned()), ..fault() }));
        assert!(!struck(&faults, "lee", id), "which costs no time");
        assert!(struck(&faults, "kim", id) && struck(&faults, "kim", id));
        assert!(!struck(&faults, "kim", id) && faults.get().is_none());
    }

    #[test]
    fn a_share_is_that_share_and_always_the_same_events() {
        let faults = Faults::default();
        faults.set(Some(Fault { share: 0.25, ..fault() }));
        let ids: Vec<EventId> = (0..10_000).map(|_| EventId::new(Uuid::now_v7())).collect();
        let hit: Vec<bool> = ids.iter().map(|id| struck(&faults, "kim", *id)).collect();
        let count = hit.iter().filter(|hit| **hit).count();
        assert!((2_250..2_750).contains(&count), "{count} of 10,000");
        assert_eq!(hit, ids.iter().map(|id| struck(&faults, "kim", *id)).collect::<Vec<_>>());
        faults.set(Some(fault()));
        assert!(ids.iter().all(|id| struck(&faults, "kim", *id)), "1 is all");
    }

    #[test]
    fn what_fails_until_the_process_dies_fails_until_then() {
        let (faults, id) = (Faults::default(), EventId::new(Uuid::now_v7()));
        faults.set(Some(Fault { dies: Some((Step::Park, Side::Before)), times: Some(1), ..fault() }));
        assert!((0..9).all(|_| struck(&faults, "kim", id)));
        assert!(faults.die((Step::Hop, Side::Before), std::iter::empty()).is_ok());
        assert!(faults.die((Step::Park, Side::Before), std::iter::empty()).is_err());
        assert!(!struck(&faults, "kim", id) && faults.get().is_none());
    }

    #[test]
    fn death_comes_at_its_step_and_on_its_side_only() {
        let faults = Faults::default();
        faults.set(Some(Fault { dies: Some((Step::Hop, Side::After)), ..fault() }));
        let dies = |step, side| faults.die((step, side), std::iter::empty()).is_err();
        assert!(!dies(Step::Hop, Side::Before) && !dies(Step::Bury, Side::After) && dies(Step::Hop, Side::After));
        let death = Death { step: Step::Hop, side: Side::After };
        assert_eq!(Failure::from(death).death(), Some(death));
        assert_eq!(Stalled::from(death).death(), Some(death));
    }
}
