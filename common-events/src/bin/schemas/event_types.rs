//! Every type of event, once. A type that isn't listed here has no schema.

use common_events::{
    EventData, Topic,
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed,
        OrderCancelled, OrderConfirmed, OrderCreated, OrderLinePlaced, OrderReserved, PaymentCompleted, PaymentFailed,
        PaymentRefunded, PointCharged, PointDeducted, PointRefunded, ProductCatalog, StockDeductFailed, StockDeducted,
        StockRestored,
    },
};
use schemars::{Schema, SchemaGenerator};

/// What the generator needs to know of a type.
#[derive(Clone, Copy)]
pub(crate) struct EventType {
    /// The topic, whose name is the event's type.
    pub(crate) topic: Topic,
    /// The version that is written now. All versions below it were written once.
    pub(crate) version: u32,
    /// The schema of the event's `data`.
    pub(crate) data: fn(&mut SchemaGenerator) -> Schema,
}

impl EventType {
    const fn of<T: EventData>() -> Self {
        Self { topic: T::TOPIC, version: T::VERSION, data: T::json_schema }
    }
}

macro_rules! event_types {
    ($($data:ident),+ $(,)?) => { &[$(EventType::of::<$data>()),+] };
}

/// In the order of the catalogue.
pub(crate) const EVENT_TYPES: &[EventType] = event_types![
    OrderCreated,
    OrderLinePlaced,
    StockDeducted,
    StockDeductFailed,
    CouponUsed,
    CouponUseFailed,
    OrderReserved,
    PointCharged,
    PointDeducted,
    PointRefunded,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    OrderConfirmed,
    OrderCancelled,
    StockRestored,
    CouponRestored,
    CouponIssueRequested,
    CouponIssued,
    CouponIssueRejected,
    ProductCatalog,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_exactly_one_type() {
        let topics: Vec<_> = EVENT_TYPES.iter().map(|event| event.topic).collect();
        assert_eq!(topics, Topic::ALL);
    }
}
