//! What product-service tells of its products: the latest name and price, on a compacted topic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use super::stock::keyed_by_product;
use crate::{EventData, ProductId, Topic, Won};

/// The product as it is now. No stock in it: that changes with every order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProductCatalog {
    pub product_id: ProductId,
    pub name: String,
    /// Won per piece.
    pub price: Won,
    /// Grows with every change; a reader keeps the highest it saw.
    pub version: i64,
}

keyed_by_product!(ProductCatalog);
