//! What Zipkin shows: each saga is one trace, from the first request to what undoes it last.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use common_events::TraceId;
use system::{Suite, eventually, shop::OrderStatus, traces};

use crate::sales::{USUAL, gets_a_coupon};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the trace is whole, all of these have a part in it, and each of these events was published in it.
async fn tells(suite: &Suite, trace: TraceId, services: &[&str], events: &[&str]) -> anyhow::Result<()> {
    eventually("the whole trace is in Zipkin", PATIENCE, async || {
        let spans = traces::spans(suite.parts(), trace).await?;
        let there = traces::whole(&spans)?;
        let missing: Vec<&&str> = services.iter().filter(|service| !there.contains(**service)).collect();
        ensure!(missing.is_empty(), "{missing:?} have no part in it, only {there:?}");
        let published: BTreeSet<&str> = spans.iter().filter_map(|span| span.name.strip_prefix("publish ")).collect();
        let untold = |event: &&&str| !published.iter().any(|name| suite.names().bare(name) == **event);
        let untold: Vec<&&str> = events.iter().filter(untold).collect();
        ensure!(untold.is_empty(), "{untold:?} aren't in it, only {published:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_refused_order_and_what_it_gives_back_are_one_trace(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let rare = suite.shop.admin().create_product("Rare tea", 1_000, 1).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(10_000).await?;
    let accepted = kim.place_order(&[(&tea.product_id, 1), (&rare.product_id, 2)]).await?;
    ensure!(kim.wait_for(accepted.order_id).await?.status == OrderStatus::Cancelled);
    let events = ["order-created", "order-line-placed", "stock-deduct-failed", "order-cancelled", "stock-restored"];
    tells(suite, accepted.trace_id, &["order-service", "product-service", "outbox-relay"], &events).await
}

pub(crate) async fn a_coupon_from_its_claim_to_its_return_is_two_traces(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 12_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(100_000).await?;
    let (coupon, claim) = gets_a_coupon(suite, &kim, USUAL).await?;
    let order = kim.place_order_with(coupon, &[(&tea.product_id, 1)]).await?;
    ensure!(kim.wait_for(order.order_id).await?.status == OrderStatus::Confirmed);
    kim.cancel(order.order_id).await?;

    let both = ["coupon-service", "outbox-relay"];
    tells(suite, claim, &both, &["coupon-issue-requested", "coupon-issued"]).await?;
    tells(suite, order.trace_id, &both, &["coupon-used", "payment-completed", "coupon-restored"]).await
}

pub(crate) async fn a_purchase_is_one_trace_over_all_services_without_a_broken_parent(
    suite: &Suite,
) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let cup = suite.shop.admin().create_product("Cup", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(10_000).await?;
    let accepted = kim.place_order(&[(&tea.product_id, 1), (&cup.product_id, 1)]).await?;
    ensure!(kim.wait_for(accepted.order_id).await?.status == OrderStatus::Confirmed);
    kim.cancel(accepted.order_id).await?;

    let all = [
        "coupon-service",
        "data-platform",
        "order-service",
        "outbox-relay",
        "payment-service",
        "product-service",
        "ranking-service",
    ];
    eventually("the whole trace is in Zipkin", PATIENCE, async || {
        let spans = traces::spans(suite.parts(), accepted.trace_id).await?;
        let services = traces::whole(&spans)?;
        ensure!(services == BTreeSet::from(all), "{services:?}");
        let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        let compensated = names.iter().any(|name| name.contains("payment-refunded"));
        ensure!(compensated, "the refund isn't in it: {names:?}");
        Ok(())
    })
    .await
}
