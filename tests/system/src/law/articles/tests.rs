//! Each article can be broken.

use common_events::{CouponId, IssuedCouponId, OrderId, ProductId, TraceId, UserId};
use uuid::Uuid;

use crate::{
    law::{
        broken,
        evidence::{Counted, Entry, Evidence, Issued, Line, Order},
    },
    shop::{Accepted, OrderStatus, Ranked, Ranking},
    topics::{Fact, FactLine, Told},
};

fn order() -> OrderId {
    OrderId::new(Uuid::from_u128(1))
}

fn trace() -> TraceId {
    "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()
}

fn tea() -> ProductId {
    "tea".parse().unwrap()
}

fn kim() -> UserId {
    "kim".parse().unwrap()
}

fn gift() -> CouponId {
    "gift".parse().unwrap()
}

fn card() -> IssuedCouponId {
    IssuedCouponId::new(Uuid::from_u128(3))
}

fn told(kind: &str, data: Fact) -> Told {
    Told { id: Uuid::now_v7(), kind: kind.to_owned(), traceid: trace(), data }
}

fn entry(kind: &str, delta: i64, order: Option<OrderId>) -> Entry {
    Entry { user: kim(), kind: kind.to_owned(), delta, order, at: chrono::DateTime::UNIX_EPOCH }
}

/// One confirmed order of two pieces at 500 won, of ten on the shelf; a coupon of one, sold out, which the
/// order uses.
fn lawful() -> Evidence {
    let now = chrono::DateTime::UNIX_EPOCH;
    let of_order = Fact { order_id: Some(order()), ..Fact::default() };
    let of_line = Fact { product_id: Some(tea()), ..of_order.clone() };
    let points = |amount| Fact { user_id: Some(kim()), amount: Some(amount), ..Fact::default() };
    let bought = FactLine { product_id: tea(), quantity: 2, amount: 1_000 };
    let mut evidence = Evidence::default();
    evidence.books.accepted = vec![Accepted { order_id: order(), trace_id: trace(), status: OrderStatus::Pending }];
    evidence.books.shelved = [(tea(), 10)].into();
    let line = Line { product_id: tea(), quantity: 2 };
    let placed = Order { status: "CONFIRMED".to_owned(), total: 1_000, lines: vec![line], trace: trace() };
    evidence.orders = [(order(), placed)].into();
    evidence.ledger = vec![entry("CHARGED", 5_000, None), entry("DEDUCTED", -1_000, Some(order()))];
    evidence.balances = [(kim(), 4_000)].into();
    evidence.stock = [(tea(), 8)].into();
    evidence.held = [((order(), tea()), 2)].into();
    evidence.books.coupons = [(gift(), 1)].into();
    evidence.books.admissions = vec![(gift(), kim())];
    evidence.coupons = [(gift(), Counted { quantity: 1, issued: 1, state: "SOLD_OUT".to_owned() })].into();
    evidence.issued = vec![Issued { id: card(), coupon: gift(), user: kim(), rank: Some(1), order: Some(order()) }];
    let claim = Fact { coupon_id: Some(gift()), user_id: Some(kim()), ..Fact::default() };
    evidence.told = vec![
        told("point-charged", points(5_000)),
        told("order-created", of_order.clone()),
        told("order-line-placed", of_line.clone()),
        told("stock-deducted", of_line),
        told("order-reserved", of_order.clone()),
        told("point-deducted", Fact { order_id: Some(order()), ..points(1_000) }),
        told("payment-completed", Fact { lines: vec![bought], paid_at: Some(now), ..of_order.clone() }),
        told("coupon-issue-requested", claim.clone()),
        told("coupon-issued", Fact { issued_coupon_id: Some(card()), ..claim }),
        told("coupon-used", of_order.clone()),
        told("order-confirmed", of_order),
    ];
    let item = Ranked { rank: 1, product_id: tea(), name: "Tea".to_owned(), quantity: 2, amount: 1_000 };
    let ranking =
        Ranking { window: "day".to_owned(), from: now, to: now + chrono::Duration::days(1), items: vec![item] };
    evidence.rankings = vec![("quantity", ranking)];
    evidence.taken_outside = 1;
    evidence
}

fn breaks(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = lawful();
    change(&mut evidence);
    broken(&evidence)
}

fn has(broken: &[String], article: &str) -> bool {
    broken.iter().any(|sentence| sentence.starts_with(article))
}

#[test]
fn a_lawful_suite_breaks_nothing() {
    assert_eq!(broken(&lawful()), Vec::<String>::new());
}

#[test]
fn money_that_is_missing_or_too_much_is_found() {
    assert!(has(&breaks(|evidence| drop(evidence.ledger.pop())), "money"));
    assert!(has(&breaks(|evidence| evidence.ledger.push(entry("REFUNDED", 1_000, Some(order())))), "money"));
    assert!(has(&breaks(|evidence| evidence.ledger.push(entry("DEDUCTED", -1, Some(order())))), "money"));
    assert!(has(&breaks(|evidence| *evidence.balances.get_mut(&kim()).unwrap() += 1), "money"));
    assert!(has(&breaks(|evidence| drop(evidence.told.remove(0))), "money"));
    let stranger = OrderId::new(Uuid::from_u128(2));
    assert!(has(&breaks(|evidence| evidence.ledger.push(entry("DEDUCTED", -1, Some(stranger)))), "money"));
}

#[test]
fn stock_that_is_missing_or_too_much_is_found() {
    assert!(has(&breaks(|evidence| *evidence.stock.get_mut(&tea()).unwrap() += 1), "stock"));
    assert!(has(&breaks(|evidence| evidence.held.clear()), "stock"));
    assert!(has(&breaks(|evidence| evidence.orders.get_mut(&order()).unwrap().status = "CANCELLED".into()), "stock"));
}

#[test]
fn a_lost_or_open_order_is_found() {
    assert!(has(&breaks(|evidence| evidence.orders.clear()), "lost"));
    assert!(has(&breaks(|evidence| drop(evidence.told.remove(1))), "lost"));
    assert!(has(&breaks(|evidence| evidence.orders.get_mut(&order()).unwrap().status = "PENDING".into()), "end"));
    assert!(has(&breaks(|evidence| drop(evidence.told.pop())), "end"));
}

#[test]
fn a_doubled_effect_is_found_and_a_doubled_record_is_not() {
    let again = |evidence: &mut Evidence| evidence.told.push(evidence.told[6].clone());
    assert_eq!(breaks(again), Vec::<String>::new());
    let with_another_id = |evidence: &mut Evidence| {
        let told = Told { id: Uuid::now_v7(), ..evidence.told[6].clone() };
        evidence.told.push(told);
    };
    assert!(has(&breaks(with_another_id), "once"));
}

#[test]
fn a_coupon_too_many_or_lost_is_found() {
    let another = |user: &str| {
        let id = IssuedCouponId::new(Uuid::now_v7());
        Issued { id, coupon: gift(), user: user.parse().unwrap(), rank: Some(1), order: None }
    };
    assert!(has(&breaks(|evidence| evidence.issued.push(another("lee"))), "coupons"));
    assert!(has(&breaks(|evidence| evidence.issued.push(another("kim"))), "coupons"));
    assert!(has(&breaks(|evidence| evidence.issued.clear()), "coupons"));
    assert!(has(&breaks(|evidence| evidence.coupons.clear()), "coupons"));
    assert!(has(&breaks(|evidence| evidence.coupons.get_mut(&gift()).unwrap().quantity = 2), "coupons"));
    assert!(has(&breaks(|evidence| evidence.books.admissions.push((gift(), "lee".parse().unwrap()))), "coupons"));
    assert!(has(&breaks(|evidence| evidence.issued[0].order = None), "coupons"));
    assert!(has(&breaks(|evidence| evidence.orders.get_mut(&order()).unwrap().status = "CANCELLED".into()), "coupons"));
}

#[test]
fn who_asks_again_may_be_told_again_but_not_of_another_coupon() {
    let again = |id: IssuedCouponId| {
        breaks(|evidence| {
            let position = evidence.told.iter().position(|told| told.kind == "coupon-issued").unwrap();
            let mut told = Told { id: Uuid::now_v7(), ..evidence.told[position].clone() };
            told.data.issued_coupon_id = Some(id);
            evidence.told.push(told);
        })
    };
    assert_eq!(again(card()), Vec::<String>::new());
    assert!(has(&again(IssuedCouponId::new(Uuid::now_v7())), "coupons"));
}

#[test]
fn who_was_admitted_and_rejected_is_not_lost() {
    let lee = Fact { coupon_id: Some(gift()), user_id: Some("lee".parse().unwrap()), ..Fact::default() };
    let rejected = |evidence: &mut Evidence| {
        evidence.books.admissions.push((gift(), "lee".parse().unwrap()));
        evidence.told.push(told("coupon-issue-rejected", lee));
    };
    assert_eq!(breaks(rejected), Vec::<String>::new());
}

#[test]
fn a_wrong_ranking_a_dead_letter_and_a_foreign_trace_are_found() {
    assert!(has(&breaks(|evidence| evidence.rankings[0].1.items[0].quantity = 3), "ranking"));
    assert!(has(&breaks(|evidence| evidence.rankings[0].1.items.clear()), "ranking"));
    assert!(has(&breaks(|evidence| drop(evidence.dead.insert("order-service", vec!["x".into()]))), "dead"));
    let other: TraceId = "00000000000000000000000000000001".parse().unwrap();
    assert!(has(&breaks(|evidence| evidence.told[3].traceid = other), "trace"));
}

#[test]
fn a_payment_that_the_platform_never_took_or_took_twice_is_found() {
    assert!(has(&breaks(|evidence| evidence.taken_outside = 0), "outside"));
    assert!(has(&breaks(|evidence| evidence.taken_outside = 2), "outside"));
}
