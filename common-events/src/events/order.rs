//! What order-service tells. `orderVersion` grows with every transition of the order; "before" and
//! "after" mean that, as topics are read in any order.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::v1;
use crate::{
    CancelReason, EventData, IssuedCouponId, OrderId, ProductId, Quantity, Topic, UserId, Won, versions::Before,
};

/// The longest note, in characters (docs/contract.md §3).
pub const MAX_NOTE_CHARS: usize = 200;

/// One line of an order, at the price it was placed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// A product stands on one line only.
    pub product_id: ProductId,
    /// The product's name when the order was placed.
    pub name: String,
    /// Pieces.
    pub quantity: Quantity,
    /// Won per piece when the order was placed.
    pub unit_price: Won,
    /// `quantity × unitPrice`, before any discount.
    pub amount: Won,
}

/// An order was taken. Nothing is held yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderCreated {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    /// The coupon the customer wants to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_coupon_id: Option<IssuedCouponId>,
    pub lines: Vec<OrderLine>,
    /// Sum of the lines.
    pub subtotal: Won,
    pub created_at: DateTime<Utc>,
}

/// One line of an order asks for stock. Keyed by the product: first come, first served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderLinePlaced {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// Stock and coupon are held; what is to be paid is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderReserved {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    pub subtotal: Won,
    /// What the coupon takes off; at most the subtotal.
    pub discount: Won,
    /// `subtotal − discount`: what is to be paid.
    pub total: Won,
}

/// The order is paid, and done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    pub total: Won,
    pub confirmed_at: DateTime<Utc>,
}

/// The order ended. The one trigger of compensation: who hears it undoes what he did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub order_version: i32,
    pub user_id: UserId,
    pub lines: Vec<OrderLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// Why it ended.
    pub reason: CancelReason,
    /// What the person who cancelled said, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NOTE_CHARS))]
    pub note: Option<String>,
    pub cancelled_at: DateTime<Utc>,
}

macro_rules! keyed_by_order {
    ($($data:ident $(($how:ident $before:ty))?),+) => {$(
        impl EventData for $data {
            const TOPIC: Topic = Topic::$data;
            $(const BEFORE: Option<Before<Self>> = Some(Before::$how::<$before>());)?

            fn key(&self) -> Cow<'_, str> {
                self.order_id.to_string().into()
            }
        }
    )+};
}
pub(super) use keyed_by_order;

keyed_by_order!(OrderCreated, OrderReserved, OrderConfirmed, OrderCancelled (only_read v1::OrderCancelled));

impl EventData for OrderLinePlaced {
    const TOPIC: Topic = Topic::OrderLinePlaced;

    fn key(&self) -> Cow<'_, str> {
        self.product_id.as_str().into()
    }
}
