//! What payment-service tells of points: the ledger's entries, kept for ever, so that balances can
//! be rebuilt from the topics.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::v1;
use crate::{CancelReason, EventData, OrderId, Topic, UserId, Won, ids::EntryId, versions::Before};

/// The user paid in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointCharged {
    /// The ledger's entry.
    pub entry_id: EntryId,
    pub user_id: UserId,
    pub amount: Won,
    /// The balance after it.
    pub balance: Won,
    /// The ledger's time.
    pub at: DateTime<Utc>,
}

/// The user paid an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointDeducted {
    /// The ledger's entry.
    pub entry_id: EntryId,
    pub user_id: UserId,
    pub order_id: OrderId,
    pub amount: Won,
    /// The balance after it.
    pub balance: Won,
    /// The ledger's time.
    pub at: DateTime<Utc>,
}

/// The user got back what he had paid for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointRefunded {
    /// The ledger's entry.
    pub entry_id: EntryId,
    pub user_id: UserId,
    pub order_id: OrderId,
    pub amount: Won,
    /// The balance after it.
    pub balance: Won,
    /// Why the order ended.
    pub reason: CancelReason,
    /// The ledger's time.
    pub at: DateTime<Utc>,
}

macro_rules! keyed_by_user {
    ($($data:ident $(($how:ident $before:ty))?),+) => {$(
        impl EventData for $data {
            const TOPIC: Topic = Topic::$data;
            $(const BEFORE: Option<Before<Self>> = Some(Before::$how::<$before>());)?

            fn key(&self) -> Cow<'_, str> {
                self.user_id.as_str().into()
            }
        }
    )+};
}
pub(super) use keyed_by_user;

keyed_by_user!(PointCharged, PointDeducted, PointRefunded (still_told v1::PointRefunded));
