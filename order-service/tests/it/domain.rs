//! What holds for an order whatever happens to it, in any order and however often.

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{
    CancelReason, CouponRefusal, IssuedCouponId, OrderId, PaymentRefusal, ProductId, Quantity, ReasonCode,
    StockRefusal, TraceParent, UserId, Won, events::OrderCancelled,
};
use order_service::domain::{
    AskedLine, Basket, CancelledBy, Happened, Hold, Misfit, Order, Paying, Payment, Placed, Placing, Product, Refusal,
    Status,
};
use proptest::{collection::vec, prelude::*, sample::subsequence};
use uuid::Uuid;

/// Something that can happen to an order.
#[derive(Debug, Clone)]
enum Fact {
    StockHeld(usize),
    StockRefused(usize, StockRefusal),
    CouponHeld(i64),
    CouponRefused(CouponRefusal),
    Paid,
    NotPaid(PaymentRefusal),
    Refunded,
    TimedOut,
    CancelledByHand(CancelledBy),
}

const LINES: usize = 3;
/// What each line asks for.
const PIECES: i64 = 2;

fn start() -> DateTime<Utc> {
    "2026-11-21T06:00:00Z".parse().expect("a time")
}

fn later() -> DateTime<Utc> {
    start() + TimeDelta::minutes(15)
}

fn product(line: usize) -> ProductId {
    format!("product-{line}").parse().expect("an id")
}

fn coupon() -> IssuedCouponId {
    IssuedCouponId::new(Uuid::from_u128(9))
}

fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn quantity(pieces: i64) -> Quantity {
    pieces.try_into().expect("a quantity")
}

fn kim() -> UserId {
    "kim".parse().expect("an id")
}

fn trace() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a trace")
}

fn place(asked: Vec<AskedLine>, price: Won, issued_coupon_id: Option<IssuedCouponId>) -> Result<Placed, Refusal> {
    let products: Vec<Product> =
        (0..LINES).map(|line| Product { id: product(line), name: format!("Product {line}"), price }).collect();
    let placing =
        Placing { order_id: OrderId::new(Uuid::from_u128(1)), user_id: kim(), issued_coupon_id, trace: trace() };
    Order::place(placing, Basket::new(asked)?, &products, start())
}

fn new_order(lines: usize, issued_coupon_id: Option<IssuedCouponId>) -> Order {
    let asked = (0..lines).map(|line| AskedLine { product_id: product(line), quantity: quantity(PIECES) }).collect();
    place(asked, won(1_000), issued_coupon_id).expect("a good order").order
}

/// What it came to; payments are of what the order costs.
fn try_apply(order: &mut Order, fact: &Fact) -> Result<Vec<Happened>, Misfit> {
    let (now, pieces, kim) = (later(), quantity(PIECES), kim());
    let paying = Paying { user_id: &kim, total: order.total() };
    let cancelled = |cancelled: Option<OrderCancelled>| Ok(cancelled.map(Happened::Cancelled).into_iter().collect());
    match fact {
        Fact::StockHeld(line) => order.hold_stock(&product(*line), pieces, now),
        Fact::StockRefused(line, reason) => order.refuse_stock(&product(*line), pieces, *reason, now),
        Fact::CouponHeld(discount) => order.hold_coupon(coupon(), &kim, won(*discount), now),
        Fact::CouponRefused(reason) => order.refuse_coupon(coupon(), *reason, now),
        Fact::Paid => order.complete_payment(paying, now),
        Fact::NotPaid(reason) => order.fail_payment(paying, *reason, now),
        Fact::Refunded => order.refund_payment(paying).map(|()| Vec::new()),
        Fact::TimedOut => cancelled(order.time_out(now)),
        Fact::CancelledByHand(who) => cancelled(order.cancel_by_hand(*who, None, now)),
    }
}

/// The same. A fact about a line or coupon that the order doesn't have comes to nothing, as does one that comes
/// before it can be held against the order.
fn apply(order: &mut Order, fact: &Fact) -> Vec<Happened> {
    try_apply(order, fact).unwrap_or_default()
}

/// In this order, but for what comes too early: that is tried again after all else, as on the ladder.
fn apply_all(order: &mut Order, facts: &[Fact]) -> Vec<Happened> {
    let (mut happened, mut too_early) = (Vec::new(), Vec::new());
    for fact in facts {
        match try_apply(order, fact) {
            Err(Misfit::NotPricedYet(_)) => too_early.push(fact),
            outcome => happened.extend(outcome.unwrap_or_default()),
        }
    }
    happened.extend(too_early.into_iter().flat_map(|fact| apply(order, fact)));
    happened
}

/// Answers that nobody asked for, each about something else than the order: to be told as they are.
fn apply_foreign(order: &mut Order) -> Vec<Result<Vec<Happened>, Misfit>> {
    let (now, kim, lee) = (later(), kim(), "lee".parse().expect("an id"));
    let (too_few, pieces) = (quantity(PIECES - 1), quantity(PIECES));
    let (of_lee, too_little) = (
        Paying { user_id: &lee, total: order.total() },
        Paying { user_id: &kim, total: won(order.total().get().abs_diff(1).try_into().expect("an amount")) },
    );
    let another_coupon = IssuedCouponId::new(Uuid::from_u128(10));
    vec![
        order.hold_stock(&product(0), too_few, now),
        order.refuse_stock(&product(0), too_few, StockRefusal::OutOfStock, now),
        order.hold_stock(&product(LINES), pieces, now),
        order.hold_coupon(coupon(), &lee, won(1), now),
        order.hold_coupon(another_coupon, &kim, won(1), now),
        order.refuse_coupon(another_coupon, CouponRefusal::Used, now),
        order.complete_payment(of_lee, now),
        order.complete_payment(too_little, now),
        order.fail_payment(of_lee, PaymentRefusal::AccountClosed, now),
        order.fail_payment(too_little, PaymentRefusal::AccountClosed, now),
        order.refund_payment(of_lee).map(|()| Vec::new()),
        order.refund_payment(too_little).map(|()| Vec::new()),
    ]
}

/// One of these, or one of a later release.
fn reason<R: From<ReasonCode> + Clone + std::fmt::Debug + 'static>(known: &'static [R]) -> impl Strategy<Value = R> {
    let later: ReasonCode = "RECALLED".parse().expect("a code");
    prop_oneof![8 => prop::sample::select(known), 1 => Just(R::from(later))]
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        8 => (0..LINES).prop_map(Fact::StockHeld),
        1 => (0..LINES, reason(StockRefusal::KNOWN)).prop_map(|(line, reason)| Fact::StockRefused(line, reason)),
        4 => (0..10_000_i64).prop_map(Fact::CouponHeld),
        1 => reason(CouponRefusal::KNOWN).prop_map(Fact::CouponRefused),
        4 => Just(Fact::Paid),
        1 => reason(PaymentRefusal::KNOWN).prop_map(Fact::NotPaid),
        1 => Just(Fact::Refunded),
        1 => Just(Fact::TimedOut),
        1 => prop_oneof![Just(CancelledBy::Owner), Just(CancelledBy::Operator)].prop_map(Fact::CancelledByHand),
    ]
}

fn any_order() -> impl Strategy<Value = Order> {
    (1..=LINES, any::<bool>()).prop_map(|(lines, with_coupon)| new_order(lines, with_coupon.then(coupon)))
}

/// Everything that a good order hears, in any order, some of it twice.
fn good_facts() -> impl Strategy<Value = Vec<Fact>> {
    let all = || {
        let stock = (0..LINES).map(Fact::StockHeld);
        stock.chain([Fact::CouponHeld(700), Fact::Paid]).collect::<Vec<_>>()
    };
    subsequence(all(), 0..=LINES + 2).prop_flat_map(move |again| Just([all(), again].concat()).prop_shuffle())
}

proptest! {
    #[test]
    fn an_order_is_reserved_confirmed_and_cancelled_once_at_most_and_in_that_order(
        mut order in any_order(), facts in vec(fact(), 0..24)
    ) {
        let mut steps = Vec::new();
        for fact in &facts {
            let version = order.version;
            let happened = apply(&mut order, fact);
            prop_assert_eq!(usize::try_from(order.version - version).expect("it grows"), happened.len());
            steps.extend(happened.iter().map(|happened| match happened {
                Happened::Reserved(reserved) => (1, reserved.order_version),
                Happened::Confirmed(confirmed) => (2, confirmed.order_version),
                Happened::Cancelled(cancelled) => (3, cancelled.order_version),
            }));
        }
        prop_assert!(steps.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1), "{:?}", steps);
        let last = match steps.last() {
            None => Status::Pending,
            Some((1, _)) => Status::AwaitingPayment,
            Some((2, _)) => Status::Confirmed,
            Some(_) => Status::Cancelled,
        };
        prop_assert_eq!(order.status, last);
        prop_assert_eq!(order.reason.is_some(), last == Status::Cancelled);
    }

    #[test]
    fn what_is_to_be_paid_is_what_was_told_and_never_below_nothing(
        mut order in any_order(), facts in vec(fact(), 0..24)
    ) {
        let mut told = None;
        for fact in &facts {
            for happened in apply(&mut order, fact) {
                match happened {
                    Happened::Reserved(reserved) => {
                        prop_assert!(order.lines.iter().all(|line| line.stock == Hold::Held));
                        prop_assert!(order.coupon.is_none_or(|coupon| coupon.hold == Hold::Held));
                        told = Some(reserved.total);
                    }
                    Happened::Confirmed(confirmed) => {
                        prop_assert_eq!(order.payment, Some(Payment::Completed));
                        prop_assert_eq!(Some(confirmed.total), told);
                    }
                    Happened::Cancelled(_) => {}
                }
            }
            prop_assert!(order.discount <= order.subtotal);
            if let Some(total) = told {
                prop_assert_eq!(order.total(), total);
            }
        }
    }

    #[test]
    fn whatever_is_heard_again_changes_nothing(mut order in any_order(), facts in vec(fact(), 1..24)) {
        for fact in &facts {
            apply(&mut order, fact);
            let before = order.clone();
            prop_assert_eq!(apply(&mut order, fact), vec![]);
            prop_assert_eq!(&order, &before);
        }
        let ended = order.clone();
        for fact in facts.iter().filter(|_| ended.status == Status::Cancelled) {
            prop_assert_eq!(apply(&mut order, fact), vec![]);
            prop_assert_eq!((order.version, order.reason, order.total()), (ended.version, ended.reason, ended.total()));
        }
    }

    #[test]
    fn a_good_order_is_confirmed_in_whatever_order_its_answers_come(
        mut order in any_order(), facts in good_facts()
    ) {
        let expected = if order.coupon.is_some() { 700 } else { 0 };
        let happened = apply_all(&mut order, &facts);
        prop_assert!(matches!(happened[..], [Happened::Reserved(_), Happened::Confirmed(_)]), "{:?}", happened);
        prop_assert_eq!((order.status, order.discount), (Status::Confirmed, won(expected)));
    }
}

proptest! {
    #[test]
    fn an_answer_that_is_about_something_else_changes_nothing(mut order in any_order(), facts in vec(fact(), 0..24)) {
        for fact in &facts {
            let before = order.clone();
            for outcome in apply_foreign(&mut order) {
                prop_assert!(outcome.is_err(), "{:?}", outcome);
            }
            prop_assert_eq!(&order, &before);
            apply(&mut order, fact);
        }
    }
}

#[test]
fn a_payment_fits_as_soon_as_it_is_known_what_is_to_be_paid() {
    let mut order = new_order(1, Some(coupon()));
    assert_eq!(try_apply(&mut order, &Fact::Paid), Err(Misfit::NotPricedYet(order.id)));
    apply(&mut order, &Fact::CouponHeld(500));
    let (kim, full) = (kim(), order.subtotal);
    let refused = order.complete_payment(Paying { user_id: &kim, total: full }, later());
    assert_eq!(refused, Err(Misfit::OtherTotal(order.id, won(1_500), won(2_000))));
    assert_eq!(try_apply(&mut order, &Fact::Paid), Ok(vec![]));
    assert!(matches!(apply(&mut order, &Fact::StockHeld(0))[..], [Happened::Reserved(_), Happened::Confirmed(_)]));
}

#[test]
fn only_an_open_order_times_out() {
    let mut order = new_order(1, None);
    assert_eq!(order.time_out(later()).expect("it is open").reason, CancelReason::Timeout);
    assert_eq!(order.time_out(later()), None);

    let mut confirmed = new_order(1, None);
    apply(&mut confirmed, &Fact::StockHeld(0));
    apply(&mut confirmed, &Fact::Paid);
    assert_eq!(confirmed.time_out(later()), None);
}

#[test]
fn the_time_of_an_order_never_goes_back() {
    let mut order = new_order(1, None);
    let cancelled = order.cancel_by_hand(CancelledBy::Owner, None, start() - TimeDelta::minutes(1));
    assert_eq!((cancelled.expect("it was open").cancelled_at, order.updated_at), (start(), start()));
}

#[test]
fn a_discount_above_the_subtotal_leaves_nothing_to_pay() {
    let mut order = new_order(1, Some(coupon()));
    apply(&mut order, &Fact::CouponHeld(9_000));
    assert_eq!((order.subtotal, order.discount, order.total()), (won(2_000), won(2_000), Won::ZERO));
}

#[test]
fn the_total_of_an_order_can_be_held() {
    let asked = |pieces: &[i64]| {
        let line = |(line, pieces): (usize, &i64)| AskedLine { product_id: product(line), quantity: quantity(*pieces) };
        pieces.iter().enumerate().map(line).collect::<Vec<_>>()
    };
    let dear = won(Won::MAX.get() - 1);
    assert!(place(asked(&[1]), dear, None).is_ok());
    assert_eq!(place(asked(&[1, 2]), dear, None), Err(Refusal::TotalTooLarge { line: 1 }));
    assert_eq!(place(asked(&[1, 1]), dear, None), Err(Refusal::TotalTooLarge { line: 1 }));
    assert_eq!(place(asked(&[10_000]), Won::MAX, None), Err(Refusal::TotalTooLarge { line: 0 }));
}
