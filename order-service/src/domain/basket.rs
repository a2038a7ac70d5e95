//! What a customer wants to order, before it is an order.

use std::collections::{HashMap, HashSet};

use common_events::{ProductId, Quantity, Won, events::OrderLine};

/// An order has at most so many lines (docs/contract.md §3).
pub const MAX_LINES: usize = 100;

/// A line as the customer asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedLine {
    /// What.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
}

/// A product as this service knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Which.
    pub id: ProductId,
    /// Its name now.
    pub name: String,
    /// Won per piece.
    pub price: Won,
}

/// Why an order is not taken. `line` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None, or too many.
    #[error("an order has 1 to {MAX_LINES} lines, not {0}")]
    LineCount(usize),
    /// The same product twice.
    #[error("product {product_id} stands on two lines; put the quantities together")]
    ProductTwice {
        /// The second of the two.
        line: usize,
        /// Which product.
        product_id: ProductId,
    },
    /// Not in the catalogue, as far as this service knows it.
    #[error("product {product_id} is not in the catalogue (yet)")]
    UnknownProduct {
        /// Where.
        line: usize,
        /// Which product.
        product_id: ProductId,
    },
    /// More won than can be written down.
    #[error("with this line the order's total is above {max}", max = Won::MAX)]
    TotalTooLarge {
        /// The line with which it gets too much.
        line: usize,
    },
}

/// Lines that can make an order, if their products exist: 1 to 100, each product once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basket(Vec<AskedLine>);

impl Basket {
    /// Checks what can be checked without the catalogue.
    pub fn new(lines: Vec<AskedLine>) -> Result<Self, Refusal> {
        if !(1..=MAX_LINES).contains(&lines.len()) {
            return Err(Refusal::LineCount(lines.len()));
        }
        let mut seen = HashSet::new();
        if let Some((line, asked)) = lines.iter().enumerate().find(|(_, asked)| !seen.insert(&asked.product_id)) {
            return Err(Refusal::ProductTwice { line, product_id: asked.product_id.clone() });
        }
        Ok(Self(lines))
    }

    /// The products to look up.
    pub fn product_ids(&self) -> Vec<&str> {
        self.0.iter().map(|line| line.product_id.as_str()).collect()
    }

    /// The lines at these prices, and their sum.
    pub(super) fn priced(self, products: &[Product]) -> Result<(Vec<OrderLine>, Won), Refusal> {
        let known: HashMap<&ProductId, &Product> = products.iter().map(|product| (&product.id, product)).collect();
        let mut lines = Vec::with_capacity(self.0.len());
        let mut subtotal = Won::ZERO;
        for (line, AskedLine { product_id, quantity }) in self.0.into_iter().enumerate() {
            let Some(product) = known.get(&product_id) else {
                return Err(Refusal::UnknownProduct { line, product_id });
            };
            let amount = product.price.checked_times(quantity).ok_or(Refusal::TotalTooLarge { line })?;
            subtotal = subtotal.checked_add(amount).ok_or(Refusal::TotalTooLarge { line })?;
            lines.push(OrderLine {
                product_id,
                name: product.name.clone(),
                quantity,
                unit_price: product.price,
                amount,
            });
        }
        Ok((lines, subtotal))
    }
}
