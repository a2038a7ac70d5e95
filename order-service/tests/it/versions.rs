//! What refuses an order may be told in its first version, or for a reason that is not known here.

use common_events::{
    CancelReason, CouponRefusal, EventData, IssuedCouponId, OrderId, PaymentRefusal, ReasonCode, StockRefusal,
    envelope::{encode_newest, peek},
    events::{CouponUseFailed, OrderCancelled, PaymentFailed, PaymentRefunded, StockDeductFailed, v1},
};
use messaging::{Delivered, Record};
use order_service::domain::{Payment, Status};
use reqwest::Method;
use serde_json::json;

use crate::shop::{
    Shop, coupon_use_failed, new_coupon, payment_completed, payment_failed, payment_refunded, read,
    stock_deduct_failed, stock_deducted,
};

/// A reason of a later release.
fn unknown() -> ReasonCode {
    "RECALLED_2027".parse().expect("a code")
}

fn first_stock_deduct_failed(order: OrderId) -> v1::StockDeductFailed {
    let StockDeductFailed { order_id, product_id, quantity, .. } = stock_deduct_failed(order, "cup", unknown().into());
    v1::StockDeductFailed { order_id, product_id, quantity, reason: v1::Reason::OutOfStock.into() }
}

fn first_coupon_use_failed(order: OrderId, coupon: IssuedCouponId) -> v1::CouponUseFailed {
    let CouponUseFailed { order_id, issued_coupon_id, .. } = coupon_use_failed(order, coupon, unknown().into());
    v1::CouponUseFailed { order_id, issued_coupon_id, reason: v1::Reason::CouponExpired.into() }
}

fn first_payment_failed(order: OrderId) -> v1::PaymentFailed {
    let PaymentFailed { order_id, user_id, total, .. } = payment_failed(order, unknown().into());
    v1::PaymentFailed { order_id, user_id, total, reason: v1::Reason::LimitExceeded.into() }
}

/// Hears an event in its newest version, though it is still told in the one before.
async fn hear_newest<T: EventData>(shop: &Shop, data: T) {
    let event = shop.seam.event(data);
    let value = Some(encode_newest(&event).expect("events are JSON"));
    let delivered = shop.seam.deliver_records(&[Record { value, ..shop.seam.record(&event) }]).await;
    assert_eq!(delivered, Delivered { applied: 1, ..Delivered::default() });
}

async fn ended(shop: &Shop, order: OrderId, reason: CancelReason) {
    let found = shop.order(order).await;
    assert_eq!((found.status, found.reason), (Status::Cancelled, Some(reason)));
    let told = shop.seam.told::<OrderCancelled>().await;
    let of_order: Vec<_> = told.iter().filter(|event| event.data.order_id == order).collect();
    assert_eq!((of_order.len(), of_order[0].data.reason), (1, reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_order_whichever_version_it_is_of() {
    let shop = Shop::open().await;
    let orders = [shop.place(&["cup"]).await, shop.place(&["cup"]).await];
    shop.hear(first_stock_deduct_failed(orders[0])).await;
    hear_newest(&shop, stock_deduct_failed(orders[1], "cup", StockRefusal::OutOfStock)).await;
    for order in orders {
        ended(&shop, order, CancelReason::OutOfStock).await;
    }

    let coupon = new_coupon();
    let orders = [shop.place_with(&["cup"], Some(coupon)).await, shop.place_with(&["cup"], Some(coupon)).await];
    shop.hear(first_coupon_use_failed(orders[0], coupon)).await;
    hear_newest(&shop, coupon_use_failed(orders[1], coupon, CouponRefusal::Expired)).await;
    for order in orders {
        ended(&shop, order, CancelReason::CouponExpired).await;
    }

    let orders = [shop.place(&["cup"]).await, shop.place(&["cup"]).await];
    for order in orders {
        shop.hear(stock_deducted(order, "cup")).await;
    }
    shop.hear(first_payment_failed(orders[0])).await;
    hear_newest(&shop, payment_failed(orders[1], PaymentRefusal::LimitExceeded)).await;
    for order in orders {
        ended(&shop, order, CancelReason::LimitExceeded).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_noted_whichever_version_it_is_of() {
    let shop = Shop::open().await;
    let order = shop.place_confirmed().await;
    shop.cancel(order).await;
    hear_newest(&shop, payment_refunded(order)).await;
    assert_eq!(shop.order(order).await.payment, Some(Payment::Refunded));

    let order = shop.place_confirmed().await;
    shop.cancel(order).await;
    shop.hear(PaymentRefunded { reason: unknown().into(), ..payment_refunded(order) }).await;
    assert_eq!(shop.order(order).await.payment, Some(Payment::Refunded));

    let order = shop.place_confirmed().await;
    shop.cancel(order).await;
    let PaymentRefunded { order_id, user_id, lines, discount, total, paid_at, refunded_at, .. } =
        payment_refunded(order);
    let reason = v1::Reason::Customer.into();
    shop.hear(v1::PaymentRefunded { order_id, user_id, lines, discount, total, paid_at, refunded_at, reason }).await;
    assert_eq!(shop.order(order).await.payment, Some(Payment::Refunded));
}

/// It ends the order like any other reason, and is passed on as it was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_an_unknown_reason_ends_the_order_and_everybody_reads_the_reason() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let orders =
        [shop.place(&["cup"]).await, shop.place_with(&["cup"], Some(coupon)).await, shop.place(&["cup"]).await];
    shop.hear(stock_deduct_failed(orders[0], "cup", unknown().into())).await;
    shop.hear(coupon_use_failed(orders[1], coupon, unknown().into())).await;
    shop.hear(stock_deducted(orders[2], "cup")).await;
    shop.hear(payment_failed(orders[2], unknown().into())).await;
    for order in orders {
        ended(&shop, order, unknown().into()).await;
        let (_, shown) = read(shop.ask(Method::GET, &format!("/orders/{order}"))).await;
        assert_eq!(shown["reason"], json!("RECALLED_2027"));
    }
    shop.hear(payment_completed(orders[2])).await;
    ended(&shop, orders[2], unknown().into()).await;
}

/// Somebody else's: ours tell such a reason in version 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_version_1_for_a_reason_that_is_not_on_its_list_ends_the_order_too() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(v1::StockDeductFailed { reason: unknown(), ..first_stock_deduct_failed(order) }).await;
    ended(&shop, order, unknown().into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_told_in_version_2() {
    let shop = Shop::open().await;
    shop.place_cancelled(None).await;
    let client = shop.database.pool.get().await.expect("a connection");
    let row = client.query_one("SELECT payload FROM outbox WHERE topic = 'order-cancelled'", &[]).await;
    let payload: Vec<u8> = row.expect("one cancel").get(0);
    assert_eq!(peek(&payload).dataschema.as_deref(), Some("urn:commerce:order-cancelled:2"));
}
