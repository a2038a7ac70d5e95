//! Answers that don't fit what an order asked: they are set aside, and change nothing.

use common_events::{
    CouponRefusal, EventData, PaymentRefusal, Quantity, StockRefusal, UserId,
    events::{CouponUsed, PaymentCompleted, PaymentFailed, PaymentRefunded, StockDeductFailed, StockDeducted},
};
use messaging::Delivered;
use order_service::domain::Status;

use crate::shop::{
    CUP, Shop, coupon_use_failed, coupon_used, new_coupon, payment_completed, payment_failed, payment_refunded,
    stock_deduct_failed, stock_deducted, unknown_order, won,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_an_order_that_never_was_is_set_aside() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let never = unknown_order();
    set_aside(&shop, stock_deducted(never, "cup")).await;
    set_aside(&shop, stock_deduct_failed(never, "cup", StockRefusal::OutOfStock)).await;
    set_aside(&shop, coupon_used(never, coupon, 1)).await;
    set_aside(&shop, coupon_use_failed(never, coupon, CouponRefusal::Used)).await;
    set_aside(&shop, payment_completed(never)).await;
    set_aside(&shop, payment_failed(never, PaymentRefusal::LimitExceeded)).await;
    set_aside(&shop, payment_refunded(never)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_the_order_never_asked_is_set_aside() {
    let shop = Shop::open().await;
    let order = shop.place_with(&["cup"], Some(new_coupon())).await;
    set_aside(&shop, stock_deducted(order, "pot")).await;
    set_aside(&shop, stock_deduct_failed(order, "pot", StockRefusal::OutOfStock)).await;
    set_aside(&shop, coupon_used(order, new_coupon(), 1)).await;
    set_aside(&shop, coupon_use_failed(order, new_coupon(), CouponRefusal::Used)).await;
    assert_eq!((shop.order(order).await.version, shop.told_of(order).await), (1, (0, 0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_customer_amount_or_quantity_is_set_aside_and_the_right_one_still_counts() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup"], Some(coupon)).await;
    let lee: UserId = "lee".parse().expect("an id");
    let two: Quantity = 2.try_into().expect("a quantity");
    set_aside(&shop, StockDeducted { quantity: two, ..stock_deducted(order, "cup") }).await;
    let refused = stock_deduct_failed(order, "cup", StockRefusal::OutOfStock);
    set_aside(&shop, StockDeductFailed { quantity: two, ..refused }).await;
    set_aside(&shop, CouponUsed { user_id: lee.clone(), ..coupon_used(order, coupon, 500) }).await;
    assert_eq!((shop.order(order).await.version, shop.told_of(order).await), (1, (0, 0, 0)));

    shop.hear(stock_deducted(order, "cup")).await;
    shop.hear(coupon_used(order, coupon, 500)).await;
    let (total, more) = (won(CUP - 500), won(CUP));
    let paid = PaymentCompleted { total, ..payment_completed(order) };
    let unpaid = PaymentFailed { total, ..payment_failed(order, PaymentRefusal::AccountClosed) };
    let refunded = PaymentRefunded { total, ..payment_refunded(order) };
    set_aside(&shop, PaymentCompleted { user_id: lee.clone(), ..paid.clone() }).await;
    set_aside(&shop, PaymentCompleted { total: more, ..paid.clone() }).await;
    set_aside(&shop, PaymentCompleted { total: won(0), ..paid.clone() }).await;
    set_aside(&shop, PaymentFailed { user_id: lee.clone(), ..unpaid.clone() }).await;
    set_aside(&shop, PaymentFailed { total: more, ..unpaid }).await;
    set_aside(&shop, PaymentRefunded { user_id: lee, ..refunded.clone() }).await;
    set_aside(&shop, PaymentRefunded { total: more, ..refunded }).await;
    let found = shop.order(order).await;
    assert_eq!((found.status, found.payment), (Status::AwaitingPayment, None));

    shop.hear(paid).await;
    assert_eq!((shop.order(order).await.status, shop.told_of(order).await), (Status::Confirmed, (1, 1, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_says_what_does_not_fit() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    set_aside(&shop, PaymentCompleted { total: won(1), ..payment_completed(order) }).await;
    let client = shop.database.pool.get().await.expect("a connection");
    let sql = "SELECT error_class, error_message, key_text FROM dead_letters";
    let letter = client.query_one(sql, &[]).await.expect("one dead letter");
    let said = (letter.get::<_, &str>(0), letter.get::<_, String>(1), letter.get::<_, String>(2));
    assert_eq!(said, ("unprocessable", format!("order {order} costs {CUP} won, not 1 won"), order.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_comes_before_the_price_is_known_is_tried_again() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup"], Some(coupon)).await;
    let paid = shop.seam.event(PaymentCompleted { total: won(CUP - 500), ..payment_completed(order) });
    let retrying = Delivered { retrying: 1, ..Delivered::default() };
    assert_eq!(shop.seam.deliver(&paid).await, retrying);
    assert_eq!((shop.order(order).await.payment, shop.told_of(order).await), (None, (0, 0, 0)));
}

async fn set_aside<T: EventData>(shop: &Shop, data: T) {
    let delivered = shop.seam.deliver(&shop.seam.event(data)).await;
    assert_eq!(delivered, Delivered { dead: 1, ..Delivered::default() }, "{}", T::TOPIC);
}
