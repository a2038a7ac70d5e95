//! Every type of event, once, by its newest version; those before it are found from there. A type that isn't
//! listed here has no schema.

use common_events::{
    EventData, Topic,
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed,
        OrderCancelled, OrderConfirmed, OrderCreated, OrderLinePlaced, OrderReserved, PaymentCompleted, PaymentFailed,
        PaymentRefunded, PointCharged, PointDeducted, PointRefunded, ProductCatalog, StockDeductFailed, StockDeducted,
        StockRestored,
    },
    versions::{Version, versions},
};

/// What the generator needs to know of a type.
#[derive(Clone)]
pub(crate) struct EventType {
    /// The topic, whose name is the event's type.
    pub(crate) topic: Topic,
    /// Every version that there was, the newest last.
    pub(crate) versions: Vec<Version>,
}

impl EventType {
    fn of<T: EventData>() -> Self {
        Self { topic: T::TOPIC, versions: versions::<T>() }
    }

    /// The version that is described where there is one word for all.
    pub(crate) fn newest(&self) -> &Version {
        self.versions.last().expect("a type is one version at least")
    }
}

macro_rules! event_types {
    ($($data:ident),+ $(,)?) => {
        /// In the order of the catalogue.
        pub(crate) fn event_types() -> Vec<EventType> {
            vec![$(EventType::of::<$data>()),+]
        }
    };
}

event_types![
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
        let topics: Vec<_> = event_types().iter().map(|event| event.topic).collect();
        assert_eq!(topics, Topic::ALL);
    }

    #[test]
    fn the_versions_of_a_type_are_counted_from_one() {
        for event in event_types() {
            let numbers: Vec<_> = event.versions.iter().map(|version| version.number).collect();
            assert_eq!(numbers, (1..=event.newest().number).collect::<Vec<_>>(), "{}", event.topic);
        }
    }
}
