//! Coupons in the order saga: held for an order that is placed, and free again when it ends.

use common_events::events::{OrderCancelled, OrderCreated};
use messaging::{Event, Handled, Tx};

use crate::{
    domain::{Answer, Use, Wallet},
    store,
};

/// An order may want to use a coupon. What can't be used is refused with its reason: a refusal is an
/// answer, and what follows from it is order-service's to decide. An order without a coupon waits for
/// nobody here.
pub(super) async fn on_order_created(tx: &Tx<'_>, events: &[&Event<OrderCreated>]) -> Handled {
    let wishes = || events.iter().filter_map(|event| Some((*event, event.data.issued_coupon_id?)));
    if wishes().next().is_none() {
        return Ok(());
    }
    let orders = store::lock_orders(tx, wishes().map(|(event, _)| event.data.order_id)).await?;
    let coupons = store::lock_issued(tx, wishes().map(|(_, coupon)| coupon)).await?;
    let mut wallet = Wallet::new(orders, coupons);
    for (event, _) in wishes() {
        match wallet.use_coupon(&event.data) {
            Some(Answer::Used(used)) => tx.publish(event.causes(used))?,
            Some(Answer::Refused(failed)) => tx.publish(event.causes(failed))?,
            None => continue,
        };
    }
    store::update_wallet(tx, wallet.changes()).await?;
    Ok(())
}

/// An order ended: the coupon it uses can be used again. Of an order that wasn't heard of yet stays the
/// cancelled row, where its wish will find it when it comes; only order-service may call it unknown.
pub(super) async fn on_order_cancelled(tx: &Tx<'_>, events: &[&Event<OrderCancelled>]) -> Handled {
    let with_coupon = || events.iter().filter(|event| event.data.issued_coupon_id.is_some());
    if with_coupon().next().is_none() {
        return Ok(());
    }
    let orders = store::lock_orders(tx, with_coupon().map(|event| event.data.order_id)).await?;
    let held = orders.values().filter_map(|order| match order.wish {
        Some((coupon, Use::Used { .. })) => Some(coupon),
        Some((_, Use::Refused(_) | Use::Restored { .. })) | None => None,
    });
    let coupons = store::lock_issued(tx, held).await?;
    let mut wallet = Wallet::new(orders, coupons);
    for event in with_coupon() {
        if let Some(restored) = wallet.restore_coupon(event.data.order_id) {
            tx.publish(event.causes(restored))?;
        }
    }
    store::update_wallet(tx, wallet.changes()).await?;
    Ok(())
}
