//! `tour`: what `make demo` shows on the running suite: a purchase, purchases that fail or are taken back, each
//! with what it did and undid, a first-come coupon sale, and an event that climbs the ladder and comes back.
//!
//! Runs again and again: every run has customers and products of its own. Exit code 0: all went as told; 1: not.

mod ladder;
mod sale;
mod telling;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common_events::{CancelReason, ProductId};
use system::{
    Parts, Shop, Urls, eventually,
    shop::{Customer, Order, OrderStatus, Product},
};

use telling::{outcome, say, title, won};

const READY_PATIENCE: Duration = Duration::from_mins(1);
/// The longest ranking there is.
const RANKED: u32 = 100;
const UNDO_PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let tour = Tour { shop: Shop::at(Urls::from_env()), parts: Parts::from_env() };
    match tour.walk().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ntour: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Tour {
    shop: Shop,
    parts: Parts,
}

/// What a purchase can change: points, and the stock of what is bought.
#[derive(PartialEq, Eq)]
struct Standing {
    balance: i64,
    stock: Vec<(String, i64)>,
}

impl Tour {
    async fn walk(&self) -> anyhow::Result<()> {
        self.until_ready().await?;
        title("The shop opens");
        let admin = self.shop.admin();
        let teapot = admin.create_product("Teapot", 30_000, 5).await.context("a product")?;
        let cup = admin.create_product("Cup", 8_000, 1).await.context("a product")?;
        for product in [&teapot, &cup] {
            let Product { product_id, name, price, stock } = product;
            say("POST /products", &format!("201: {name}, {} won, {stock} pieces ({product_id})", won(*price)));
        }
        let kim = self.shop.new_customer("kim");
        let points = kim.charge(100_000).await.context("points")?;
        say("POST /points/charge", &format!("200: {} has {} won", kim.id(), won(points.balance)));

        self.a_purchase(&kim, &teapot, &cup).await?;
        self.not_enough_points(&teapot).await?;
        self.out_of_stock(&kim, &teapot, &cup).await?;
        self.cancelled_afterwards(&kim, &teapot).await?;
        sale::show(&self.shop, &teapot).await?;
        ladder::show(&self.shop, &teapot).await?;
        self.links(&kim);
        Ok(())
    }

    async fn a_purchase(&self, kim: &Customer, teapot: &Product, cup: &Product) -> anyhow::Result<()> {
        title("Kim buys a teapot and the last cup: stock is held, then points are taken");
        let bought = [(teapot, 1), (cup, 1)];
        let before = self.standing(kim, &bought).await?;
        let order = self.buy(kim, &bought).await?;
        ensure!(order.status == OrderStatus::Confirmed, "the order is {:?}, {:?}", order.status, order.reason);
        self.changes(kim, &bought, &before).await
    }

    async fn not_enough_points(&self, teapot: &Product) -> anyhow::Result<()> {
        title("Lee has 10,000 won and wants two teapots: their stock is held, the payment fails, the stock goes back");
        let lee = self.shop.new_customer("lee");
        lee.charge(10_000).await.context("points")?;
        self.fails_and_is_undone(&lee, &[(teapot, 2)], CancelReason::InsufficientPoints).await
    }

    async fn out_of_stock(&self, kim: &Customer, teapot: &Product, cup: &Product) -> anyhow::Result<()> {
        title("Kim wants another teapot with a cup, but the cups are gone: the teapot goes back");
        self.fails_and_is_undone(kim, &[(teapot, 1), (cup, 1)], CancelReason::OutOfStock).await
    }

    async fn cancelled_afterwards(&self, kim: &Customer, teapot: &Product) -> anyhow::Result<()> {
        title("Kim buys two more teapots and takes it back after it was confirmed");
        let bought = [(teapot, 2)];
        let before = self.standing(kim, &bought).await?;
        let order = self.buy(kim, &bought).await?;
        ensure!(order.status == OrderStatus::Confirmed, "the order is {:?}, {:?}", order.status, order.reason);
        self.changes(kim, &bought, &before).await?;
        self.until_ranked("bestsellers of this week", teapot, 3).await?;

        kim.cancel(order.order_id).await.context("cancelling")?;
        say(&format!("POST /orders/{}/cancel", order.order_id), "202");
        let order = kim.order(order.order_id).await?;
        ensure!(order.status == OrderStatus::Cancelled, "the order is {:?}", order.status);
        say("the order is now", &outcome(&order));
        self.until_undone(kim, &bought, &before).await?;
        for entry in kim.history().await?.iter().filter(|entry| entry.order_id == Some(order.order_id)) {
            say("in the points ledger", &format!("{} {:+} → {}", entry.kind, entry.delta, won(entry.balance)));
        }
        self.until_ranked("after the refund", teapot, 1).await
    }

    async fn fails_and_is_undone(
        &self,
        customer: &Customer,
        wanted: &[(&Product, i64)],
        reason: CancelReason,
    ) -> anyhow::Result<()> {
        let before = self.standing(customer, wanted).await?;
        let order = self.buy(customer, wanted).await?;
        let ended = (order.status, order.reason);
        ensure!(ended == (OrderStatus::Cancelled, Some(reason)), "the order is {ended:?}");
        self.until_undone(customer, wanted, &before).await
    }

    /// Places an order, waits for its end, and tells of both.
    async fn buy(&self, customer: &Customer, wanted: &[(&Product, i64)]) -> anyhow::Result<Order> {
        let lines: Vec<(&ProductId, i64)> =
            wanted.iter().map(|(product, quantity)| (&product.product_id, *quantity)).collect();
        let basket: Vec<String> =
            wanted.iter().map(|(product, quantity)| format!("{quantity} {}", product.name)).collect();
        let asked = Instant::now();
        let accepted = customer.place_order(&lines).await.context("placing an order")?;
        say(&format!("POST /orders ({})", basket.join(", ")), &format!("202: {:?}", accepted.status));
        let order = customer.wait_for(accepted.order_id).await.context("waiting for the order")?;
        say(
            "GET /orders/… (Prefer: wait)",
            &format!("200: {}, {} ms after POST", outcome(&order), asked.elapsed().as_millis()),
        );
        let url = format!("{}/orders/{}", self.shop.urls().order, order.order_id);
        say("look at it", &format!("curl -H 'X-User-Id: {}' {url}", customer.id()));
        say("its trace", &format!("{}/zipkin/traces/{}", self.parts.zipkin, order.trace_id));
        Ok(order)
    }

    async fn standing(&self, customer: &Customer, of: &[(&Product, i64)]) -> anyhow::Result<Standing> {
        let mut stock = Vec::new();
        for (product, _) in of {
            stock.push((product.name.clone(), self.shop.product(&product.product_id).await?.stock));
        }
        Ok(Standing { balance: customer.balance().await?, stock })
    }

    async fn changes(&self, customer: &Customer, of: &[(&Product, i64)], before: &Standing) -> anyhow::Result<()> {
        let now = self.standing(customer, of).await?;
        say("points", &format!("{} → {} won", won(before.balance), won(now.balance)));
        for ((name, before), (_, now)) in before.stock.iter().zip(&now.stock) {
            say(&format!("stock of {name}"), &format!("{before} → {now}"));
        }
        Ok(())
    }

    async fn until_undone(&self, customer: &Customer, of: &[(&Product, i64)], before: &Standing) -> anyhow::Result<()> {
        eventually("everything is undone", UNDO_PATIENCE, async || {
            ensure!(self.standing(customer, of).await? == *before, "something is still held");
            Ok(())
        })
        .await?;
        say("undone: points", &format!("{} won, as before", won(before.balance)));
        for (name, stock) in &before.stock {
            say(&format!("undone: stock of {name}"), &format!("{stock}, as before"));
        }
        Ok(())
    }

    /// A ranking follows a moment later. In a shop that has sold a lot, a few teapots aren't in it.
    async fn until_ranked(&self, when: &str, product: &Product, pieces: i64) -> anyhow::Result<()> {
        let said = eventually(&format!("{pieces} pieces are in the ranking"), UNDO_PATIENCE, async || {
            let items = self.shop.ranking("week", "amount", RANKED).await?.items;
            let Some(item) = items.iter().find(|item| item.product_id == product.product_id) else {
                let last = items.last().map_or(0, |item| item.amount);
                let is_beaten = items.len() >= RANKED as usize && last >= product.price * pieces;
                ensure!(is_beaten, "{} isn't in it", product.name);
                return Ok(format!(
                    "{} isn't among the first {RANKED}, the last of which sold {} won",
                    product.name,
                    won(last)
                ));
            };
            ensure!(item.quantity == pieces, "{} pieces", item.quantity);
            Ok(format!("{} is no. {} with {} pieces, {} won", item.name, item.rank, item.quantity, won(item.amount)))
        })
        .await?;
        say(when, &said);
        Ok(())
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let urls = self.shop.urls();
        let relay = env::var("OUTBOX_RELAY_URL").unwrap_or_else(|_| "http://127.0.0.1:8070".to_owned());
        for url in [&urls.product, &urls.order, &urls.payment, &urls.coupon, &urls.ranking, &relay] {
            eventually(&format!("{url} is ready"), READY_PATIENCE, async || {
                let (status, said) = self.shop.readiness(url).await?;
                ensure!(status == 200, "{status} {said}");
                Ok(())
            })
            .await?;
        }
        println!("every service is ready");
        Ok(())
    }

    fn links(&self, kim: &Customer) {
        title("Where to look further");
        let urls = self.shop.urls();
        for (service, url) in [
            ("orders", &urls.order),
            ("products", &urls.product),
            ("points", &urls.payment),
            ("coupons", &urls.coupon),
            ("rankings", &urls.ranking),
        ] {
            say(service, &format!("{url}/docs"));
        }
        say("traces", &format!("{}/zipkin/", self.parts.zipkin));
        say("Kim's orders", &format!("curl -H 'X-User-Id: {}' {}/orders", kim.id(), urls.order));
        say("Kim's points", &format!("curl -H 'X-User-Id: {}' {}/points/history", kim.id(), urls.payment));
    }
}
