//! Many who want the same at the same time.

use std::collections::BTreeSet;

use anyhow::ensure;
use common_events::{CancelReason, ProductId};
use futures::future::{join_all, try_join_all};
use system::{Suite, shop::OrderStatus};

pub(crate) async fn forty_buyers_get_exactly_the_twenty_five_pieces(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 25).await?;
    let buyers: Vec<_> = (0..40).map(|_| suite.shop.new_customer("buyer")).collect();
    try_join_all(buyers.iter().map(|buyer| buyer.charge(10_000))).await?;

    let orders = try_join_all(buyers.iter().map(|buyer| async {
        let accepted = buyer.place_order(&[(&tea.product_id, 1)]).await?;
        buyer.wait_for(accepted.order_id).await
    }))
    .await?;

    let confirmed = orders.iter().filter(|order| order.status == OrderStatus::Confirmed).count();
    let sold_out = orders.iter().filter(|order| order.reason == Some(CancelReason::OutOfStock)).count();
    ensure!((confirmed, sold_out) == (25, 15), "{confirmed} confirmed, {sold_out} out of stock");
    ensure!(suite.shop.product(&tea.product_id).await?.stock == 0);
    let balances = try_join_all(buyers.iter().map(system::shop::Customer::balance)).await?;
    ensure!(balances.iter().sum::<i64>() == 40 * 10_000 - 25 * 1_000);
    Ok(())
}

pub(crate) async fn one_idempotency_key_sent_eight_times_at_once_is_one_order(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 100).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(100_000).await?;
    let first = kim.place_order(&[(&tea.product_id, 1)]).await?;
    kim.wait_for(first.order_id).await?;

    let key = "eight-times-at-once";
    let lines = [(&tea.product_id, 2)];
    let answers = join_all((0..8).map(|_| kim.try_order(key, &lines))).await;

    let mut ids = BTreeSet::new();
    for answer in answers {
        match answer {
            Ok(accepted) => drop(ids.insert(accepted.order_id)),
            Err(trouble) => ensure!(trouble.status() == Some(409), "{trouble}"),
        }
    }
    ensure!(ids.len() == 1, "{ids:?}");
    ensure!(ids.contains(&kim.try_order(key, &lines).await?.order_id), "the same answer afterwards");
    for id in ids {
        ensure!(kim.wait_for(id).await?.status == OrderStatus::Confirmed);
    }
    ensure!(kim.orders().await?.len() == 2);
    ensure!(kim.balance().await? == 97_000);
    Ok(())
}

pub(crate) async fn who_is_refused_may_send_the_same_again_at_once(suite: &Suite) -> anyhow::Result<()> {
    let nothing: ProductId = "no-such-product".parse()?;
    let kim = suite.shop.new_customer("kim");
    for _ in 0..50 {
        let refused = kim.try_order("again-and-again", &[(&nothing, 1)]).await.expect_err("there is no such product");
        ensure!((refused.status(), refused.code()) == (Some(422), Some("unknown-product")), "{refused}");
    }
    Ok(())
}
