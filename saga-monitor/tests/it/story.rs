//! What is told of one saga: its events, a second apart, in one trace.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use common_events::{
    CancelReason, ClaimRefusal, CouponRefusal, EventData, EventId, IssuedCouponId, OrderId, StockRefusal, TraceParent,
    UserId, Won, envelope,
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed, Discount,
        OrderCancelled, OrderConfirmed, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved, PaymentCompleted,
        PaymentRefunded, PointDeducted, PointRefunded, StockDeductFailed, StockDeducted, StockRestored, v1,
    },
    ids::EntryId,
};
use service_runtime::telemetry;
use uuid::Uuid;

/// What an order of these tests costs.
pub(crate) const TOTAL: i64 = 24_000;

/// An event, ready to lie on its topic.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) topic: &'static str,
    pub(crate) id: EventId,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) order: OrderId,
    pub(crate) trace: TraceParent,
    pub(crate) told: Vec<Told>,
    pub(crate) next_at: DateTime<Utc>,
    pub(crate) lines: Vec<OrderLine>,
    pub(crate) coupon: Option<IssuedCouponId>,
}

impl Story {
    /// Of an order of these products, told an hour ago.
    pub(crate) fn of(products: &[&str]) -> Self {
        let line = |product: &&str| OrderLine {
            product_id: product.parse().expect("a product id"),
            name: format!("The {product}"),
            quantity: 1.try_into().expect("a quantity"),
            unit_price: won(12_000),
            amount: won(12_000),
        };
        Self {
            order: OrderId::new(Uuid::now_v7()),
            trace: telemetry::root(),
            told: Vec::new(),
            next_at: Utc::now().trunc_subsecs(3) - TimeDelta::hours(1),
            lines: products.iter().map(line).collect(),
            coupon: None,
        }
    }

    /// Two lines, from the first event to the confirmation.
    pub(crate) fn of_a_confirmed_order() -> Self {
        Self::of(&["tea", "cup"]).created().placed().deducted().reserved().paid(TOTAL).confirmed()
    }

    /// The same with a coupon, then cancelled, and everything undone.
    pub(crate) fn of_a_compensated_order() -> Self {
        let held = Self::of(&["tea", "cup"]).with_coupon().created().placed().deducted().coupon_used().reserved();
        held.paid(TOTAL).confirmed().cancelled(4).restored().coupon_restored().refunded()
    }

    /// A request for a coupon.
    pub(crate) fn of_a_request() -> Self {
        let story = Self::of(&[]);
        let admitted_at = story.next_at;
        let (coupon_id, user_id) = (autumn(), kim());
        story.tell(CouponIssueRequested { coupon_id, user_id, rank: None, epoch: 1, admitted_at })
    }

    pub(crate) fn with_coupon(mut self) -> Self {
        self.coupon = Some(IssuedCouponId::new(Uuid::now_v7()));
        self
    }

    /// When its last event happened.
    pub(crate) fn last_at(&self) -> DateTime<Utc> {
        self.told.last().expect("something was told").at
    }

    /// The id of its first event on this topic.
    pub(crate) fn id_of(&self, topic: &str) -> EventId {
        self.told.iter().find(|told| told.topic == topic).unwrap_or_else(|| panic!("no {topic} was told")).id
    }

    /// Without the events of this topic: they got lost.
    pub(crate) fn without(mut self, topic: &str) -> Self {
        self.told.retain(|told| told.topic != topic);
        self
    }

    pub(crate) fn tell<T: EventData>(mut self, data: T) -> Self {
        let event = envelope::Event {
            id: EventId::new(Uuid::now_v7()),
            time: self.next_at,
            subject: data.key().into_owned(),
            trace: telemetry::child_of(self.trace),
            data,
        };
        let value = envelope::encode(&event).expect("events are JSON");
        self.told.push(Told { topic: T::TOPIC.name(), id: event.id, key: event.subject, value, at: event.time });
        self.next_at += TimeDelta::seconds(1);
        self
    }

    pub(crate) fn created(self) -> Self {
        let data = OrderCreated {
            order_id: self.order,
            order_version: 1,
            user_id: kim(),
            issued_coupon_id: self.coupon,
            lines: self.lines.clone(),
            subtotal: won(TOTAL),
            created_at: self.next_at,
        };
        self.tell(data)
    }

    pub(crate) fn placed(self) -> Self {
        self.each_line(|order_id, line| OrderLinePlaced {
            order_id,
            order_version: 1,
            user_id: kim(),
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        })
    }

    pub(crate) fn deducted(self) -> Self {
        self.each_line(|order_id, line| StockDeducted {
            order_id,
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        })
    }

    pub(crate) fn deduct_failed(self) -> Self {
        self.each_line(|order_id, line| StockDeductFailed {
            order_id,
            product_id: line.product_id.clone(),
            quantity: line.quantity,
            reason: StockRefusal::OutOfStock,
        })
    }

    pub(crate) fn restored(self) -> Self {
        self.each_line(|order_id, line| StockRestored {
            order_id,
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        })
    }

    pub(crate) fn coupon_used(self) -> Self {
        let (order_id, issued_coupon_id) = (self.order, self.coupon.expect("a coupon"));
        self.tell(CouponUsed { order_id, issued_coupon_id, coupon_id: autumn(), user_id: kim(), discount: Won::ZERO })
    }

    pub(crate) fn coupon_use_failed(self) -> Self {
        let (order_id, issued_coupon_id) = (self.order, self.coupon.expect("a coupon"));
        self.tell(CouponUseFailed { order_id, issued_coupon_id, reason: CouponRefusal::Expired })
    }

    pub(crate) fn coupon_restored(self) -> Self {
        let (order_id, issued_coupon_id) = (self.order, self.coupon.expect("a coupon"));
        self.tell(CouponRestored { order_id, issued_coupon_id })
    }

    pub(crate) fn reserved(self) -> Self {
        let data = OrderReserved {
            order_id: self.order,
            order_version: 2,
            user_id: kim(),
            lines: self.lines.clone(),
            subtotal: won(TOTAL),
            discount: Won::ZERO,
            total: won(TOTAL),
        };
        self.tell(data)
    }

    /// The points go with the payment; what the payment says was paid is `total`.
    pub(crate) fn paid(self, total: i64) -> Self {
        let (order_id, at) = (self.order, self.next_at);
        let deducted = PointDeducted {
            entry_id: EntryId::new(Uuid::now_v7()),
            user_id: kim(),
            order_id,
            amount: won(TOTAL),
            balance: Won::ZERO,
            at,
        };
        let completed = PaymentCompleted {
            order_id,
            user_id: kim(),
            lines: self.lines.clone(),
            discount: Won::ZERO,
            total: won(total),
            paid_at: at,
        };
        self.tell(deducted).tell(completed)
    }

    pub(crate) fn refunded(self) -> Self {
        let (order_id, at) = (self.order, self.next_at);
        let points = PointRefunded {
            entry_id: EntryId::new(Uuid::now_v7()),
            user_id: kim(),
            order_id,
            amount: won(TOTAL),
            balance: won(TOTAL),
            reason: CancelReason::Customer,
            at,
        };
        let payment = PaymentRefunded {
            order_id,
            user_id: kim(),
            lines: self.lines.clone(),
            discount: Won::ZERO,
            total: won(TOTAL),
            paid_at: at,
            refunded_at: at,
            reason: CancelReason::Customer,
        };
        self.tell(points).tell(payment)
    }

    pub(crate) fn confirmed(self) -> Self {
        let (order_id, confirmed_at) = (self.order, self.next_at);
        self.tell(OrderConfirmed { order_id, order_version: 3, user_id: kim(), total: won(TOTAL), confirmed_at })
    }

    pub(crate) fn cancelled(self, order_version: i32) -> Self {
        let data = OrderCancelled {
            order_id: self.order,
            order_version,
            user_id: kim(),
            lines: self.lines.clone(),
            issued_coupon_id: self.coupon,
            reason: CancelReason::Customer,
            note: None,
            cancelled_at: self.next_at,
        };
        self.tell(data)
    }

    /// The same in its first version.
    pub(crate) fn cancelled_in_version_1(self, order_version: i32) -> Self {
        let data = v1::OrderCancelled {
            order_id: self.order,
            order_version,
            user_id: kim(),
            lines: self.lines.clone(),
            issued_coupon_id: self.coupon,
            reason: v1::Reason::Customer.into(),
            note: None,
            cancelled_at: self.next_at,
        };
        self.tell(data)
    }

    pub(crate) fn issued(self) -> Self {
        let request_id = Some(self.id_of("coupon-issue-requested"));
        let issued_at = self.next_at;
        self.tell(CouponIssued {
            coupon_id: autumn(),
            user_id: kim(),
            issued_coupon_id: IssuedCouponId::new(Uuid::now_v7()),
            request_id,
            rank: None,
            discount: Discount::Amount { value: won(1_000) },
            valid_until: None,
            issued_at,
        })
    }

    pub(crate) fn rejected(self) -> Self {
        let request_id = Some(self.id_of("coupon-issue-requested"));
        self.tell(CouponIssueRejected {
            coupon_id: autumn(),
            user_id: kim(),
            request_id,
            reason: ClaimRefusal::SoldOut,
        })
    }

    fn each_line<T: EventData>(self, data: impl Fn(OrderId, &OrderLine) -> T) -> Self {
        let (order, lines) = (self.order, self.lines.clone());
        lines.iter().fold(self, |story, line| story.tell(data(order, line)))
    }
}

fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn kim() -> UserId {
    "kim".parse().expect("a user id")
}

fn autumn() -> common_events::CouponId {
    "autumn".parse().expect("a coupon id")
}
