//! What each event says that matters to its saga: which saga it belongs to, which step it is, and what the
//! rules look at.

use std::fmt;

use common_events::{
    EventId, OrderId, ProductId, Topic, Won,
    envelope::{DecodeError, decode_data},
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed,
        OrderCancelled, OrderConfirmed, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved, PaymentCompleted,
        PaymentFailed, PaymentRefunded, PointDeducted, PointRefunded, StockDeductFailed, StockDeducted, StockRestored,
    },
};

use crate::{
    domain::{Asked, Mark, Says, StepKey},
    flows::Flow,
};

/// Which saga: its flow and what tells it from all others of the flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SagaRef {
    /// What kind of saga it is.
    pub flow: Flow,
    id: String,
}

impl SagaRef {
    /// The saga of an order.
    pub fn of_order(id: OrderId) -> Self {
        Self { flow: Flow::Order, id: id.to_string() }
    }

    /// The saga of a request for a coupon, which its answers name.
    pub fn of_request(id: EventId) -> Self {
        Self { flow: Flow::CouponIssue, id: id.to_string() }
    }

    /// A saga of its own, for a record that says of no saga that it belongs there.
    pub fn of_record(flow: Flow, topic: &str, partition: i32, offset: i64) -> Self {
        Self { flow, id: format!("{topic}:{partition}:{offset}") }
    }

    /// What it is told apart by within its flow: the key of the saga.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for SagaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.flow, self.id)
    }
}

/// An event of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) saga: SagaRef,
    pub(crate) step: StepKey,
    pub(crate) says: Says,
}

/// Reads an event's data, of this schema: an older version as the newest, as handlers do. What a newer one means is
/// not guessed: a later release reads it in the log. `None` for a topic whose events belong to no saga.
///
/// # Errors
/// What is odd about it: that its version is newer, or all of it.
pub(crate) fn told(topic: Topic, schema: &str, data: &str, id: EventId) -> Result<Option<Told>, Mark> {
    macro_rules! read {
        ($data:ident => $told:expr) => {{
            let read: fn($data, EventId) -> Told = $told;
            Ok(Some(read(decode_data(schema, data).map_err(|error| odd(&error))?, id)))
        }};
    }
    match topic {
        Topic::OrderCreated => read!(OrderCreated => |event, _| of_order(event.order_id, Topic::OrderCreated)
            .asking(&event.lines, event.issued_coupon_id.is_some())
            .of_version(event.order_version)),
        Topic::OrderLinePlaced => read!(OrderLinePlaced => |event, _|
            of_line(event.order_id, Topic::OrderLinePlaced, event.product_id).of_version(event.order_version)),
        Topic::StockDeducted => read!(StockDeducted => |event, _|
            of_line(event.order_id, Topic::StockDeducted, event.product_id)),
        Topic::StockDeductFailed => read!(StockDeductFailed => |event, _|
            of_line(event.order_id, Topic::StockDeductFailed, event.product_id)),
        Topic::CouponUsed => read!(CouponUsed => |event, _| of_order(event.order_id, Topic::CouponUsed)),
        Topic::CouponUseFailed => {
            read!(CouponUseFailed => |event, _| of_order(event.order_id, Topic::CouponUseFailed))
        }
        Topic::OrderReserved => read!(OrderReserved => |event, _| of_order(event.order_id, Topic::OrderReserved)
            .of_amount(event.total)
            .of_version(event.order_version)),
        Topic::PointDeducted => read!(PointDeducted => |event, _|
            of_order(event.order_id, Topic::PointDeducted).of_amount(event.amount)),
        Topic::PointRefunded => read!(PointRefunded => |event, _|
            of_order(event.order_id, Topic::PointRefunded).of_amount(event.amount)),
        Topic::PaymentCompleted => read!(PaymentCompleted => |event, _|
            of_order(event.order_id, Topic::PaymentCompleted).of_amount(event.total)),
        Topic::PaymentFailed => read!(PaymentFailed => |event, _| of_order(event.order_id, Topic::PaymentFailed)),
        Topic::PaymentRefunded => read!(PaymentRefunded => |event, _|
            of_order(event.order_id, Topic::PaymentRefunded).of_amount(event.total)),
        Topic::OrderConfirmed => read!(OrderConfirmed => |event, _| of_order(event.order_id, Topic::OrderConfirmed)
            .of_amount(event.total)
            .of_version(event.order_version)),
        Topic::OrderCancelled => read!(OrderCancelled => |event, _| of_order(event.order_id, Topic::OrderCancelled)
            .asking(&event.lines, event.issued_coupon_id.is_some())
            .of_version(event.order_version)),
        Topic::StockRestored => read!(StockRestored => |event, _|
            of_line(event.order_id, Topic::StockRestored, event.product_id)),
        Topic::CouponRestored => read!(CouponRestored => |event, _| of_order(event.order_id, Topic::CouponRestored)),
        Topic::CouponIssueRequested => read!(CouponIssueRequested => |_, id|
            of_request(id, Topic::CouponIssueRequested)),
        // An answer that names no request is a saga of its own.
        Topic::CouponIssued => read!(CouponIssued => |event, id|
            of_request(event.request_id.unwrap_or(id), Topic::CouponIssued)),
        Topic::CouponIssueRejected => read!(CouponIssueRejected => |event, id|
            of_request(event.request_id.unwrap_or(id), Topic::CouponIssueRejected)),
        Topic::PointCharged | Topic::ProductCatalog => Ok(None),
    }
}

const fn odd(error: &DecodeError) -> Mark {
    if error.is_of_newer() { Mark::UnknownVersion } else { Mark::Unreadable }
}

fn of_order(id: OrderId, event: Topic) -> Told {
    Told { saga: SagaRef::of_order(id), step: StepKey::once(event), says: Says::default() }
}

fn of_line(id: OrderId, event: Topic, product: ProductId) -> Told {
    Told { saga: SagaRef::of_order(id), step: StepKey::of_line(event, product), says: Says::default() }
}

fn of_request(id: EventId, event: Topic) -> Told {
    Told { saga: SagaRef::of_request(id), step: StepKey::once(event), says: Says::default() }
}

impl Told {
    fn of_amount(mut self, amount: Won) -> Self {
        self.says.amount = Some(amount.get());
        self
    }

    fn of_version(mut self, version: i32) -> Self {
        self.says.version = Some(version);
        self
    }

    fn asking(mut self, lines: &[OrderLine], coupon: bool) -> Self {
        let lines = lines.iter().map(|line| line.product_id.to_string()).collect();
        self.says.asked = Some(Asked { lines, coupon });
        self
    }
}
