//! Balances folded from ledger entries, as the points topics carry them: some twice, and in order per
//! topic at best, not across the three.
//!
//! A sum doesn't ask for order, so the fold doesn't either; it only has to know each entry once.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use common_events::{
    UserId,
    events::{PointCharged, PointDeducted, PointRefunded},
    ids::EntryId,
};

use super::account::{Entry, EntryKind};

/// What the entries of one user add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserBalance {
    /// In won. Negative when entries are missing.
    pub balance: i64,
    /// How many entries.
    pub entries: u64,
    /// The time of the latest one.
    pub last_at: DateTime<Utc>,
}

/// What the entries seen so far add up to.
#[derive(Debug, Default)]
pub struct Balances {
    seen: HashSet<EntryId>,
    users: BTreeMap<UserId, UserBalance>,
    duplicates: u64,
}

impl Balances {
    /// Takes one entry; one that was seen before changes nothing.
    pub fn add(&mut self, entry: &Entry) {
        if !self.seen.insert(entry.entry_id) {
            self.duplicates += 1;
            return;
        }
        let user = self.users.entry(entry.user_id.clone()).or_insert(UserBalance {
            balance: 0,
            entries: 0,
            last_at: entry.at,
        });
        user.balance += entry.delta();
        user.entries += 1;
        user.last_at = user.last_at.max(entry.at);
    }

    /// By user.
    pub const fn users(&self) -> &BTreeMap<UserId, UserBalance> {
        &self.users
    }

    /// How many different entries there were.
    pub fn entries(&self) -> usize {
        self.seen.len()
    }

    /// How many came again.
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

impl<'e> FromIterator<&'e Entry> for Balances {
    fn from_iter<I: IntoIterator<Item = &'e Entry>>(entries: I) -> Self {
        let mut balances = Self::default();
        entries.into_iter().for_each(|entry| balances.add(entry));
        balances
    }
}

impl From<PointCharged> for Entry {
    fn from(PointCharged { entry_id, user_id, amount, balance, at }: PointCharged) -> Self {
        Self { entry_id, user_id, kind: EntryKind::Charged, amount, balance, at }
    }
}

impl From<PointDeducted> for Entry {
    fn from(PointDeducted { entry_id, user_id, order_id, amount, balance, at }: PointDeducted) -> Self {
        Self { entry_id, user_id, kind: EntryKind::Deducted { order_id }, amount, balance, at }
    }
}

impl From<PointRefunded> for Entry {
    fn from(PointRefunded { entry_id, user_id, order_id, amount, balance, reason, at }: PointRefunded) -> Self {
        Self { entry_id, user_id, kind: EntryKind::Refunded { order_id, reason }, amount, balance, at }
    }
}
