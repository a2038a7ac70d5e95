//! The fault switch: a consumer group is made to fail on purpose, so that its ladder can be watched and
//! tested (`FAULT_INJECTION`, on loopback only).
//!
//! A fault is this process's, and ends by itself: one that was forgotten hurts nobody for long.

use std::{
    sync::{PoisonError, RwLock},
    time::Instant,
};

use common_events::{EventId, ids::in_lower_case};

use crate::{
    failure::{Handled, Transient, Unprocessable},
    record::Record,
};

/// What dead letters of an injected transient fault are grouped by.
const CLASS: &str = "injected-fault";

/// How an injected failure ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Transient,
    Unprocessable,
}

/// Whom a fault hits: all of what is said must be so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<String>,
    /// Of the events, by their ids: the same ones each time. 0 to 1.
    pub(crate) share: f64,
    pub(crate) until: Instant,
}

/// What is switched on in this process.
#[derive(Debug, Default)]
pub(crate) struct Faults(RwLock<Option<Fault>>);

impl Faults {
    pub(crate) fn set(&self, fault: Option<Fault>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(crate) fn get(&self) -> Option<Fault> {
        let fault = self.0.read().unwrap_or_else(PoisonError::into_inner);
        fault.as_ref().filter(|fault| Instant::now() < fault.until).cloned()
    }

    /// Fails if one of these events is to fail.
    pub(crate) fn strike<'e>(&self, mut events: impl Iterator<Item = (&'e Record, EventId)>) -> Handled {
        let fault = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = fault.as_ref().filter(|fault| Instant::now() < fault.until) else { return Ok(()) };
        if !events.any(|(record, id)| fault.hits(record, id)) {
            return Ok(());
        }
        Err(match fault.kind {
            Kind::Transient => Transient::new(CLASS, "somebody switched a fault on").into(),
            Kind::Unprocessable => Unprocessable::new("injected-fault: somebody switched a fault on").into(),
        })
    }
}

impl Fault {
    fn hits(&self, record: &Record, id: EventId) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == record.event_topic())
            && self.key.as_deref().is_none_or(|wanted| has_key(record, wanted))
            && share_of(id) < self.share
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
        Fault { kind: Kind::Transient, topic: None, key: None, share: 1.0, until }
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
        faults.strike([(&record, id)].into_iter()).is_err()
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
}
