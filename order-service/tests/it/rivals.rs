//! Two things that happen to one order at the same time: each waits for the order's row, held by a
//! third, so that neither comes first by luck.

use common_events::StockRefusal;
use order_service::domain::{Hold, Payment, Status};
use reqwest::Method;

use crate::shop::{Shop, coupon_used, new_coupon, payment_completed, read, send, stock_deduct_failed, stock_deducted};

#[tokio::test(flavor = "multi_thread")]
async fn stock_of_two_lines_deducted_at_the_same_time_reserves_the_order_once() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup", "pot"]).await;
    let (cup, pot) = (shop.hear(stock_deducted(order, "cup")), shop.hear(stock_deducted(order, "pot")));
    shop.at_the_same_time(order, cup, pot).await;
    assert_eq!(shop.told_of(order).await, (1, 0, 0));
    assert_eq!(shop.order(order).await.status, Status::AwaitingPayment);
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_and_coupon_held_at_the_same_time_reserve_the_order_once() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup"], Some(coupon)).await;
    let (stock, used) = (shop.hear(stock_deducted(order, "cup")), shop.hear(coupon_used(order, coupon, 500)));
    shop.at_the_same_time(order, stock, used).await;
    assert_eq!(shop.told_of(order).await, (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lines_refused_at_the_same_time_end_the_order_once() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup", "pot"]).await;
    let cup = shop.hear(stock_deduct_failed(order, "cup", StockRefusal::OutOfStock));
    let pot = shop.hear(stock_deduct_failed(order, "pot", StockRefusal::OutOfStock));
    shop.at_the_same_time(order, cup, pot).await;
    assert_eq!(shop.told_of(order).await, (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_cancelled_while_its_stock_is_deducted_ends_cancelled_and_knows_of_the_stock() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let cancel = shop.ask(Method::POST, &format!("/orders/{order}/cancel"));
    let ((), answer) = shop.at_the_same_time(order, shop.hear(stock_deducted(order, "cup")), send(cancel)).await;
    assert_eq!(answer.status(), 202);
    let found = shop.order(order).await;
    assert_eq!((found.status, found.lines[0].stock), (Status::Cancelled, Hold::Held));
    let (reserved, confirmed, cancelled) = shop.told_of(order).await;
    assert!(reserved <= 1);
    assert_eq!((confirmed, cancelled), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_cancelled_while_it_is_paid_ends_cancelled_and_knows_of_the_payment() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    let cancel = read(shop.ask(Method::POST, &format!("/orders/{order}/cancel")));
    let ((), (status, answer)) = shop.at_the_same_time(order, shop.hear(payment_completed(order)), cancel).await;
    assert_eq!((status.as_u16(), answer["status"].as_str()), (202, Some("CANCELLED")));
    let found = shop.order(order).await;
    assert_eq!((found.status, found.payment), (Status::Cancelled, Some(Payment::Completed)));
    assert_eq!(shop.told_of(order).await.2, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn customer_and_operator_cancel_at_the_same_time_and_the_order_ends_once() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let path = format!("/orders/{order}/cancel");
    let kim = read(shop.ask(Method::POST, &path));
    let operator = read(shop.ask_as("lee", "operator", Method::POST, &path));
    let ((_, one), (_, other)) = shop.at_the_same_time(order, kim, operator).await;
    assert_eq!(one["reason"], other["reason"], "both are answered with what came of it");
    assert_eq!(shop.told_of(order).await, (0, 0, 1));
}
