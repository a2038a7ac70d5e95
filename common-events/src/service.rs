//! The services by name. A service's name is also its consumer group and its name in Zipkin.

use std::{fmt, str::FromStr};

/// Who writes or reads a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Orders and their state.
    Order,
    /// Points, payments, refunds.
    Payment,
    /// Coupons, and who holds them.
    Coupon,
    /// Sales rankings.
    Ranking,
    /// Products, prices, stock.
    Product,
    /// Completed payments, sent to the outside platform.
    DataPlatform,
    /// Where each saga stands.
    SagaMonitor,
    /// Moves outbox rows to Kafka; reads and writes no topic in its own name.
    OutboxRelay,
}

impl Service {
    /// Every service there is.
    pub const ALL: &'static [Self] = &[
        Self::Order,
        Self::Payment,
        Self::Coupon,
        Self::Ranking,
        Self::Product,
        Self::DataPlatform,
        Self::SagaMonitor,
        Self::OutboxRelay,
    ];

    /// The name: of the process, the consumer group, the service in Zipkin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order-service",
            Self::Payment => "payment-service",
            Self::Coupon => "coupon-service",
            Self::Ranking => "ranking-service",
            Self::Product => "product-service",
            Self::DataPlatform => "data-platform",
            Self::SagaMonitor => "saga-monitor",
            Self::OutboxRelay => "outbox-relay",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service")]
pub struct UnknownService(String);

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, UnknownService> {
        Self::ALL.iter().copied().find(|service| service.name() == text).ok_or_else(|| UnknownService(text.to_owned()))
    }
}
