//! What product-service hears: lines of orders that ask for stock, and orders that ended.
//!
//! A handler gets a batch: it locks the orders, then the products, each sorted; decides in memory,
//! event by event; saves what changed with one statement per table, so that a hot product with
//! hundreds of lines is one update; and publishes the answers in the order of their questions.

use common_events::{
    CancelReason, Service,
    events::{OrderCancelled, OrderLinePlaced},
};
use futures::FutureExt;
use messaging::{Event, Handled, Subscriptions, Tx};
use service_runtime::museum::{self, Bug};

use crate::{
    domain::{Answer, LineState, Warehouse},
    store,
};

/// The group `product-service`.
pub fn subscriptions() -> Subscriptions {
    Subscriptions::of(Service::Product)
        .hear::<OrderLinePlaced, _>(|tx, events| on_order_line_placed(tx, events).boxed())
        .hear::<OrderCancelled, _>(|tx, events| on_order_cancelled(tx, events).boxed())
}

/// A line asks for stock. What can't be given is refused with its reason: a refusal is an answer, and
/// what follows from it is order-service's to decide.
async fn on_order_line_placed(tx: &Tx<'_>, events: &[&Event<OrderLinePlaced>]) -> Handled {
    let orders = store::lock_orders(tx, events.iter().map(|event| event.data.order_id)).await?;
    let stock = store::lock_stock(tx, events.iter().map(|event| &event.data.product_id)).await?;
    let mut warehouse = Warehouse::new(orders, stock);
    for event in events {
        match warehouse.deduct(&event.data) {
            Some(Answer::Deducted(deducted)) => tx.publish(event.causes(deducted))?,
            Some(Answer::Refused(failed)) => tx.publish(event.causes(failed))?,
            None => continue,
        };
    }
    store::update_stock(tx, &warehouse.changes().taken).await?;
    store::insert_lines(tx, &warehouse.changes().decided).await?;
    Ok(())
}

/// An order ended: the stock it holds is for sale again. Of an order that wasn't heard of yet stays the
/// cancelled row, where its lines will find it when they come; only order-service may call it unknown.
async fn on_order_cancelled(tx: &Tx<'_>, events: &[&Event<OrderCancelled>]) -> Handled {
    let orders = store::lock_orders(tx, events.iter().map(|event| event.data.order_id)).await?;
    let lines = orders.values().flat_map(|order| &order.lines);
    let held = lines.filter(|(_, line)| line.state == LineState::Held).map(|(product_id, _)| product_id);
    let stock = store::lock_stock(tx, held).await?;
    let mut warehouse = Warehouse::new(orders, stock);
    for event in events {
        if museum::is_back(Bug::UndoOnlyAfterFailure) && event.data.reason == CancelReason::Timeout {
            continue;
        }
        for restored in warehouse.restore(event.data.order_id) {
            tx.publish(event.causes(restored))?;
        }
    }
    store::update_orders(tx, &warehouse.changes().cancelled).await?;
    store::update_restored(tx, &warehouse.changes().restored).await?;
    Ok(())
}
