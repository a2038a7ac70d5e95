//! One customer, one order, and what becomes of it.

use std::time::Duration;

use anyhow::ensure;
use common_events::{CancelReason, OrderId, PaymentRefusal, ProductId, Service};
use system::{
    Settings, Suite, eventually, law,
    shop::{AccountState, Customer, Order, OrderStatus, PaymentStatus},
    suite::Instance,
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn a_purchase_takes_stock_and_points_and_shows_in_the_ranking(suite: &Suite) -> anyhow::Result<()> {
    let shop = &suite.shop;
    let tea = shop.admin().create_product("Tea", 12_000, 10).await?;
    let cup = shop.admin().create_product("Cup", 5_000, 4).await?;
    let kim = shop.new_customer("kim");
    kim.charge(100_000).await?;

    let accepted = kim.place_order(&[(&tea.product_id, 2), (&cup.product_id, 1)]).await?;
    ensure!(accepted.status == OrderStatus::Pending);
    let order = kim.wait_for(accepted.order_id).await?;

    ensure!(order.status == OrderStatus::Confirmed, "{order:?}");
    ensure!((order.subtotal, order.discount, order.total) == (29_000, 0, 29_000), "{order:?}");
    ensure!(order.trace_id == accepted.trace_id);
    ensure!(kim.balance().await? == 71_000);
    ensure!(kim.payment(order.order_id).await?.status == PaymentStatus::Completed);
    ensure!(shop.product(&tea.product_id).await?.stock == 8);
    ensure!(shop.product(&cup.product_id).await?.stock == 3);
    until_sold(suite, &tea.product_id, Some((2, 24_000))).await
}

pub(crate) async fn out_of_stock_on_the_second_line_gives_the_first_back(suite: &Suite) -> anyhow::Result<()> {
    let shop = &suite.shop;
    let tea = shop.admin().create_product("Tea", 1_000, 10).await?;
    let rare = shop.admin().create_product("Rare tea", 1_000, 1).await?;
    let kim = shop.new_customer("kim");
    kim.charge(100_000).await?;

    let accepted = kim.place_order(&[(&tea.product_id, 3), (&rare.product_id, 2)]).await?;
    let order = kim.wait_for(accepted.order_id).await?;

    is_cancelled(&order, CancelReason::OutOfStock)?;
    until_stock(suite, &tea.product_id, 10).await?;
    until_stock(suite, &rare.product_id, 1).await?;
    ensure!(kim.balance().await? == 100_000);
    Ok(())
}

pub(crate) async fn without_enough_points_the_stock_goes_back(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(1_999).await?;

    let accepted = kim.place_order(&[(&tea.product_id, 2)]).await?;
    let order = kim.wait_for(accepted.order_id).await?;

    is_cancelled(&order, CancelReason::InsufficientPoints)?;
    until_stock(suite, &tea.product_id, 10).await?;
    ensure!(kim.balance().await? == 1_999);
    let payment = kim.payment(order.order_id).await?;
    ensure!(
        (payment.status, payment.reason) == (PaymentStatus::Failed, Some(PaymentRefusal::InsufficientPoints.into()))
    );
    Ok(())
}

pub(crate) async fn a_closed_account_buys_nothing_and_the_stock_goes_back(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(50_000).await?;
    suite.shop.admin().set_account(kim.id(), AccountState::Closed, None).await?;

    let accepted = kim.place_order(&[(&tea.product_id, 1)]).await?;
    let order = kim.wait_for(accepted.order_id).await?;

    is_cancelled(&order, CancelReason::AccountClosed)?;
    until_stock(suite, &tea.product_id, 10).await?;
    ensure!(kim.balance().await? == 50_000);
    let refused = kim.charge(1).await.expect_err("a closed account takes no points");
    ensure!(refused.status() == Some(409), "{refused}");
    Ok(())
}

pub(crate) async fn above_the_limit_of_the_account_the_stock_goes_back(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(50_000).await?;
    suite.shop.admin().set_account(kim.id(), AccountState::Open, Some(2_999)).await?;

    let accepted = kim.place_order(&[(&tea.product_id, 3)]).await?;
    let order = kim.wait_for(accepted.order_id).await?;

    is_cancelled(&order, CancelReason::LimitExceeded)?;
    until_stock(suite, &tea.product_id, 10).await?;
    ensure!(kim.balance().await? == 50_000);
    let within = kim.place_order(&[(&tea.product_id, 2)]).await?;
    ensure!(kim.wait_for(within.order_id).await?.status == OrderStatus::Confirmed);
    Ok(())
}

pub(crate) async fn a_cancel_after_confirmed_gives_points_stock_and_ranking_back(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(50_000).await?;
    let accepted = kim.place_order(&[(&tea.product_id, 4)]).await?;
    ensure!(kim.wait_for(accepted.order_id).await?.status == OrderStatus::Confirmed);
    until_sold(suite, &tea.product_id, Some((4, 4_000))).await?;

    kim.cancel(accepted.order_id).await?;

    is_cancelled(&kim.order(accepted.order_id).await?, CancelReason::Customer)?;
    until_stock(suite, &tea.product_id, 10).await?;
    until_balance(&kim, 50_000).await?;
    until_sold(suite, &tea.product_id, None).await?;
    ensure!(kim.payment(accepted.order_id).await?.status == PaymentStatus::Refunded);
    kim.cancel(accepted.order_id).await?;
    ensure!(kim.balance().await? == 50_000);
    Ok(())
}

/// A suite of its own, whose orders time out soon. The relay is frozen while the order times out, so that
/// payment-service hears of the order's end after it has taken the points.
pub(crate) async fn a_payment_that_completes_after_the_timeout_is_refunded() -> anyhow::Result<()> {
    let suite = Suite::start(Settings { order_timeout: Duration::from_secs(6), ..Settings::default() }).await?;
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(50_000).await?;
    let first = kim.place_order(&[(&tea.product_id, 1)]).await?;
    ensure!(kim.wait_for(first.order_id).await?.status == OrderStatus::Confirmed);

    suite.stop(Service::Payment, Instance::First)?;
    let late = kim.place_order(&[(&tea.product_id, 5)]).await?;
    eventually("the payment is asked for", PATIENCE, async || {
        ensure!(kim.order(late.order_id).await?.status == OrderStatus::AwaitingPayment);
        suite.nothing_waits_in_the_outbox_of(Service::Order).await
    })
    .await?;
    suite.stop(Service::OutboxRelay, Instance::First)?;
    is_cancelled(&kim.wait_for(late.order_id).await?, CancelReason::Timeout)?;

    suite.cont(Service::Payment, Instance::First)?;
    until_paid(&kim, late.order_id, PaymentStatus::Completed).await?;
    ensure!(kim.balance().await? == 44_000);

    suite.cont(Service::OutboxRelay, Instance::First)?;
    until_paid(&kim, late.order_id, PaymentStatus::Refunded).await?;
    until_balance(&kim, 49_000).await?;
    until_stock(&suite, &tea.product_id, 9).await?;
    law::holds(&suite).await?;
    is_cancelled(&kim.order(late.order_id).await?, CancelReason::Timeout)
}

async fn until_paid(customer: &Customer, order: OrderId, status: PaymentStatus) -> anyhow::Result<()> {
    eventually(&format!("the payment is {status:?}"), PATIENCE, async || {
        let is = customer.payment(order).await?.status;
        ensure!(is == status, "{is:?}");
        Ok(())
    })
    .await
}

fn is_cancelled(order: &Order, reason: CancelReason) -> anyhow::Result<()> {
    ensure!((order.status, order.reason) == (OrderStatus::Cancelled, Some(reason)), "{order:?}");
    Ok(())
}

async fn until_stock(suite: &Suite, product: &ProductId, stock: i64) -> anyhow::Result<()> {
    eventually(&format!("{product} has {stock} pieces"), PATIENCE, async || {
        let has = suite.shop.product(product).await?.stock;
        ensure!(has == stock, "{has}");
        Ok(())
    })
    .await
}

async fn until_balance(customer: &Customer, balance: i64) -> anyhow::Result<()> {
    eventually(&format!("{} has {balance} won", customer.id()), PATIENCE, async || {
        let has = customer.balance().await?;
        ensure!(has == balance, "{has}");
        Ok(())
    })
    .await
}

/// Pieces and won that the ranking of the day shows; a product of which nothing is sold is not in it.
async fn until_sold(suite: &Suite, product: &ProductId, sold: Option<(i64, i64)>) -> anyhow::Result<()> {
    eventually(&format!("the ranking shows {sold:?} of {product}"), PATIENCE, async || {
        let ranking = suite.shop.ranking("week", "amount", law::evidence::RANKING_LIMIT).await?;
        let item = ranking.items.iter().find(|item| item.product_id == *product);
        let shown = item.map(|item| (item.quantity, item.amount)).filter(|shown| *shown != (0, 0));
        ensure!(shown == sold, "{shown:?}");
        Ok(())
    })
    .await
}
