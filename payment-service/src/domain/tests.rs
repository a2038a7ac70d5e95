//! Any order, any repetition.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{
    CancelReason, OrderId, PaymentRefusal, UserId, Won,
    events::{OrderCancelled, OrderReserved},
    ids::EntryId,
};
use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;

const ORDERS: u128 = 6;
const USERS: usize = 3;

fn clock(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_795_000_000_000_000 + micros).expect("a time")
}

fn stamp(id: u128, micros: i64) -> Stamp {
    Stamp { entry_id: EntryId::new(Uuid::from_u128(id)), clock: clock(micros) }
}

fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn user(number: usize) -> UserId {
    format!("user-{number}").parse().expect("a user id")
}

/// Each order has one user and one total, whatever is told of it and however often.
fn reserved(number: u128) -> OrderReserved {
    let total = won(i64::try_from(number).expect("small") * 100);
    OrderReserved {
        order_id: OrderId::new(Uuid::from_u128(number)),
        order_version: 2,
        user_id: user(usize::try_from(number).expect("small") % USERS),
        lines: vec![],
        subtotal: total,
        discount: Won::ZERO,
        total,
    }
}

fn cancelled(number: u128) -> OrderCancelled {
    let OrderReserved { order_id, user_id, .. } = reserved(number);
    OrderCancelled {
        order_id,
        order_version: 3,
        user_id,
        lines: vec![],
        issued_coupon_id: None,
        reason: CancelReason::Customer,
        note: None,
        cancelled_at: clock(0),
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Charged(usize, i64),
    Reserved(u128),
    Cancelled(u128),
    Account(usize, AccountState, Option<i64>),
}

fn happening() -> impl Strategy<Value = Happening> {
    let state = prop_oneof![3 => Just(AccountState::Open), 1 => Just(AccountState::Closed)];
    prop_oneof![
        3 => (0..USERS, 1..1_000_i64).prop_map(|(user, amount)| Happening::Charged(user, amount)),
        5 => (0..ORDERS).prop_map(Happening::Reserved),
        3 => (0..ORDERS).prop_map(Happening::Cancelled),
        1 => (0..USERS, state, proptest::option::of(1..600_i64))
            .prop_map(|(user, state, limit)| Happening::Account(user, state, limit)),
    ]
}

/// A shop's worth of accounts and payments, and everything that was ever said about them.
struct Cashier {
    accounts: Accounts,
    payments: BTreeMap<u128, Payment>,
    entries: Vec<Entry>,
    completed: BTreeSet<u128>,
    refunded: BTreeSet<u128>,
    failed: BTreeMap<u128, PaymentRefusal>,
}

impl Cashier {
    fn new() -> Self {
        Self {
            accounts: Accounts::new([], clock(0)),
            payments: BTreeMap::new(),
            entries: Vec::new(),
            completed: BTreeSet::new(),
            refunded: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    fn hear(&mut self, step: u128, happening: &Happening) {
        let entry_id = EntryId::new(Uuid::from_u128(1_000 + step));
        match *happening {
            Happening::Charged(who, amount) => {
                let stamp = self.accounts.stamp(entry_id);
                self.entries.extend(self.accounts.of(&user(who)).charge(won(amount), stamp));
            }
            Happening::Account(who, state, limit) => {
                let account = self.accounts.of(&user(who));
                (account.state, account.limit_per_payment) = (state, limit.map(won));
            }
            Happening::Reserved(number) => {
                let payment = self.payments.entry(number).or_insert(Payment::Pending);
                match payment.pay(&reserved(number), &mut self.accounts, entry_id) {
                    Some(Decision::Completed { payment, deducted }) => {
                        assert_eq!(deducted.is_some(), payment.total > Won::ZERO);
                        assert!(self.completed.insert(number), "completed twice");
                        self.entries.extend(deducted);
                    }
                    Some(Decision::Failed(payment)) => {
                        assert!(self.failed.insert(number, payment.reason).is_none(), "failed twice");
                    }
                    None => {}
                }
            }
            Happening::Cancelled(number) => {
                let payment = self.payments.entry(number).or_insert(Payment::Pending);
                if let Some(refund) = payment.refund(&cancelled(number), &mut self.accounts, entry_id) {
                    assert_eq!(refund.refunded.is_some(), refund.payment.total > Won::ZERO);
                    assert!(self.refunded.insert(number), "refunded twice");
                    self.entries.extend(refund.refunded);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_when_and_how_often_the_ledger_adds_up(happenings in vec(happening(), 0..60)) {
        let mut cashier = Cashier::new();
        for (step, happening) in happenings.iter().enumerate() {
            cashier.hear(step as u128, happening);
        }

        let mut running: BTreeMap<UserId, (i64, Option<DateTime<Utc>>)> = BTreeMap::new();
        for entry in &cashier.entries {
            let (balance, last_at) = running.entry(entry.user_id.clone()).or_default();
            *balance += entry.delta();
            prop_assert_eq!(*balance, entry.balance.get(), "each entry says the balance after it");
            prop_assert!(*balance >= 0);
            prop_assert!(last_at.is_none_or(|last| last < entry.at), "strictly later than the entry before");
            *last_at = Some(entry.at);
        }
        for (user_id, (balance, last_at)) in running {
            let account = cashier.accounts.of(&user_id);
            prop_assert_eq!((account.balance.get(), account.last_at), (balance, last_at));
            prop_assert!(account.balance <= account.charged);
        }

        prop_assert!(cashier.refunded.is_subset(&cashier.completed), "only what was paid goes back");
        prop_assert!(cashier.completed.iter().all(|number| !cashier.failed.contains_key(number)));
        for number in cashier.completed.iter().filter(|number| **number > 0) {
            let of_order = |kind: &str| {
                let order_id = reserved(*number).order_id;
                cashier.entries.iter().filter(|e| e.kind.order_id() == Some(order_id) && e.kind.as_str() == kind).count()
            };
            prop_assert_eq!(of_order("DEDUCTED"), 1);
            prop_assert_eq!(of_order("REFUNDED"), usize::from(cashier.refunded.contains(number)));
        }
    }

    #[test]
    fn an_order_that_was_cancelled_first_is_never_paid(
        number in 0..ORDERS, before in vec(happening(), 0..20), after in vec(happening(), 0..20),
    ) {
        let of_it = |happening: &Happening| matches!(happening, Happening::Reserved(n) if *n == number);
        let before = before.into_iter().filter(|happening| !of_it(happening));
        let history = before.chain([Happening::Cancelled(number)]).chain(after).chain([Happening::Reserved(number)]);
        let mut cashier = Cashier::new();
        for (step, happening) in history.enumerate() {
            cashier.hear(step as u128, &happening);
        }
        prop_assert_eq!(cashier.failed.get(&number), Some(&PaymentRefusal::OrderCancelled));
        prop_assert!(!cashier.completed.contains(&number));
    }

    #[test]
    fn balances_fold_to_the_same_whatever_is_repeated_and_however_users_and_topics_interleave(
        happenings in vec(happening(), 0..60),
        (repeats, seed) in (vec(any::<prop::sample::Index>(), 0..40), any::<u64>()),
    ) {
        let mut cashier = Cashier::new();
        for (step, happening) in happenings.iter().enumerate() {
            cashier.hear(step as u128, happening);
        }
        let mut delivered = cashier.entries.clone();
        if !delivered.is_empty() {
            delivered.extend(repeats.iter().map(|repeat| repeat.get(&cashier.entries).clone()));
        }
        // Any order: a fold that holds for this one holds for each of the topics' interleavings.
        delivered.sort_by_key(|entry| entry.entry_id.uuid().as_u128().wrapping_mul(u128::from(seed | 1)) % 997);

        let balances: Balances = delivered.iter().collect();
        prop_assert_eq!(balances.entries(), cashier.entries.len());
        prop_assert_eq!(balances.duplicates(), (delivered.len() - cashier.entries.len()) as u64);
        for (user_id, folded) in balances.users() {
            let account = cashier.accounts.of(user_id);
            prop_assert_eq!((folded.balance, Some(folded.last_at)), (account.balance.get(), account.last_at));
        }
    }

    #[test]
    fn a_refund_always_fits_however_much_was_charged_meanwhile(
        paid in 1..=9_007_199_254_740_991_i64, later in vec(1..=9_007_199_254_740_991_i64, 0..8),
    ) {
        let mut account = Account::empty(user(0));
        account.charge(won(paid), stamp(1, 0)).expect("nothing was charged before");
        let order_id = OrderId::new(Uuid::from_u128(1));
        account.deduct(order_id, won(paid), stamp(2, 0)).expect("there is just enough");
        for (id, amount) in (10..).zip(later) {
            let _ = account.charge(won(amount), stamp(id, 0));
        }
        let entry = account.refund(order_id, won(paid), CancelReason::Timeout, stamp(3, 0)).expect("something was paid");
        prop_assert_eq!(entry.balance, account.charged);
    }
}

#[test]
fn a_clock_that_stands_still_or_goes_back_does_not_reorder_the_ledger() {
    let mut account = Account::empty(user(0));
    let at = |account: &mut Account, id, micros| account.charge(won(1), stamp(id, micros)).expect("open").at;
    assert_eq!(at(&mut account, 1, 500), clock(500));
    assert_eq!(at(&mut account, 2, 500), clock(501));
    assert_eq!(at(&mut account, 3, 100), clock(502));
    assert_eq!(at(&mut account, 4, 503), clock(500) + TimeDelta::microseconds(3));
}

#[test]
fn what_stands_in_the_way_of_a_payment_is_told_in_this_order_closed_limit_balance() {
    let order_id = OrderId::new(Uuid::from_u128(1));
    let mut account = Account::empty(user(0));
    let refused =
        |account: &mut Account, total| account.deduct(order_id, won(total), stamp(1, 0)).expect_err("refused");
    assert_eq!(refused(&mut account, 10), PaymentRefusal::InsufficientPoints);
    account.limit_per_payment = Some(won(9));
    assert_eq!(refused(&mut account, 10), PaymentRefusal::LimitExceeded);
    account.state = AccountState::Closed;
    assert_eq!(refused(&mut account, 10), PaymentRefusal::AccountClosed);
    assert_eq!(account.charge(won(1), stamp(2, 0)), Err(ChargeRefused::AccountClosed));
    assert_eq!((account.balance, account.last_at), (Won::ZERO, None), "nothing happened");
}

#[test]
fn a_payment_up_to_the_limit_and_down_to_the_last_point_is_taken() {
    let mut account = Account::empty(user(0));
    account.charge(won(100), stamp(1, 0)).expect("open");
    account.limit_per_payment = Some(won(100));
    let entry =
        account.deduct(OrderId::new(Uuid::from_u128(1)), won(100), stamp(2, 0)).expect("paid").expect("an entry");
    assert_eq!((entry.delta(), entry.balance), (-100, Won::ZERO));
}
