//! Orders through the whole chain.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use load::{Latency, Live, Plan, Seeded, Tally, orders, verdict};
use system::{Suite, eventually};
use tokio::time::Instant;

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
const LIMIT: Duration = Duration::from_mins(1);

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
        sustained.push(sustained_by(&suite, &seeded).await?);
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
    let seeded = Arc::new(orders::seed(&suite.shop, &plan()).await?);
    send(&seeded, LIGHT_RATE, Duration::from_secs(4)).await?;
    Ok(seeded)
}

/// Orders a second, until the last of a backlog has ended. That is seen in the database: a client that waits
/// for thousands at once would itself be in the way.
pub(crate) async fn sustained_by(suite: &Suite, seeded: &Arc<Seeded>) -> anyhow::Result<f64> {
    let began = Instant::now();
    let tally = run(seeded, Plan { rate: HEAVY_RATE, duration: HEAVY_FOR, patience: Duration::ZERO, ..plan() }).await?;
    ensure!(tally.accepted() == tally.sent, "{:?}", tally.answers);
    eventually("every order has ended", LIMIT, async || suite.every_order_has_ended().await).await?;
    let took = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let rate = tally.sent as f64 / took;
    let sending = tally.lasted.as_secs_f64();
    println!("  {} orders accepted within {sending:.1} s, all ended after {took:.1} s: {rate:.0}/s", tally.sent);
    Ok(rate)
}

async fn send(seeded: &Arc<Seeded>, rate: f64, duration: Duration) -> anyhow::Result<Tally> {
    let tally = run(seeded, Plan { rate, duration, ..plan() }).await?;
    ensure!(tally.confirmed == tally.sent, "{:?}, {:?}", tally.answers, tally.cancelled);
    Ok(tally)
}

fn plan() -> Plan {
    Plan { products: 100, users: 500, lines: 2, connections: 64, ..Plan::default() }
}

async fn run(seeded: &Arc<Seeded>, plan: Plan) -> anyhow::Result<Tally> {
    let live = Live::default();
    // A task of its own: this one would be polled with everything else that waits here.
    let seeded = Arc::clone(seeded);
    tokio::spawn(async move { orders::run(&seeded, &plan, &live).await }).await.context("the load")
}
