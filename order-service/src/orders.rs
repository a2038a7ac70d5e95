//! What people do with orders, each in one transaction: place one, cancel one. The endpoints add what HTTP
//! needs around it, and whoever drives the shop without HTTP calls the same.

use common_events::OrderId;
use messaging::{Cause, Failure, Tx};
use service_runtime::Caller;

use crate::{
    domain::{Basket, CancelledBy, Order, Placed, Placing, Refusal},
    store,
    waiting::Waiting,
};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Not such an order.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database failed.
    #[error("the database failed on an order")]
    Database(#[from] tokio_postgres::Error),
    /// An event can't be published.
    #[error("an order's event can't be published")]
    Unpublished(#[from] Failure),
}

/// Places an order at today's prices, and tells of it and of each of its lines.
pub async fn place_order(tx: &Tx<'_>, placing: Placing, basket: Basket) -> Result<Order, NotDone> {
    let products = store::list_products(tx, &basket.product_ids()).await?;
    let cause = Cause::trace(placing.trace);
    let Placed { order, created, lines } = Order::place(placing, basket, &products, tx.now())?;
    store::insert_order(tx, &order).await?;
    tx.publish(cause.causes(created))?;
    for line in lines {
        tx.publish(cause.causes(line))?;
    }
    Ok(order)
}

/// Cancels an order, confirmed or not; one that was cancelled already stays as it was. `None` when there is no
/// such order, or it is nothing that `caller` may see.
pub async fn cancel_order(
    tx: &Tx<'_>,
    caller: &Caller,
    id: OrderId,
    note: Option<String>,
    waiting: &Waiting,
) -> Result<Option<Order>, NotDone> {
    let order = store::lock_order(tx, id).await?;
    let Some(mut order) = order.filter(|order| caller.may_see(&order.user_id)) else { return Ok(None) };
    let who = if caller.user_id == order.user_id { CancelledBy::Owner } else { CancelledBy::Operator };
    if let Some(cancelled) = order.cancel_by_hand(who, note, tx.now()) {
        store::update_orders(tx, [&order]).await?;
        tx.publish(Cause::trace(order.trace).causes(cancelled))?;
        waiting.wake_after(tx, order.id);
    }
    Ok(Some(order))
}
