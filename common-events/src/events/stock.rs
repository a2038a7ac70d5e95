//! What product-service tells of stock. Keyed by product, as stock is taken per product in order.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::v1;
use crate::{EventData, OrderId, ProductId, Quantity, StockRefusal, Topic, versions::Before};

/// The line's stock is held for the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockDeducted {
    pub order_id: OrderId,
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// The line got nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockDeductFailed {
    pub order_id: OrderId,
    pub product_id: ProductId,
    pub quantity: Quantity,
    pub reason: StockRefusal,
}

/// What a cancelled order's line held is for sale again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockRestored {
    pub order_id: OrderId,
    pub product_id: ProductId,
    pub quantity: Quantity,
}

macro_rules! keyed_by_product {
    ($($data:ident $(($how:ident $before:ty))?),+) => {$(
        impl EventData for $data {
            const TOPIC: Topic = Topic::$data;
            $(const BEFORE: Option<Before<Self>> = Some(Before::$how::<$before>());)?

            fn key(&self) -> Cow<'_, str> {
                self.product_id.as_str().into()
            }
        }
    )+};
}
pub(super) use keyed_by_product;

keyed_by_product!(StockDeducted, StockDeductFailed (still_told v1::StockDeductFailed), StockRestored);
