//! What Zipkin shows.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use system::{Suite, eventually, shop::OrderStatus, traces};

const PATIENCE: Duration = Duration::from_secs(30);

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
