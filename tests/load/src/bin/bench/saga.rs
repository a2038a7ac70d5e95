//! Orders through the whole chain.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use load::{Latency, Live, Plan, Seeded, Tally, orders, verdict};
use system::Suite;

use crate::{
    settings,
    table::{Goal, Row, Samples},
};

/// The rate whose latency is asked for, in orders a second.
const LIGHT_RATE: f64 = 200.0;
const LIGHT_FOR: Duration = Duration::from_secs(15);
const LIGHT_RUNS: usize = 2;
/// More than can be done: how fast the backlog is worked off is what the chain sustains.
const HEAVY_RATE: f64 = 2_500.0;
const HEAVY_FOR: Duration = Duration::from_secs(6);
const HEAVY_RUNS: usize = 3;

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    let seeded = warm(&suite).await?;
    let (mut p50, mut p99, mut sustained) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..LIGHT_RUNS {
        let tally = send(&seeded, LIGHT_RATE, LIGHT_FOR).await?;
        let latency = Latency::of(&tally.ended);
        println!("  at {LIGHT_RATE}/s: planned time → ended: {latency}");
        p50.push(latency.p50);
        p99.push(latency.p99);
    }
    for _ in 0..HEAVY_RUNS {
        sustained.push(sustained_by(&seeded).await?);
    }
    let verdict = verdict::judge(&suite.shop, &seeded).await?;
    ensure!(verdict.is_right(), "money or stock is wrong: {:?}", verdict.wrong);
    let row = |what: &str, unit, ours, goal| Row { what: what.to_owned(), unit, ours, bare: None, goal };
    Ok(vec![
        row("order → CONFIRMED at 200/s, p50", "ms", p50, Goal::AtMost(15.0)),
        row("order → CONFIRMED at 200/s, p99", "ms", p99, Goal::AtMost(40.0)),
        row("orders through the whole chain", "orders/s", sustained, Goal::AtLeast(1_500.0)),
    ])
}

/// Products, customers, and every code path run once.
pub(crate) async fn warm(suite: &Suite) -> anyhow::Result<Arc<Seeded>> {
    let plan = Plan { products: 100, users: 500, ..Plan::default() };
    let seeded = Arc::new(orders::seed(&suite.shop, &plan).await?);
    send(&seeded, LIGHT_RATE, Duration::from_secs(4)).await?;
    Ok(seeded)
}

/// Orders a second, until the last of a backlog has ended.
pub(crate) async fn sustained_by(seeded: &Arc<Seeded>) -> anyhow::Result<f64> {
    let tally = send(seeded, HEAVY_RATE, HEAVY_FOR).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let rate = tally.confirmed as f64 / tally.lasted.as_secs_f64();
    println!(
        "  {} orders sent in {:.1} s, all ended after {:.1} s: {rate:.0}/s",
        tally.sent,
        tally.sending.as_secs_f64(),
        tally.lasted.as_secs_f64()
    );
    Ok(rate)
}

async fn send(seeded: &Arc<Seeded>, rate: f64, duration: Duration) -> anyhow::Result<Tally> {
    let plan = Plan { rate, duration, lines: 2, ..Plan::default() };
    let live = Live::default();
    // A task of its own: this one would be polled with everything else that waits here.
    let seeded = Arc::clone(seeded);
    let tally = tokio::spawn(async move { orders::run(&seeded, &plan, &live).await }).await.context("the load")?;
    ensure!(tally.confirmed == tally.sent, "{:?}, {:?}", tally.answers, tally.cancelled);
    Ok(tally)
}
