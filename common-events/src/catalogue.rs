//! The topic catalogue: names, keys, partitions, retention, who writes and who reads.
//!
//! One table. `sagactl topics apply` makes a cluster look like it, and a test of every service holds
//! its subscriptions against it. Only events that somebody acts on are published: a topic that just
//! the monitor reads says why.

use std::{fmt, str::FromStr};

use crate::service::Service;

/// What a topic's records are keyed by, and so what order is kept per.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Everything about one order is in order.
    Order,
    /// Everything about one product is in order.
    Product,
    /// Everything about one user's points is in order.
    User,
    /// Everything about one coupon is in order.
    Coupon,
}

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// So many days.
    Days(u16),
    /// Always: something is rebuilt from it.
    ForEver,
    /// The latest record of each key, always.
    Compacted,
}

/// One line of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct TopicSpec {
    /// The topic.
    pub topic: Topic,
    /// What its records are keyed by.
    pub key: Key,
    /// The one service that writes it.
    pub writer: Service,
    /// The services that read it, each as its own consumer group.
    pub readers: &'static [Service],
    /// Why it is published though only the monitor reads it.
    pub only_monitor_because: Option<&'static str>,
    /// Partitions to begin with; they can only grow.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Retention,
}

/// Sales are kept this long at least (docs/contract.md §4).
pub const SALES_RETENTION: Retention = Retention::Days(30);
const PARTITIONS: i32 = 3;

macro_rules! catalogue {
    ($(
        $(#[$doc:meta])*
        $topic:ident = $name:literal: $key:ident, $retention:expr,
            $writer:ident => [$($reader:ident),+] $(only because $why:literal)?;
    )+) => {
        /// A topic, whose name is also the type of the events on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Topic {
            $($(#[$doc])* $topic),+
        }

        impl Topic {
            /// Every topic there is.
            pub const ALL: &'static [Self] = &[$(Self::$topic),+];

            /// The name, without any prefix.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$topic => $name),+
                }
            }

            /// Its line of the catalogue.
            pub fn spec(self) -> TopicSpec {
                match self {
                    $(Self::$topic => TopicSpec {
                        topic: self,
                        key: Key::$key,
                        writer: Service::$writer,
                        readers: &[$(Service::$reader),+],
                        only_monitor_because: [$($why)?].first().copied(),
                        partitions: PARTITIONS,
                        retention: $retention,
                    }),+
                }
            }
        }
    };
}

catalogue! {
    /// An order was taken.
    OrderCreated = "order-created": Order, SALES_RETENTION, Order => [Coupon, SagaMonitor];
    /// One line asks for stock.
    OrderLinePlaced = "order-line-placed": Product, SALES_RETENTION, Order => [Product, SagaMonitor];
    /// A line's stock is held.
    StockDeducted = "stock-deducted": Product, SALES_RETENTION, Product => [Order, SagaMonitor];
    /// A line got no stock.
    StockDeductFailed = "stock-deduct-failed": Product, SALES_RETENTION, Product => [Order, SagaMonitor];
    /// The order's coupon is held.
    CouponUsed = "coupon-used": Order, SALES_RETENTION, Coupon => [Order, SagaMonitor];
    /// The order's coupon can't be used.
    CouponUseFailed = "coupon-use-failed": Order, SALES_RETENTION, Coupon => [Order, SagaMonitor];
    /// All is held; what is to be paid is known.
    OrderReserved = "order-reserved": Order, SALES_RETENTION, Order => [Payment, SagaMonitor];
    /// Points were paid in.
    PointCharged = "point-charged": User, Retention::ForEver, Payment => [SagaMonitor]
        only because "balances are rebuilt from it by payment-service's own rebuild, which joins no group";
    /// Points paid an order.
    PointDeducted = "point-deducted": User, Retention::ForEver, Payment => [SagaMonitor]
        only because "balances are rebuilt from it by payment-service's own rebuild, which joins no group";
    /// Points went back.
    PointRefunded = "point-refunded": User, Retention::ForEver, Payment => [SagaMonitor]
        only because "balances are rebuilt from it by payment-service's own rebuild, which joins no group";
    /// An order is paid.
    PaymentCompleted = "payment-completed": Order, SALES_RETENTION, Payment => [Order, Ranking, DataPlatform, SagaMonitor];
    /// An order could not be paid.
    PaymentFailed = "payment-failed": Order, SALES_RETENTION, Payment => [Order, SagaMonitor];
    /// A cancelled order's payment went back.
    PaymentRefunded = "payment-refunded": Order, SALES_RETENTION, Payment => [Order, Ranking, SagaMonitor];
    /// An order is done.
    OrderConfirmed = "order-confirmed": Order, SALES_RETENTION, Order => [SagaMonitor]
        only because "it ends the saga: the monitor tells a completed order from one that waits by it";
    /// An order ended: the one trigger of compensation.
    OrderCancelled = "order-cancelled": Order, SALES_RETENTION, Order => [Product, Coupon, Payment, SagaMonitor];
    /// A cancelled order's stock is for sale again.
    StockRestored = "stock-restored": Product, SALES_RETENTION, Product => [SagaMonitor]
        only because "the undo of stock-deducted: the monitor checks that every step taken was undone";
    /// A cancelled order's coupon can be used again.
    CouponRestored = "coupon-restored": Order, SALES_RETENTION, Coupon => [SagaMonitor]
        only because "the undo of coupon-used: the monitor checks that every step taken was undone";
    /// The gate admitted a user.
    CouponIssueRequested = "coupon-issue-requested": Coupon, SALES_RETENTION, Coupon => [Coupon, SagaMonitor];
    /// A user holds a coupon.
    CouponIssued = "coupon-issued": Coupon, SALES_RETENTION, Coupon => [SagaMonitor]
        only because "it ends the saga of a request: the monitor tells an issued one from one that waits by it";
    /// An admitted user gets none after all.
    CouponIssueRejected = "coupon-issue-rejected": Coupon, SALES_RETENTION, Coupon => [SagaMonitor]
        only because "it ends the saga of a request: the monitor tells a rejected one from one that waits by it";
    /// The products as they are now.
    ProductCatalog = "product-catalog": Product, Retention::Compacted, Product => [Order, Ranking];
}

/// Names kept for events that later consumers will need; nobody publishes them yet.
pub const RESERVED: &[&str] =
    &["order-modified", "delivery-requested", "delivery-started", "user-signed-up", "stock-low", "settlement-closed"];

impl Topic {
    /// The topics that a service reads as a consumer group.
    pub fn read_by(service: Service) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |topic| topic.spec().readers.contains(&service))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no topic of the catalogue")]
pub struct UnknownTopic(String);

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, UnknownTopic> {
        Self::ALL.iter().copied().find(|topic| topic.name() == text).ok_or_else(|| UnknownTopic(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_only_the_monitor_reads_says_why() {
        for topic in Topic::ALL {
            let spec = topic.spec();
            let only_monitor = spec.readers == [Service::SagaMonitor];
            assert_eq!(only_monitor, spec.only_monitor_because.is_some(), "{topic}");
        }
    }

    #[test]
    fn no_topic_takes_a_reserved_name() {
        for topic in Topic::ALL {
            assert!(!RESERVED.contains(&topic.name()), "{topic}");
            assert_eq!(topic.name().parse(), Ok(*topic));
        }
    }

    #[test]
    fn sales_topics_are_kept_at_least_30_days() {
        for topic in Topic::ALL {
            if let Retention::Days(days) = topic.spec().retention {
                assert!(days >= 30, "{topic}");
            }
        }
    }
}
