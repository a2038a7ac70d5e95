//! What order-service hears, and what it tells because of it.
//!
//! Every handler goes the same way: lock the orders of the batch, let the domain decide event by
//! event, save, publish. So that way is written once ([`decide_by`]), and a handler is the decision.
//! Only here is an order unknown: order-service writes the first event of every order, so an event
//! about any other one makes no sense.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use common_events::{
    EventData, OrderId, ReasonCode, Service,
    events::{
        CouponUseFailed, CouponUsed, PaymentCompleted, PaymentFailed, PaymentRefunded, ProductCatalog,
        StockDeductFailed, StockDeducted,
    },
};
use futures::{FutureExt, future::BoxFuture};
use messaging::{Cause, Event, Failure, Handled, Subscriptions, Transient, Tx, Unprocessable};

use crate::{
    domain::{Happened, Misfit, Order, Paying, Status},
    store,
    waiting::Waiting,
};

/// What this group hears. Who waits in this process for an order to end is woken through `waiting`.
pub fn subscriptions(waiting: &Waiting) -> Subscriptions {
    Subscriptions::of(Service::Order)
        .hear_in_any_order(decide_by(waiting, on_stock_deducted))
        .hear_in_any_order(decide_by(waiting, on_stock_deduct_failed))
        .hear(decide_by(waiting, on_coupon_used))
        .hear(decide_by(waiting, on_coupon_use_failed))
        .hear(decide_by(waiting, on_payment_completed))
        .hear(decide_by(waiting, on_payment_failed))
        .hear(decide_by(waiting, on_payment_refunded))
        .hear::<ProductCatalog, _>(|tx, events| on_product_catalog(tx, events).boxed())
}

/// What comes of an event, or why it doesn't fit its order.
type Fitting = Result<Vec<Happened>, Misfit>;

/// The line's stock is held. With the last thing that was missing the order can be paid.
fn on_stock_deducted(order: &mut Order, event: &StockDeducted, now: DateTime<Utc>) -> Fitting {
    order.hold_stock(&event.product_id, event.quantity, now)
}

/// A line that gets no stock ends the order. What other lines and the coupon hold goes back when
/// their owners hear `OrderCancelled`, so nothing is restored from here.
fn on_stock_deduct_failed(order: &mut Order, event: &StockDeductFailed, now: DateTime<Utc>) -> Fitting {
    order.refuse_stock(&event.product_id, event.quantity, event.reason, now)
}

/// The coupon is held, and with it the price is known.
fn on_coupon_used(order: &mut Order, event: &CouponUsed, now: DateTime<Utc>) -> Fitting {
    order.hold_coupon(event.issued_coupon_id, &event.user_id, event.discount, now)
}

/// An order whose coupon can't be used ends, rather than cost more than its customer agreed to.
fn on_coupon_use_failed(order: &mut Order, event: &CouponUseFailed, now: DateTime<Utc>) -> Fitting {
    order.refuse_coupon(event.issued_coupon_id, event.reason, now)
}

/// A paid order is done. One that has ended in the meantime is refunded by its `OrderCancelled`.
fn on_payment_completed(order: &mut Order, event: &PaymentCompleted, now: DateTime<Utc>) -> Fitting {
    order.complete_payment(Paying { user_id: &event.user_id, total: event.total }, now)
}

/// A payment that was refused ends the order.
fn on_payment_failed(order: &mut Order, event: &PaymentFailed, now: DateTime<Utc>) -> Fitting {
    order.fail_payment(Paying { user_id: &event.user_id, total: event.total }, event.reason, now)
}

/// The refund of a cancelled order is noted, and that is all there is to it.
fn on_payment_refunded(order: &mut Order, event: &PaymentRefunded, _: DateTime<Utc>) -> Result<(), Misfit> {
    order.refund_payment(Paying { user_id: &event.user_id, total: event.total })
}

/// Keeps the copy of names and prices up to date; an older version than ours is no news.
async fn on_product_catalog(tx: &Tx<'_>, events: &[&Event<ProductCatalog>]) -> Handled {
    store::update_products(tx, events.iter().map(|event| &event.data)).await?;
    Ok(())
}

/// An event about one order.
trait AboutOrder: EventData {
    fn order_id(&self) -> OrderId;
}

macro_rules! about_order {
    ($($data:ident),+ $(,)?) => {$(
        impl AboutOrder for $data {
            fn order_id(&self) -> OrderId {
                self.order_id
            }
        }
    )+};
}

about_order!(
    StockDeducted,
    StockDeductFailed,
    CouponUsed,
    CouponUseFailed,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
);

/// What comes of a decision. One of which nothing can come needs not say so.
enum Decided {
    Happened(Vec<Happened>),
    /// A fact is noted.
    Noted,
}

impl From<Vec<Happened>> for Decided {
    fn from(happened: Vec<Happened>) -> Self {
        Self::Happened(happened)
    }
}

impl From<()> for Decided {
    fn from((): ()) -> Self {
        Self::Noted
    }
}

impl Decided {
    /// What is to be published. Where nothing comes of the event because its order had ended `before`, that is
    /// said.
    fn news(self, tx: &Tx<'_>, before: Status) -> Vec<Happened> {
        let Self::Happened(news) = self else { return Vec::new() };
        if before == Status::Cancelled && news.is_empty() {
            tx.came_too_late(ReasonCode::ORDER_CANCELLED);
        }
        news
    }
}

/// An answer that doesn't fit its order is set aside, for somebody to look at; one that came before its order can
/// be held against it is tried again.
impl From<Misfit> for Failure {
    fn from(misfit: Misfit) -> Self {
        match misfit {
            Misfit::NotPricedYet(_) => Transient::new("not-priced-yet", misfit).into(),
            Misfit::NoSuchLine(..)
            | Misfit::NoSuchCoupon(..)
            | Misfit::OtherQuantity(..)
            | Misfit::OtherUser(..)
            | Misfit::OtherTotal(..) => Unprocessable::new(misfit.to_string()).into(),
        }
    }
}

/// Makes a handler of a decision.
fn decide_by<T: AboutOrder, D: Into<Decided> + 'static>(
    waiting: &Waiting,
    decide: fn(&mut Order, &T, DateTime<Utc>) -> Result<D, Misfit>,
) -> impl for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static {
    let waiting = waiting.clone();
    move |tx, events| {
        let waiting = waiting.clone();
        async move { handle(tx, events, decide, &waiting).await }.boxed()
    }
}

async fn handle<T: AboutOrder, D: Into<Decided>>(
    tx: &Tx<'_>,
    events: &[&Event<T>],
    decide: fn(&mut Order, &T, DateTime<Utc>) -> Result<D, Misfit>,
    waiting: &Waiting,
) -> Handled {
    let ids: BTreeSet<OrderId> = events.iter().map(|event| event.data.order_id()).collect();
    let mut orders = store::lock_orders(tx, &ids).await?;
    for event in events {
        let order = find(&mut orders, event)?;
        let before = order.status;
        let decided: Decided = decide(order, &event.data, tx.now())?.into();
        for news in decided.news(tx, before) {
            publish(tx, event.cause(), news)?;
        }
        if !order.status.is_open() {
            waiting.wake_after(tx, order.id);
        }
    }
    store::update_orders(tx, orders.values()).await?;
    Ok(())
}

fn find<'o, T: AboutOrder>(
    orders: &'o mut BTreeMap<OrderId, Order>,
    event: &Event<T>,
) -> Result<&'o mut Order, Unprocessable> {
    let id = event.data.order_id();
    orders.get_mut(&id).ok_or_else(|| Unprocessable::new(format!("{} for order {id}, which never was", T::TOPIC)))
}

fn publish(tx: &Tx<'_>, cause: Cause, happened: Happened) -> Result<(), Failure> {
    match happened {
        Happened::Reserved(reserved) => tx.publish(cause.causes(reserved)),
        Happened::Confirmed(confirmed) => tx.publish(cause.causes(confirmed)),
        Happened::Cancelled(cancelled) => tx.publish(cause.causes(cancelled)),
    }
    .map(|_| ())
}
