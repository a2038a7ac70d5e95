//! How much was read and isn't applied yet: of a partition, and of all of them together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{ladder::OwnTopic, record::Record};

/// All partitions of a member that count together may have so many bytes waiting; then those that have any are
/// paused.
const ALL_BYTES: usize = 12 * 1024 * 1024;

/// What a partition may have waiting before it is paused.
#[derive(Debug, Clone, Copy)]
struct Limits {
    records: usize,
    bytes: usize,
}

/// What waits in all partitions of a member. What lies on retry topics until it is due is counted for itself:
/// however much of it a long outage leaves there, it holds up nothing else.
#[derive(Default)]
pub(super) struct Totals {
    flowing: Arc<Total>,
    lying: Arc<Total>,
}

impl Totals {
    /// Of one more partition; `own` says which of the group's own topics it is of, if it is.
    pub(super) fn backlog(&self, own: Option<OwnTopic>) -> Backlog {
        match own {
            Some(OwnTopic::Retry(_)) => Backlog::new(Arc::clone(&self.lying), Limits::LYING),
            Some(OwnTopic::Replay | OwnTopic::Dlt) | None => Backlog::new(Arc::clone(&self.flowing), Limits::FLOWING),
        }
    }
}

impl Limits {
    /// Of a topic that is worked on.
    const FLOWING: Self = Self { records: 4_000, bytes: 3 * 1024 * 1024 };
    /// Of a retry topic, where the first records lie until they are due.
    const LYING: Self = Self { records: 2_000, bytes: 1536 * 1024 };
}

/// The bytes that wait in partitions that count together.
#[derive(Default)]
struct Total(AtomicUsize);

/// What was pushed to a partition's worker and isn't applied yet.
pub(super) struct Backlog {
    records: AtomicUsize,
    bytes: AtomicUsize,
    total: Arc<Total>,
    limits: Limits,
}

impl Backlog {
    fn new(total: Arc<Total>, limits: Limits) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), total, limits }
    }

    pub(super) fn add(&self, record: &Record) {
        let bytes = record.size();
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, records: &[Record]) {
        let bytes = records.iter().map(Record::size).sum();
        self.records.fetch_sub(records.len(), Ordering::Release);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// All that was pushed is applied.
    pub(super) fn is_empty(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    /// Time to pause the partition.
    pub(super) fn is_high(&self) -> bool {
        let (records, bytes, all) = self.now();
        records > self.limits.records || bytes > self.limits.bytes || all > ALL_BYTES
    }

    /// Time to let it flow again: it is down to a quarter, and so are all together; or it has nothing to do.
    pub(super) fn is_low(&self) -> bool {
        let (records, bytes, all) = self.now();
        records == 0 || (records <= self.limits.records / 4 && bytes <= self.limits.bytes / 4 && all <= ALL_BYTES / 2)
    }

    fn now(&self) -> (usize, usize, usize) {
        let read = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        (read(&self.records), read(&self.bytes), read(&self.total.0))
    }
}

/// What is left when a partition is handed over doesn't wait here any more.
impl Drop for Backlog {
    fn drop(&mut self) {
        self.total.0.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::Rung;

    fn record(bytes: usize) -> Record {
        Record {
            topic: "order-created".to_owned(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: Some(vec![0; bytes]),
            headers: Vec::new(),
        }
    }

    #[test]
    fn partitions_share_one_limit_and_none_starves() {
        let total = Arc::<Total>::default();
        let partitions: Vec<Backlog> = (0..8).map(|_| Backlog::new(Arc::clone(&total), Limits::FLOWING)).collect();
        let large = record(2 * 1024 * 1024);
        for partition in &partitions[..7] {
            partition.add(&large);
        }
        assert!(partitions[0].is_high() && !partitions[0].is_low(), "too much for all together");
        assert!(partitions[7].is_low(), "one with nothing to do goes on whatever the others have");
        drop(partitions);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_lies_on_the_rungs_of_a_long_outage_does_not_hold_up_what_flows() {
        let (totals, one) = (Totals::default(), record(1_000));
        let rungs = Rung::ALL.iter().flat_map(|rung| [Some(OwnTopic::Retry(*rung)); 3]);
        let lying: Vec<Backlog> = rungs.map(|own| totals.backlog(own)).collect();
        for partition in &lying {
            while !partition.is_high() {
                partition.add(&one);
            }
        }
        let flowing = totals.backlog(None);
        for _ in 0..100 {
            flowing.add(&one);
        }
        assert!(!flowing.is_high() && flowing.is_low());
    }

    #[test]
    fn a_partition_is_paused_by_records_too_and_flows_again_at_a_quarter() {
        let backlog = Backlog::new(Arc::default(), Limits::LYING);
        let one = record(1);
        for _ in 0..=2_000 {
            backlog.add(&one);
        }
        assert!(backlog.is_high());
        backlog.subtract(&vec![one; 1_501]);
        assert!(!backlog.is_high() && backlog.is_low());
    }
}
