//! One user's points.
//!
//! An account and its ledger change together: every method that moves points returns the entry that
//! says so, and there is no other way to change a balance.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{CancelReason, OrderId, PaymentRefusal, UserId, Won, ids::EntryId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The database's times are exact to this.
const ONE_MICROSECOND: TimeDelta = TimeDelta::microseconds(1);

/// Whether an account takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccountState {
    /// It charges and pays.
    Open,
    /// It takes no charge and pays nothing; refunds always arrive.
    Closed,
}

impl AccountState {
    /// As it is written in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }
}

/// A text that is no state of an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of an account")]
pub struct UnknownState(String);

impl FromStr for AccountState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        [Self::Open, Self::Closed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// What a ledger entry gets from outside.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The id of the entry, if there is to be one.
    pub entry_id: EntryId,
    /// The database's clock, read while the account was locked.
    pub clock: DateTime<Utc>,
}

/// What moved the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The user paid in.
    Charged,
    /// He paid an order.
    Deducted {
        /// Which one.
        order_id: OrderId,
    },
    /// An order that he had paid was cancelled.
    Refunded {
        /// Which one.
        order_id: OrderId,
        /// Why.
        reason: CancelReason,
    },
}

impl EntryKind {
    /// What the ledger's words say. `None` when they make no entry together.
    pub fn of(kind: &str, order_id: Option<OrderId>, reason: Option<CancelReason>) -> Option<Self> {
        match (kind, order_id, reason) {
            ("CHARGED", None, None) => Some(Self::Charged),
            ("DEDUCTED", Some(order_id), None) => Some(Self::Deducted { order_id }),
            ("REFUNDED", Some(order_id), Some(reason)) => Some(Self::Refunded { order_id, reason }),
            _ => None,
        }
    }

    /// As it is written in answers and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charged => "CHARGED",
            Self::Deducted { .. } => "DEDUCTED",
            Self::Refunded { .. } => "REFUNDED",
        }
    }

    /// The order that was paid or refunded.
    pub const fn order_id(self) -> Option<OrderId> {
        match self {
            Self::Charged => None,
            Self::Deducted { order_id } | Self::Refunded { order_id, .. } => Some(order_id),
        }
    }

    /// Why the points went back.
    pub const fn reason(self) -> Option<CancelReason> {
        match self {
            Self::Charged | Self::Deducted { .. } => None,
            Self::Refunded { reason, .. } => Some(reason),
        }
    }
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id: what a rebuild de-duplicates by.
    pub entry_id: EntryId,
    /// Whose points.
    pub user_id: UserId,
    /// What moved them.
    pub kind: EntryKind,
    /// How many, whichever way.
    pub amount: Won,
    /// The balance after it.
    pub balance: Won,
    /// Later than every earlier entry of the user.
    pub at: DateTime<Utc>,
}

impl Entry {
    /// What it adds to the balance: negative when points were deducted.
    pub const fn delta(&self) -> i64 {
        match self.kind {
            EntryKind::Charged | EntryKind::Refunded { .. } => self.amount.get(),
            EntryKind::Deducted { .. } => -self.amount.get(),
        }
    }
}

/// Why points can't be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChargeRefused {
    /// The account takes no charges.
    #[error("the account is closed")]
    AccountClosed,
    /// All charges of the account together would be more than an amount can hold.
    #[error("an account can't be charged with more than {} altogether", Won::MAX)]
    Overflow,
}

/// One user's points, while they are locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub user_id: UserId,
    /// What there is to spend.
    pub balance: Won,
    /// All that was ever charged; the balance is never more.
    pub charged: Won,
    /// Whether it charges and pays.
    pub state: AccountState,
    /// What one payment may take at most.
    pub limit_per_payment: Option<Won>,
    /// When the last entry was made.
    pub last_at: Option<DateTime<Utc>>,
}

impl Account {
    /// The account of somebody who never charged: open, and empty.
    pub const fn empty(user_id: UserId) -> Self {
        let (balance, charged, state) = (Won::ZERO, Won::ZERO, AccountState::Open);
        Self { user_id, balance, charged, state, limit_per_payment: None, last_at: None }
    }

    /// Pays points in.
    pub fn charge(&mut self, amount: Won, stamp: Stamp) -> Result<Entry, ChargeRefused> {
        match self.state {
            AccountState::Closed => return Err(ChargeRefused::AccountClosed),
            AccountState::Open => {}
        }
        // The balance is at most what was ever charged, so this is the narrower bound.
        let charged = self.charged.checked_add(amount).ok_or(ChargeRefused::Overflow)?;
        self.balance = self.balance.checked_add(amount).ok_or(ChargeRefused::Overflow)?;
        self.charged = charged;
        Ok(self.entry(EntryKind::Charged, amount, stamp))
    }

    /// Pays an order: `None` when there is nothing to pay, as the ledger knows no empty entries.
    pub fn deduct(&mut self, order_id: OrderId, total: Won, stamp: Stamp) -> Result<Option<Entry>, PaymentRefusal> {
        match self.state {
            AccountState::Closed => return Err(PaymentRefusal::AccountClosed),
            AccountState::Open => {}
        }
        if self.limit_per_payment.is_some_and(|limit| total > limit) {
            return Err(PaymentRefusal::LimitExceeded);
        }
        self.balance = self.balance.checked_sub(total).ok_or(PaymentRefusal::InsufficientPoints)?;
        Ok((total > Won::ZERO).then(|| self.entry(EntryKind::Deducted { order_id }, total, stamp)))
    }

    /// Gives back what an order had taken; whatever the state of the account, it is the user's own.
    /// `None` when the order had taken nothing.
    ///
    /// # Panics
    /// When more goes back than was ever charged, which the ledger's keys make impossible.
    pub fn refund(&mut self, order_id: OrderId, total: Won, reason: CancelReason, stamp: Stamp) -> Option<Entry> {
        self.balance = self.balance.checked_add(total).expect("what is refunded was charged once, and deducted");
        (total > Won::ZERO).then(|| self.entry(EntryKind::Refunded { order_id, reason }, total, stamp))
    }

    /// Clocks stand still and go back; the ledger's doesn't.
    fn entry(&mut self, kind: EntryKind, amount: Won, stamp: Stamp) -> Entry {
        let at = self.last_at.map_or(stamp.clock, |last| stamp.clock.max(last + ONE_MICROSECOND));
        self.last_at = Some(at);
        Entry { entry_id: stamp.entry_id, user_id: self.user_id.clone(), kind, amount, balance: self.balance, at }
    }
}

/// The accounts that a transaction holds, and the clock once it held them all.
#[derive(Debug)]
pub struct Accounts {
    held: BTreeMap<UserId, Account>,
    clock: DateTime<Utc>,
}

impl Accounts {
    /// These accounts; whoever isn't among them never charged.
    pub fn new(held: impl IntoIterator<Item = Account>, clock: DateTime<Utc>) -> Self {
        Self { held: held.into_iter().map(|account| (account.user_id.clone(), account)).collect(), clock }
    }

    /// The account of this user.
    pub fn of(&mut self, user_id: &UserId) -> &mut Account {
        self.held.entry(user_id.clone()).or_insert_with(|| Account::empty(user_id.clone()))
    }

    /// Whether the user's account is there to be changed.
    pub fn hold(&self, user_id: &UserId) -> bool {
        self.held.contains_key(user_id)
    }

    /// What an entry with this id is stamped with.
    pub const fn stamp(&self, entry_id: EntryId) -> Stamp {
        Stamp { entry_id, clock: self.clock }
    }
}
