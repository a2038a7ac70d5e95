//! Orders at a fixed rate.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use common_events::{OrderId, ProductId};
use futures::{StreamExt, TryStreamExt, stream};
use system::{
    Shop,
    shop::{Customer, OrderStatus, Product},
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{Live, Tally, pick::pick};

/// What every customer gets: enough for any run.
const CHARGE: i64 = 1_000_000_000;
/// What every product has, unless a run says otherwise: enough for any run.
pub const STOCK: i64 = 10_000_000;
const CHEAPEST: i64 = 1_000;
/// Requests of the seeding at once.
const SEEDING: usize = 16;
/// Lines of one order at most (docs/contract.md §3).
const MAX_LINES: usize = 100;
/// After a call without an answer, before it is sent again.
const AFTER_SILENCE: Duration = Duration::from_millis(200);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Orders per second.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
    /// Different products.
    pub products: usize,
    /// Different customers.
    pub users: usize,
    /// Lines per order.
    pub lines: usize,
    /// `POST /orders` under way at once; more wait, and their latency counts on.
    pub connections: usize,
    /// Pieces of each product.
    pub stock: i64,
    /// How long the end of an order is waited for. Zero: nobody waits for any, as when there are more orders
    /// under way than a client should have connections.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rate: 50.0,
            duration: Duration::from_secs(10),
            products: 20,
            users: 200,
            lines: 2,
            connections: 256,
            stock: STOCK,
            patience: Duration::from_mins(1),
        }
    }
}

/// Products and customers of one run.
pub struct Seeded {
    /// What is bought.
    pub products: Vec<Product>,
    /// Who buys.
    pub customers: Vec<Customer>,
    /// What every customer was given, in won.
    pub charged: i64,
    /// Pieces of each product.
    pub stock: i64,
    /// Orders that the shop had been promised before the run began.
    pub promised_before: usize,
}

/// Makes products and customers, and waits until order-service knows the products.
pub async fn seed(shop: &Shop, plan: &Plan) -> anyhow::Result<Seeded> {
    ensure!((1..=MAX_LINES).contains(&plan.lines), "an order has 1 to {MAX_LINES} lines");
    ensure!(plan.lines <= plan.products, "a product stands on one line of an order only: more products than lines");
    ensure!(plan.users > 0, "somebody has to buy");
    let products = stream::iter(0..plan.products)
        .map(|number| async move {
            let price = CHEAPEST + i64::try_from(number).unwrap_or_default() * 10;
            shop.admin().create_product(&format!("Load {number}"), price, plan.stock).await
        })
        .buffered(SEEDING)
        .try_collect::<Vec<_>>()
        .await
        .context("making products")?;
    let run = Uuid::now_v7().simple().to_string();
    let customers: Vec<Customer> =
        (0..plan.users).map(|number| shop.customer(&format!("load-{run}-{number}"))).collect();
    stream::iter(&customers)
        .map(|customer| customer.charge(CHARGE))
        .buffer_unordered(SEEDING)
        .try_collect::<Vec<_>>()
        .await
        .context("charging points")?;
    know_products(shop, &products).await?;
    let promised_before = shop.books().accepted.len();
    Ok(Seeded { products, customers, charged: CHARGE, stock: plan.stock, promised_before })
}

/// Somebody without points orders one of each: once that is refused, everybody knows the products, and
/// nothing has changed.
async fn know_products(shop: &Shop, products: &[Product]) -> anyhow::Result<()> {
    let poor = shop.new_customer("poor");
    for some in products.chunks(MAX_LINES) {
        let lines: Vec<(&ProductId, i64)> = some.iter().map(|product| (&product.product_id, 1)).collect();
        let accepted = poor.place_order(&lines).await.context("the products reach order-service")?;
        let order = poor.wait_for(accepted.order_id).await.context("a first order ends")?;
        ensure!(order.status == OrderStatus::Cancelled, "an order without points is {:?}", order.status);
    }
    Ok(())
}

/// Sends the orders; returns once each has ended, or its patience has.
///
/// # Panics
/// When whoever lives through an order does.
pub async fn run(seeded: &Arc<Seeded>, plan: &Plan, live: &Live) -> Tally {
    let (count, gap) = arrivals(plan);
    let connections = Arc::new(Semaphore::new(plan.connections.max(1)));
    let start = Instant::now();
    let mut orders = JoinSet::new();
    for number in 0..count {
        let planned = start + gap * number;
        tokio::time::sleep_until(planned).await;
        if live.is_enough() {
            break;
        }
        live.tell(|tally| tally.sent += 1);
        let arrival = Arrival { number, planned, seeded: Arc::clone(seeded), lines: plan.lines, live: live.clone() };
        orders.spawn(arrival.live_through(Arc::clone(&connections), plan.patience));
        while let Some(ended) = orders.try_join_next() {
            ended.expect("whoever lives through an order doesn't panic");
        }
    }
    live.tell(|tally| tally.sending = start.elapsed());
    orders.join_all().await;
    live.tell(|tally| tally.lasted = start.elapsed());
    live.now()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; the cast saturates")]
fn arrivals(plan: &Plan) -> (u32, Duration) {
    let rate = plan.rate.max(0.001);
    ((rate * plan.duration.as_secs_f64()).round() as u32, Duration::from_secs_f64(1.0 / rate))
}

/// One order, from its planned time to its end.
struct Arrival {
    number: u32,
    planned: Instant,
    seeded: Arc<Seeded>,
    lines: usize,
    live: Live,
}

impl Arrival {
    async fn live_through(self, connections: Arc<Semaphore>, patience: Duration) {
        let customer = self.customer();
        let sent = {
            let _connection = connections.acquire().await;
            customer.try_order(&Uuid::now_v7().to_string(), &self.basket()).await
        };
        let answered = self.planned.elapsed();
        self.live.tell(|tally| tally.note_answer(&sent, answered));
        let Ok(accepted) = sent else { return };
        if patience.is_zero() {
            return;
        }
        let ended = self.until_ended(&customer, accepted.order_id, patience).await;
        let took = self.planned.elapsed();
        self.live.tell(|tally| tally.note_end(ended.as_ref(), took));
    }

    /// The order at its end; a service that doesn't answer is asked again.
    async fn until_ended(&self, customer: &Customer, id: OrderId, patience: Duration) -> Option<system::shop::Order> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            match customer.wait_for_at_most(id, left).await {
                Ok(order) if order.status.is_final() => return Some(order),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(AFTER_SILENCE).await,
            }
        }
        None
    }

    fn customer(&self) -> Customer {
        let customers = &self.seeded.customers;
        customers[pick(self.number, 0) % customers.len()].clone()
    }

    /// Neighbouring products, one to three pieces each, from a different start each time.
    fn basket(&self) -> Vec<(&ProductId, i64)> {
        let products = &self.seeded.products;
        let first = pick(self.number, 1);
        let line = |line: usize| {
            let quantity = i64::try_from(pick(self.number, line + 2) % 3).unwrap_or_default() + 1;
            (&products[(first + line) % products.len()].product_id, quantity)
        };
        (0..self.lines).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_fixed_beforehand() {
        let plan = Plan { rate: 200.0, duration: Duration::from_secs(30), ..Plan::default() };
        assert_eq!(arrivals(&plan), (6_000, Duration::from_millis(5)));
    }
}
