//! What the shop sells, and what of it is held for whom.
//!
//! A [`Product`] is what a customer sees and an admin changes. A [`Warehouse`] is the part of the
//! stock that one batch of events is about: it deducts and restores, and remembers what it changed.
//! Left out on purpose: who asks, where it is stored, and when it happened.

use std::collections::BTreeMap;

use common_events::{
    OrderId, ProductId, Quantity, StockRefusal, Won,
    events::{OrderLinePlaced, ProductCatalog, StockDeductFailed, StockDeducted, StockRestored},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of a product that was just put up for sale.
const FIRST_VERSION: i64 = 1;

/// What a product can't be called, cost or have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a [`ProductName`].
    #[error("a name has 1 to {} characters, not only white space, and no control characters", ProductName::MAX_CHARS)]
    Name,
    /// Not a [`Price`].
    #[error("a price is a whole number of won from 0 to {}", Price::MAX)]
    Price,
    /// Not a [`Stock`].
    #[error("a stock is a whole number from 0 to {}", Stock::MAX)]
    Stock,
    /// Not [`Pieces`].
    #[error("what is put on the shelf is a whole number from 1 to {}", Pieces::MAX)]
    Pieces,
}

/// What customers call a product: 1 to 200 characters, not only white space, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    min_length = 1,
    max_length = 200,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub struct ProductName(String);

impl ProductName {
    /// The longest name.
    pub const MAX_CHARS: usize = 200;
}

impl TryFrom<String> for ProductName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let length = name.chars().count();
        let valid = length <= Self::MAX_CHARS && !name.trim().is_empty() && !name.contains(char::is_control);
        if valid { Ok(Self(name)) } else { Err(Invalid::Name) }
    }
}

/// Won per piece: 0 to 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000)]
pub struct Price(Won);

impl Price {
    /// The highest price.
    pub const MAX: i64 = 1_000_000_000;
}

impl TryFrom<i64> for Price {
    type Error = Invalid;

    fn try_from(won: i64) -> Result<Self, Invalid> {
        Won::try_from(won).ok().filter(|_| won <= Self::MAX).map(Self).ok_or(Invalid::Price)
    }
}

/// Pieces that are put up for sale: 0 to 1,000,000,000. What cancelled orders give back may exceed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000)]
pub struct Stock(i64);

impl Stock {
    /// The largest stock.
    pub const MAX: i64 = 1_000_000_000;
}

impl TryFrom<i64> for Stock {
    type Error = Invalid;

    fn try_from(pieces: i64) -> Result<Self, Invalid> {
        if (0..=Self::MAX).contains(&pieces) { Ok(Self(pieces)) } else { Err(Invalid::Stock) }
    }
}

/// Pieces that are put on the shelf at once: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
pub struct Pieces(i64);

impl Pieces {
    /// The most at once.
    pub const MAX: i64 = 1_000_000;
}

impl TryFrom<i64> for Pieces {
    type Error = Invalid;

    fn try_from(pieces: i64) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&pieces) { Ok(Self(pieces)) } else { Err(Invalid::Pieces) }
    }
}

/// One product as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// What it is known by.
    pub product_id: ProductId,
    /// What customers call it.
    pub name: String,
    /// Won per piece.
    pub price: Won,
    /// Pieces for sale: what is held for orders isn't among them.
    pub stock: i64,
    /// Grows with every change that the catalogue tells.
    pub version: i64,
}

/// More pieces than a shelf can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stock of a product is at most {}", Stock::MAX)]
pub struct ShelfFull;

impl Product {
    /// A product that is put up for sale.
    pub fn new(product_id: ProductId, name: ProductName, price: Price, stock: Stock) -> Self {
        Self { product_id, name: name.0, price: price.0, stock: stock.0, version: FIRST_VERSION }
    }

    /// What the catalogue says of it.
    pub fn in_catalogue(&self) -> ProductCatalog {
        ProductCatalog {
            product_id: self.product_id.clone(),
            name: self.name.clone(),
            price: self.price,
            version: self.version,
        }
    }

    /// Changes the price; `None` when it was that already.
    pub fn change_price(&mut self, Price(price): Price) -> Option<ProductCatalog> {
        if self.price == price {
            return None;
        }
        self.price = price;
        self.version += 1;
        Some(self.in_catalogue())
    }

    /// Puts pieces on the shelf.
    pub fn restock(&mut self, Pieces(pieces): Pieces) -> Result<(), ShelfFull> {
        let stock = self.stock.checked_add(pieces).filter(|stock| *stock <= Stock::MAX).ok_or(ShelfFull)?;
        self.stock = stock;
        Ok(())
    }
}

/// Where a line of an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineState {
    /// Its pieces are held for the order.
    Held,
    /// It got nothing.
    Refused(StockRefusal),
    /// Its pieces were held, and went back.
    Restored,
}

/// A line of an order that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Pieces.
    pub quantity: Quantity,
    /// What became of them.
    pub state: LineState,
}

/// What the warehouse knows of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StockOrder {
    /// Whether the order ended: then nothing is held for it, and nothing will be.
    pub cancelled: bool,
    /// Its lines that were decided.
    pub lines: BTreeMap<ProductId, Line>,
}

/// How a line is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It holds its pieces.
    Deducted(StockDeducted),
    /// It gets nothing.
    Refused(StockDeductFailed),
}

/// The orders and the pieces for sale that a batch of events is about.
#[derive(Debug, Default)]
pub struct Warehouse {
    orders: BTreeMap<OrderId, StockOrder>,
    /// Pieces for sale. A product that isn't here doesn't exist.
    stock: BTreeMap<ProductId, i64>,
    changes: Changes,
}

/// What a batch changed, and so what is to be saved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Pieces that were taken per product, all lines of the batch together.
    pub taken: BTreeMap<ProductId, i64>,
    /// Orders that are cancelled now.
    pub cancelled: Vec<OrderId>,
    /// Lines that were decided.
    pub decided: Vec<(OrderId, ProductId, Line)>,
    /// Lines whose pieces went back.
    pub restored: Vec<(OrderId, ProductId)>,
}

impl Warehouse {
    /// What was loaded: these orders, and the pieces for sale of these products.
    pub fn new(orders: BTreeMap<OrderId, StockOrder>, stock: BTreeMap<ProductId, i64>) -> Self {
        Self { orders, stock, changes: Changes::default() }
    }

    /// What was changed so far.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Holds the line's pieces, or refuses them. `None` when the line was decided before.
    pub fn deduct(&mut self, placed: &OrderLinePlaced) -> Option<Answer> {
        let (order_id, product_id, quantity) = (placed.order_id, placed.product_id.clone(), placed.quantity);
        let order = self.orders.entry(order_id).or_default();
        if order.lines.contains_key(&product_id) {
            return None;
        }
        let state = match take(order, self.stock.get_mut(&product_id), quantity) {
            Ok(()) => LineState::Held,
            Err(reason) => LineState::Refused(reason),
        };
        let line = Line { quantity, state };
        order.lines.insert(product_id.clone(), line);
        self.changes.decided.push((order_id, product_id.clone(), line));
        if let LineState::Refused(reason) = state {
            return Some(Answer::Refused(StockDeductFailed { order_id, product_id, quantity, reason }));
        }
        *self.changes.taken.entry(product_id.clone()).or_default() += i64::from(quantity.get());
        Some(Answer::Deducted(StockDeducted { order_id, product_id, quantity }))
    }

    /// Ends an order: what is held for it goes back, and a line that comes later is refused. Nothing
    /// happens when it had ended before.
    pub fn restore(&mut self, order_id: OrderId) -> Vec<StockRestored> {
        let order = self.orders.entry(order_id).or_default();
        if std::mem::replace(&mut order.cancelled, true) {
            return Vec::new();
        }
        self.changes.cancelled.push(order_id);
        let mut restored = Vec::new();
        for (product_id, line) in &mut order.lines {
            if line.state == LineState::Held {
                line.state = LineState::Restored;
                *self.stock.entry(product_id.clone()).or_default() += i64::from(line.quantity.get());
                self.changes.restored.push((order_id, product_id.clone()));
                restored.push(StockRestored { order_id, product_id: product_id.clone(), quantity: line.quantity });
            }
        }
        restored
    }
}

fn take(order: &StockOrder, available: Option<&mut i64>, quantity: Quantity) -> Result<(), StockRefusal> {
    if order.cancelled {
        return Err(StockRefusal::OrderCancelled);
    }
    let available = available.ok_or(StockRefusal::UnknownProduct)?;
    let pieces = i64::from(quantity.get());
    if *available < pieces {
        return Err(StockRefusal::OutOfStock);
    }
    *available -= pieces;
    Ok(())
}

#[cfg(test)]
mod tests;
