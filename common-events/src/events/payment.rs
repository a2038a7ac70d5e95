//! What payment-service tells of payments.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OrderLine, order::keyed_by_order, v1};
use crate::{CancelReason, EventData, OrderId, PaymentRefusal, Topic, UserId, Won, versions::Before};

/// The order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCompleted {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    pub discount: Won,
    /// What was paid; 0 when there was nothing to pay.
    pub total: Won,
    /// When it was paid: rankings count by it.
    pub paid_at: DateTime<Utc>,
}

/// Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// What should have been paid.
    pub total: Won,
    pub reason: PaymentRefusal,
}

/// What was paid for a cancelled order went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    pub discount: Won,
    /// What went back: all that had been paid.
    pub total: Won,
    /// When it had been paid: a refund counts back there.
    pub paid_at: DateTime<Utc>,
    pub refunded_at: DateTime<Utc>,
    /// Why the order ended.
    pub reason: CancelReason,
}

keyed_by_order!(
    PaymentCompleted,
    PaymentFailed (still_told v1::PaymentFailed),
    PaymentRefunded (still_told v1::PaymentRefunded)
);
