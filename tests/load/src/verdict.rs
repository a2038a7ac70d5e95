//! Money and stock after a run, over the HTTP APIs only: what an outsider can see for himself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use common_events::{OrderId, ProductId};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use system::{
    Shop,
    shop::{Order, OrderStatus},
};

use crate::Seeded;

/// Requests at once.
const ASKING: usize = 16;

/// What was found. Right when nothing is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Orders of the run's customers.
    pub orders: usize,
    /// Of these, CONFIRMED.
    pub confirmed: usize,
    /// Paid for confirmed orders, in won.
    pub paid: i64,
    /// Pieces in confirmed orders.
    pub pieces: i64,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Whether money and stock are right and nothing is lost.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Looks at every customer and every product of the run.
pub async fn judge(shop: &Shop, seeded: &Seeded) -> anyhow::Result<Verdict> {
    let asked: Vec<(i64, Vec<Order>)> = stream::iter(&seeded.customers)
        .map(|customer| async move { anyhow::Ok((customer.balance().await?, customer.orders().await?)) })
        .buffered(ASKING)
        .try_collect()
        .await
        .context("asking the customers")?;
    let stock: BTreeMap<&ProductId, i64> = stream::iter(&seeded.products)
        .map(|product| async move { anyhow::Ok((&product.product_id, shop.product(&product.product_id).await?.stock)) })
        .buffered(ASKING)
        .try_collect()
        .await
        .context("asking for the stock")?;

    let mut verdict = Verdict { orders: 0, confirmed: 0, paid: 0, pieces: 0, wrong: Vec::new() };
    let mut sold: BTreeMap<&ProductId, i64> = BTreeMap::new();
    let mut seen: BTreeSet<OrderId> = BTreeSet::new();
    for (customer, (balance, orders)) in seeded.customers.iter().zip(&asked) {
        let mut paid = 0;
        for order in orders {
            seen.insert(order.order_id);
            match order.status {
                OrderStatus::Confirmed => {
                    paid += order.total;
                    verdict.confirmed += 1;
                    order.lines.iter().for_each(|line| *sold.entry(&line.product_id).or_default() += line.quantity);
                }
                OrderStatus::Cancelled => {}
                OrderStatus::Pending | OrderStatus::AwaitingPayment => {
                    verdict.wrong.push(format!("order {} is still {:?}", order.order_id, order.status));
                }
            }
        }
        verdict.orders += orders.len();
        verdict.paid += paid;
        if balance + paid != seeded.charged {
            let charged = seeded.charged;
            verdict.wrong.push(format!("{}: charged {charged}, paid {paid}, has {balance}", customer.id()));
        }
    }
    for (product, stock) in stock {
        let sold = sold.get(product).copied().unwrap_or_default();
        verdict.pieces += sold;
        if stock < 0 || stock + sold != seeded.stock {
            verdict.wrong.push(format!("{product}: shelved {}, sold {sold}, there are {stock}", seeded.stock));
        }
    }
    let promised = shop.books().accepted.into_iter().skip(seeded.promised_before);
    let lost = promised.filter(|accepted| !seen.contains(&accepted.order_id));
    verdict.wrong.extend(lost.map(|accepted| format!("order {} was accepted and can't be found", accepted.order_id)));
    Ok(verdict)
}
