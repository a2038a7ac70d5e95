//! What each event does to an order: once, twice, late, before its cause.

use common_events::{
    CancelReason, CouponRefusal, EventData, OrderId, PaymentRefusal, StockRefusal,
    events::{OrderCancelled, OrderConfirmed, OrderReserved, PaymentCompleted, PaymentRefunded},
};
use messaging::Delivered;
use order_service::domain::{Hold, Order, Payment, Status};

use crate::shop::{
    CUP, POT, Shop, coupon_use_failed, coupon_used, new_coupon, payment_completed, payment_failed, payment_refunded,
    stock_deduct_failed, stock_deducted, unknown_order, won,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_stock_is_all_held_is_reserved_with_what_is_to_be_paid() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup", "pot"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    assert_eq!(shop.told_of(order).await, (0, 0, 0));

    shop.hear(stock_deducted(order, "pot")).await;
    let told = shop.seam.told::<OrderReserved>().await;
    let [reserved] = &told[..] else { panic!("reserved once, not {told:?}") };
    assert_eq!((reserved.data.order_id, reserved.data.order_version), (order, 2));
    assert_eq!(
        (reserved.data.subtotal, reserved.data.discount, reserved.data.total),
        (won(CUP + POT), won(0), won(CUP + POT))
    );
    assert_eq!(reserved.data.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["The cup", "The pot"]);
    assert_eq!(shop.order(order).await.status, Status::AwaitingPayment);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_confirmed() {
    let shop = Shop::open().await;
    let order = shop.place_confirmed().await;
    assert_eq!(shop.told_of(order).await, (1, 1, 0));
    let confirmed = &shop.seam.told::<OrderConfirmed>().await[0];
    assert_eq!((confirmed.data.order_version, confirmed.data.total), (3, won(CUP)));
    assert_eq!(shop.order(order).await.status, Status::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_with_a_coupon_waits_for_it_and_costs_less() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    for coupon_comes_first in [true, false] {
        let order = shop.place_with(&["cup"], Some(coupon)).await;
        if coupon_comes_first {
            shop.hear(coupon_used(order, coupon, 500)).await;
            assert_eq!(shop.told_of(order).await, (0, 0, 0));
            shop.hear(stock_deducted(order, "cup")).await;
        } else {
            shop.hear(stock_deducted(order, "cup")).await;
            assert_eq!(shop.told_of(order).await, (0, 0, 0));
            shop.hear(coupon_used(order, coupon, 500)).await;
        }
        assert_eq!(shop.told_of(order).await, (1, 0, 0));
        let told = shop.seam.told::<OrderReserved>().await;
        let reserved = told.last().expect("it is reserved");
        assert_eq!((reserved.data.discount, reserved.data.total), (won(500), won(CUP - 500)));
        assert_eq!(shop.order(order).await.total(), won(CUP - 500));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discount_above_the_subtotal_leaves_nothing_to_pay() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup"], Some(coupon)).await;
    shop.hear(coupon_used(order, coupon, CUP + 1)).await;
    shop.hear(stock_deducted(order, "cup")).await;
    let reserved = &shop.seam.told::<OrderReserved>().await[0];
    assert_eq!((reserved.data.discount, reserved.data.total), (won(CUP), won(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_ends_the_order_for_its_reason() {
    let shop = Shop::open().await;
    let coupon = new_coupon();

    let order = shop.place_with(&["cup", "pot"], Some(coupon)).await;
    shop.hear(stock_deduct_failed(order, "pot", StockRefusal::OutOfStock)).await;
    ended(&shop, order, CancelReason::OutOfStock).await;
    let cancelled = shop.seam.told::<OrderCancelled>().await.remove(0).data;
    assert_eq!((cancelled.order_version, cancelled.reason, cancelled.note), (2, CancelReason::OutOfStock, None));
    assert_eq!((cancelled.lines.len(), cancelled.issued_coupon_id), (2, Some(coupon)));
    shop.hear(stock_deduct_failed(order, "cup", StockRefusal::UnknownProduct)).await;
    shop.hear(coupon_use_failed(order, coupon, CouponRefusal::Expired)).await;
    ended(&shop, order, CancelReason::OutOfStock).await;

    let order = shop.place_with(&["cup"], Some(coupon)).await;
    shop.hear(coupon_use_failed(order, coupon, CouponRefusal::Used)).await;
    ended(&shop, order, CancelReason::CouponUsed).await;

    let order = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    shop.hear(payment_failed(order, PaymentRefusal::InsufficientPoints)).await;
    ended(&shop, order, CancelReason::InsufficientPoints).await;
}

async fn ended(shop: &Shop, order: OrderId, reason: CancelReason) {
    let found = shop.order(order).await;
    assert_eq!((found.status, found.reason), (Status::Cancelled, Some(reason)));
    assert_eq!(shop.told_of(order).await.2, 1, "order-cancelled is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_is_delivered_twice_is_applied_once() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup"], Some(coupon)).await;
    twice(&shop, order, stock_deducted(order, "cup")).await;
    twice(&shop, order, coupon_used(order, coupon, 500)).await;
    twice(&shop, order, PaymentCompleted { total: won(CUP - 500), ..payment_completed(order) }).await;
    shop.cancel(order).await;
    twice(&shop, order, PaymentRefunded { total: won(CUP - 500), ..payment_refunded(order) }).await;
    assert_eq!(shop.told_of(order).await, (1, 1, 1));

    let order = shop.place(&["cup"]).await;
    twice(&shop, order, stock_deduct_failed(order, "cup", StockRefusal::OutOfStock)).await;
    assert_eq!(shop.told_of(order).await, (0, 0, 1));

    let order = shop.place_with(&["cup"], Some(coupon)).await;
    twice(&shop, order, coupon_use_failed(order, coupon, CouponRefusal::NotFound)).await;
    assert_eq!(shop.told_of(order).await, (0, 0, 1));

    let order = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    twice(&shop, order, payment_failed(order, PaymentRefusal::AccountClosed)).await;
    assert_eq!(shop.told_of(order).await, (1, 0, 1));
}

/// The same event twice, and then the same news as another event.
async fn twice<T: EventData + Clone>(shop: &Shop, order: OrderId, data: T) {
    let event = shop.seam.event(data.clone());
    assert_eq!(shop.seam.deliver(&event).await, Delivered { applied: 1, ..Delivered::default() });
    let after: (Order, _) = (shop.order(order).await, shop.told_of(order).await);
    assert_eq!(shop.seam.deliver(&event).await, Delivered { duplicates: 1, ..Delivered::default() });
    assert_eq!((shop.order(order).await, shop.told_of(order).await), after);
    shop.hear(data).await;
    assert_eq!((shop.order(order).await, shop.told_of(order).await), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_end_is_noted_and_changes_nothing() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let first = shop.place_cancelled(Some(coupon)).await;
    let before = shop.order(first).await;

    shop.hear(stock_deducted(first, "cup")).await;
    shop.hear(coupon_used(first, coupon, 500)).await;
    shop.hear(payment_completed(first)).await;
    let after = shop.order(first).await;
    assert_eq!(after.lines[0].stock, Hold::Held);
    assert_eq!(after.coupon.expect("it wanted one").hold, Hold::Held);
    assert_eq!(after.payment, Some(Payment::Completed));
    unchanged(&before, &after);
    assert_eq!(shop.told_of(first).await, (0, 0, 1));

    let second = shop.place_cancelled(Some(coupon)).await;
    let before = shop.order(second).await;
    shop.hear(stock_deduct_failed(second, "cup", StockRefusal::OrderCancelled)).await;
    shop.hear(coupon_use_failed(second, coupon, CouponRefusal::OrderCancelled)).await;
    shop.hear(payment_failed(second, PaymentRefusal::OrderCancelled)).await;
    let after = shop.order(second).await;
    assert_eq!(after.lines[0].stock, Hold::Refused);
    assert_eq!(after.coupon.expect("it wanted one").hold, Hold::Refused);
    assert_eq!(after.payment, Some(Payment::Failed));
    unchanged(&before, &after);
    assert_eq!(shop.told_of(second).await, (0, 0, 1));
}

fn unchanged(before: &Order, after: &Order) {
    let shown = |order: &Order| (order.status, order.version, order.reason, order.total(), order.updated_at);
    assert_eq!(shown(before), shown(after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_confirmation_does_not_end_the_order() {
    let shop = Shop::open().await;
    let order = shop.place_confirmed().await;
    shop.hear(payment_failed(order, PaymentRefusal::InsufficientPoints)).await;
    shop.hear(stock_deduct_failed(order, "cup", StockRefusal::OutOfStock)).await;
    assert_eq!(shop.order(order).await.status, Status::Confirmed);
    assert_eq!(shop.told_of(order).await, (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_comes_before_its_cause_confirms_once_all_is_held() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(payment_completed(order)).await;
    assert_eq!((shop.order(order).await.status, shop.told_of(order).await), (Status::Pending, (0, 0, 0)));
    shop.hear(stock_deducted(order, "cup")).await;
    assert_eq!((shop.order(order).await.status, shop.told_of(order).await), (Status::Confirmed, (1, 1, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_heard_before_its_payment_stays_a_refund() {
    let shop = Shop::open().await;
    let order = shop.place_cancelled(None).await;
    shop.hear(payment_refunded(order)).await;
    shop.hear(payment_completed(order)).await;
    assert_eq!(shop.order(order).await.payment, Some(Payment::Refunded));
    assert_eq!(shop.told_of(order).await, (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_applied_event_by_event_and_one_bad_one_costs_only_itself() {
    let shop = Shop::open().await;
    let (first, second) = (shop.place(&["cup", "pot"]).await, shop.place(&["pot"]).await);
    let events = [
        shop.seam.event(stock_deducted(second, "pot")),
        shop.seam.event(stock_deducted(first, "cup")),
        shop.seam.event(stock_deducted(unknown_order(), "cup")),
        shop.seam.event(stock_deducted(first, "pot")),
        shop.seam.event(stock_deducted(second, "pot")),
    ];
    let delivered = shop.seam.deliver_batch(&events).await;
    assert_eq!(delivered, Delivered { applied: 4, dead: 1, ..Delivered::default() });
    assert_eq!((shop.told_of(first).await, shop.told_of(second).await), ((1, 0, 0), (1, 0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_causes_belongs_to_its_trace() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let trace = shop.order(order).await.trace;
    let mut deducted = shop.seam.event(stock_deducted(order, "cup"));
    deducted.trace = trace;
    shop.seam.deliver(&deducted).await;
    assert_eq!(shop.seam.told::<OrderReserved>().await[0].trace.trace_id, trace.trace_id);
    shop.cancel(order).await;
    assert_eq!(shop.seam.told::<OrderCancelled>().await[0].trace.trace_id, trace.trace_id);
}
