//! Events of every version of every type, as they are encoded: the richest and the barest of each.

use chrono::{DateTime, Utc};
use common_events::{
    CancelReason, ClaimRefusal, CouponId, CouponRefusal, Event, EventData, EventId, IssuedCouponId, OrderId,
    PaymentRefusal, Percent, Quantity, StockRefusal, Topic, UserId, Won,
    envelope::{DecodeError, decode, encode_newest},
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed, Discount,
        OrderCancelled, OrderConfirmed, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved, PaymentCompleted,
        PaymentFailed, PaymentRefunded, PointCharged, PointDeducted, PointRefunded, ProductCatalog, StockDeductFailed,
        StockDeducted, StockRestored, v1,
    },
    ids::EntryId,
};
use serde_json::Value;
use uuid::Uuid;

/// One encoded event, and how the reader of its type reads something: as what the newest version would be.
pub(crate) struct Sample {
    pub(crate) topic: Topic,
    pub(crate) version: u32,
    pub(crate) event: Value,
    pub(crate) read_as_newest: fn(&[u8]) -> Result<Value, DecodeError>,
}

fn of<T: EventData>(data: T) -> Sample {
    older::<T, T>(data)
}

/// A sample of an older version than `Newest`.
fn older<Newest: EventData, T: EventData>(data: T) -> Sample {
    let event = Event {
        id: EventId::new(Uuid::from_u128(42)),
        time: time(),
        subject: data.key().into_owned(),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a trace"),
        data,
    };
    Sample {
        topic: T::TOPIC,
        version: T::VERSION,
        event: json_of(&event),
        read_as_newest: |value| decode::<Newest>(value).map(|event| json_of(&event)),
    }
}

fn json_of<T: EventData>(event: &Event<T>) -> Value {
    serde_json::from_slice(&encode_newest(event).expect("encodes")).expect("is JSON")
}

fn time() -> DateTime<Utc> {
    "2026-11-21T06:00:00.123456Z".parse().expect("a time")
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an id")
}

fn order_id() -> OrderId {
    OrderId::new(Uuid::from_u128(7))
}

fn issued_coupon_id() -> IssuedCouponId {
    IssuedCouponId::new(Uuid::from_u128(8))
}

fn entry_id() -> EntryId {
    EntryId::new(Uuid::from_u128(9))
}

fn request_id() -> EventId {
    EventId::new(Uuid::from_u128(11))
}

fn percent(value: i64) -> Percent {
    value.try_into().expect("a percentage")
}

fn won(amount: i64) -> Won {
    Won::try_from(amount).expect("an amount")
}

fn pieces(count: i64) -> Quantity {
    Quantity::try_from(count).expect("a quantity")
}

fn lines() -> Vec<OrderLine> {
    vec![OrderLine {
        product_id: id("tea:1"),
        name: "Green tea".to_owned(),
        quantity: pieces(2),
        unit_price: won(6_000),
        amount: won(12_000),
    }]
}

fn order_created(issued_coupon_id: Option<IssuedCouponId>) -> Sample {
    of(OrderCreated {
        order_id: order_id(),
        order_version: 1,
        user_id: id("kim@example.com"),
        issued_coupon_id,
        lines: lines(),
        subtotal: won(12_000),
        created_at: time(),
    })
}

fn order_cancelled(issued_coupon_id: Option<IssuedCouponId>, note: Option<&str>) -> [Sample; 2] {
    let second = OrderCancelled {
        order_id: order_id(),
        order_version: 3,
        user_id: id("kim"),
        lines: lines(),
        issued_coupon_id,
        reason: CancelReason::Customer,
        note: note.map(str::to_owned),
        cancelled_at: time(),
    };
    let OrderCancelled { order_id, order_version, user_id, lines, note, cancelled_at, .. } = second.clone();
    let reason = v1::Reason::Customer.into();
    let first =
        v1::OrderCancelled { order_id, order_version, user_id, lines, issued_coupon_id, reason, note, cancelled_at };
    [older::<OrderCancelled, _>(first), of(second)]
}

fn coupon_issue_requested(rank: Option<i64>) -> Sample {
    of(CouponIssueRequested { coupon_id: id("spring"), user_id: id("kim"), rank, epoch: 1, admitted_at: time() })
}

fn coupon_issued(rank: Option<i64>, discount: Discount, valid_until: Option<DateTime<Utc>>) -> Sample {
    of(CouponIssued {
        coupon_id: id("spring"),
        user_id: id("kim"),
        issued_coupon_id: issued_coupon_id(),
        request_id: rank.map(|_| request_id()),
        rank,
        discount,
        valid_until,
        issued_at: time(),
    })
}

fn coupon_issue_rejected(request_id: Option<EventId>) -> [Sample; 2] {
    let (coupon_id, user_id) = (id::<CouponId>("spring"), id::<UserId>("kim"));
    let second = CouponIssueRejected {
        coupon_id: coupon_id.clone(),
        user_id: user_id.clone(),
        request_id,
        reason: ClaimRefusal::SoldOut,
    };
    let first = v1::CouponIssueRejected { coupon_id, user_id, request_id, reason: v1::Reason::SoldOut.into() };
    [older::<CouponIssueRejected, _>(first), of(second)]
}

/// By version, and of each version the richest first.
fn by_version(richest: [Sample; 2], barest: [Sample; 2]) -> Vec<Sample> {
    let ([first, second], [bare_first, bare_second]) = (richest, barest);
    vec![first, bare_first, second, bare_second]
}

/// By version. A new topic doesn't compile until it has its samples here.
pub(crate) fn samples(topic: Topic) -> Vec<Sample> {
    let (order_id, user_id, product_id, quantity) = (order_id(), id::<UserId>("kim"), id("tea:1"), pieces(2));
    let (issued_coupon_id, entry_id) = (issued_coupon_id(), entry_id());
    let (lines, discount, total, at) = (lines(), won(2_000), won(10_000), time());
    match topic {
        Topic::OrderCreated => vec![order_created(Some(issued_coupon_id)), order_created(None)],
        Topic::OrderLinePlaced => {
            vec![of(OrderLinePlaced { order_id, order_version: 1, user_id, product_id, quantity })]
        }
        Topic::StockDeducted => vec![of(StockDeducted { order_id, product_id, quantity })],
        Topic::StockDeductFailed => {
            let (reason, product) = (v1::Reason::OutOfStock.into(), product_id.clone());
            let first = v1::StockDeductFailed { order_id, product_id: product, quantity, reason };
            let second = StockDeductFailed { order_id, product_id, quantity, reason: StockRefusal::OutOfStock };
            vec![older::<StockDeductFailed, _>(first), of(second)]
        }
        Topic::CouponUsed => {
            vec![of(CouponUsed { order_id, issued_coupon_id, coupon_id: id("spring"), user_id, discount })]
        }
        Topic::CouponUseFailed => {
            let first = v1::CouponUseFailed { order_id, issued_coupon_id, reason: v1::Reason::CouponExpired.into() };
            let second = CouponUseFailed { order_id, issued_coupon_id, reason: CouponRefusal::Expired };
            vec![older::<CouponUseFailed, _>(first), of(second)]
        }
        Topic::OrderReserved => vec![of(OrderReserved {
            order_id,
            order_version: 2,
            user_id,
            lines,
            subtotal: won(12_000),
            discount,
            total,
        })],
        Topic::PointCharged => {
            vec![of(PointCharged { entry_id, user_id, amount: won(50_000), balance: Won::MAX, at })]
        }
        Topic::PointDeducted => {
            vec![of(PointDeducted { entry_id, user_id, order_id, amount: total, balance: Won::ZERO, at })]
        }
        Topic::PointRefunded => {
            let (user, reason) = (user_id.clone(), v1::Reason::Timeout.into());
            let (amount, balance) = (total, total);
            let first = v1::PointRefunded { entry_id, user_id: user, order_id, amount, balance, reason, at };
            let reason = CancelReason::Timeout;
            let second = PointRefunded { entry_id, user_id, order_id, amount, balance, reason, at };
            vec![older::<PointRefunded, _>(first), of(second)]
        }
        Topic::PaymentCompleted => {
            vec![of(PaymentCompleted { order_id, user_id, lines, discount, total, paid_at: at })]
        }
        Topic::PaymentFailed => {
            let (user, reason) = (user_id.clone(), v1::Reason::InsufficientPoints.into());
            let first = v1::PaymentFailed { order_id, user_id: user, total, reason };
            let second = PaymentFailed { order_id, user_id, total, reason: PaymentRefusal::InsufficientPoints };
            vec![older::<PaymentFailed, _>(first), of(second)]
        }
        Topic::PaymentRefunded => {
            let (paid_at, refunded_at, reason) = (at, at, v1::Reason::Operator.into());
            let (user, bought) = (user_id.clone(), lines.clone());
            let first = v1::PaymentRefunded {
                order_id,
                user_id: user,
                lines: bought,
                discount,
                total,
                paid_at,
                refunded_at,
                reason,
            };
            let reason = CancelReason::Operator;
            let second = PaymentRefunded { order_id, user_id, lines, discount, total, paid_at, refunded_at, reason };
            vec![older::<PaymentRefunded, _>(first), of(second)]
        }
        Topic::OrderConfirmed => {
            vec![of(OrderConfirmed { order_id, order_version: 3, user_id, total, confirmed_at: at })]
        }
        Topic::OrderCancelled => {
            by_version(order_cancelled(Some(issued_coupon_id), Some("changed my mind")), order_cancelled(None, None))
        }
        Topic::StockRestored => vec![of(StockRestored { order_id, product_id, quantity })],
        Topic::CouponRestored => vec![of(CouponRestored { order_id, issued_coupon_id })],
        Topic::CouponIssueRequested => vec![coupon_issue_requested(Some(1)), coupon_issue_requested(None)],
        Topic::CouponIssued => vec![
            coupon_issued(Some(1), Discount::Percent { value: percent(10), max: Some(won(5_000)) }, Some(at)),
            coupon_issued(None, Discount::Percent { value: percent(10), max: None }, None),
            coupon_issued(None, Discount::Amount { value: won(2_000) }, None),
        ],
        Topic::CouponIssueRejected => {
            by_version(coupon_issue_rejected(Some(request_id())), coupon_issue_rejected(None))
        }
        Topic::ProductCatalog => {
            vec![of(ProductCatalog { product_id, name: "Green tea".to_owned(), price: won(6_000), version: 4 })]
        }
    }
}
