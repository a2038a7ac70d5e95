//! `load orders`: orders in an open loop.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use load::{
    Latency, Live, Plan, Tally, orders,
    verdict::{self, Verdict},
};
use serde_json::{Value, json};
use system::{Shop, Urls};

use crate::Outcome;

#[derive(Args)]
pub(crate) struct Orders {
    /// Orders per second.
    #[arg(long, default_value_t = 100.0, value_parser = crate::positive)]
    rate: f64,
    /// How long orders are sent.
    #[arg(long, default_value = "30s", value_parser = crate::duration)]
    duration: Duration,
    /// Different products.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    products: u32,
    /// Different customers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    users: u32,
    /// Lines per order.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    lines: u32,
    /// POST /orders under way at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Pieces of each product.
    #[arg(long, default_value_t = orders::STOCK, value_parser = clap::value_parser!(i64).range(0..))]
    stock: i64,
    /// Where order-service listens.
    #[arg(long, env = "ORDER_SERVICE_URL", default_value = "http://127.0.0.1:8081")]
    url: String,
    /// Where product-service listens.
    #[arg(long, env = "PRODUCT_SERVICE_URL", default_value = "http://127.0.0.1:8085")]
    product_url: String,
    /// Where payment-service listens.
    #[arg(long, env = "PAYMENT_SERVICE_URL", default_value = "http://127.0.0.1:8082")]
    payment_url: String,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn send(arguments: &Orders) -> anyhow::Result<Outcome> {
    let plan = Plan {
        rate: arguments.rate,
        duration: arguments.duration,
        products: arguments.products as usize,
        users: arguments.users as usize,
        lines: arguments.lines as usize,
        connections: arguments.connections as usize,
        stock: arguments.stock,
        ..Plan::default()
    };
    let shop = Shop::at(Urls {
        order: arguments.url.clone(),
        product: arguments.product_url.clone(),
        payment: arguments.payment_url.clone(),
        // No order of this load asks for a ranking or a coupon.
        ranking: String::new(),
        coupon: String::new(),
    });
    println!("making {} products and {} customers …", plan.products, plan.users);
    let seeded = Arc::new(orders::seed(&shop, &plan).await?);
    println!("sending {} orders a second for {:?}", plan.rate, plan.duration);
    let live = Live::default();
    let progress = tokio::spawn(show_progress(live.clone()));
    let tally = orders::run(&seeded, &plan, &live).await;
    progress.abort();
    show(&tally);
    let verdict = verdict::judge(&shop, &seeded).await.context("the verdict")?;
    show_verdict(&verdict);
    if let Some(file) = &arguments.json {
        crate::write_json(file, &as_json(&plan, &tally, &verdict))?;
    }
    Ok(if verdict.is_right() { Outcome::Right } else { Outcome::Wrong })
}

async fn show_progress(live: Live) {
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let mut before = 0;
    loop {
        tick.tick().await;
        let (text, ended) = live.look(|tally| {
            let ended = tally.confirmed + tally.cancelled();
            let others = tally.answered() - tally.accepted();
            let text = format!(
                "sent {:>7}  202 {:>7}  other {others:>4}  confirmed {:>7}  cancelled {:>5}  in flight {:>5}",
                tally.sent,
                tally.accepted(),
                tally.confirmed,
                tally.cancelled(),
                tally.in_flight(),
            );
            (text, ended)
        });
        println!("{:>4} s  {text}  ended/s {:>5}", start.elapsed().as_secs(), ended - before);
        before = ended;
    }
}

fn show(tally: &Tally) {
    println!();
    println!("answers to POST /orders:");
    for (kind, count) in &tally.answers {
        println!("  {kind:<28} {count:>8}");
    }
    println!("how the accepted ended:");
    println!("  {:<28} {:>8}", "CONFIRMED", tally.confirmed);
    for (reason, count) in &tally.cancelled {
        println!("  {:<28} {count:>8}", format!("CANCELLED {reason}"));
    }
    if tally.unfinished > 0 {
        println!("  {:<28} {:>8}", "not yet", tally.unfinished);
    }
    println!("planned time → 202:    {}", Latency::of(&tally.answered));
    println!("planned time → ended:  {}", Latency::of(&tally.ended));
    println!("orders ended a second, until the last had ended: {:.0}", ended_per_second(tally));
}

fn show_verdict(verdict: &Verdict) {
    let Verdict { orders, confirmed, paid, pieces, wrong } = verdict;
    println!("verdict: {orders} orders, {confirmed} confirmed, {paid} won paid, {pieces} pieces sold:");
    if verdict.is_right() {
        println!("  money and stock are right, no accepted order is lost");
    }
    for sentence in wrong {
        println!("  WRONG: {sentence}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn ended_per_second(tally: &Tally) -> f64 {
    (tally.confirmed + tally.cancelled()) as f64 / tally.lasted.as_secs_f64().max(0.001)
}

fn as_json(plan: &Plan, tally: &Tally, verdict: &Verdict) -> Value {
    json!({
        "rate": plan.rate,
        "durationSeconds": plan.duration.as_secs_f64(),
        "sent": tally.sent,
        "answers": tally.answers,
        "confirmed": tally.confirmed,
        "cancelled": tally.cancelled,
        "unfinished": tally.unfinished,
        "endedPerSecond": ended_per_second(tally),
        "acceptedMs": Latency::of(&tally.answered),
        "endedMs": Latency::of(&tally.ended),
        "verdict": verdict,
    })
}
