//! What payment-service hears: orders that are to be paid, and orders that ended.
//!
//! A handler gets a batch: it makes or locks the payments, then the accounts, each sorted; decides in
//! memory, event by event, so that several orders of one user in a batch are paid one after the other;
//! saves with one statement per table; and publishes.
//!
//! Points are serialised by the lock of the account's row though events come keyed by order: two
//! orders of one user lie on different partitions and are handled at the same time, and a charge
//! comes over HTTP, past any partition. Keying by user instead would give up the order of an order's
//! own events and still leave the charges out (`docs/decisions/0004`).

use common_events::{
    EventId, Service,
    events::{OrderCancelled, OrderReserved, PointCharged, PointDeducted, PointRefunded},
    ids::EntryId,
};
use futures::FutureExt;
use messaging::{Cause, Event, Failure, Handled, Subscriptions, Tx};

use crate::{
    domain::{Decision, Entry, EntryKind, Payment, Refund},
    store::{self, Decided, Posting, Refunded},
};

/// The group `payment-service`.
pub fn subscriptions() -> Subscriptions {
    Subscriptions::of(Service::Payment)
        .hear::<OrderReserved, _>(|tx, events| on_order_reserved(tx, events).boxed())
        .hear::<OrderCancelled, _>(|tx, events| on_order_cancelled(tx, events).boxed())
}

/// All is held for an order, so it is to be paid. What can't be paid is refused with its reason; the
/// order ends by that, but not here.
async fn on_order_reserved(tx: &Tx<'_>, events: &[&Event<OrderReserved>]) -> Handled {
    let mut payments = store::lock_payments_of_reserved(tx, events).await?;
    let mut accounts = store::lock_accounts(tx, events.iter().map(|event| &event.data.user_id)).await?;
    let (mut postings, mut decided) = (Vec::new(), Vec::with_capacity(events.len()));
    for event in events {
        let (order_id, total) = (event.data.order_id, event.data.total);
        let payment = payments.get_mut(&order_id).expect("the payment of every event was made or locked");
        match payment.pay(&event.data, &mut accounts, new_entry_id(tx)) {
            Some(Decision::Completed { payment, deducted }) => {
                decided.push(Decided { order_id, total, outcome: Ok(payment.paid_at) });
                if let Some(entry) = deducted {
                    publish_entry(tx, event.cause(), &entry)?;
                    postings.push(Posting { entry, trace_id: event.trace.trace_id });
                }
                tx.publish(event.causes(payment))?;
            }
            Some(Decision::Failed(payment)) => {
                decided.push(Decided { order_id, total, outcome: Err(payment.reason) });
                tx.publish(event.causes(payment))?;
            }
            None => {}
        }
    }
    store::insert_entries(tx, &postings).await?;
    store::update_decided(tx, &decided).await?;
    Ok(())
}

/// An order ended: what was paid for it goes back, to whoever paid, also on a closed account. Of an
/// order that wasn't heard of yet a tombstone stays, where its `order-reserved` will find it.
async fn on_order_cancelled(tx: &Tx<'_>, events: &[&Event<OrderCancelled>]) -> Handled {
    let mut payments = store::lock_payments_of_cancelled(tx, events).await?;
    let mut accounts = store::lock_accounts(tx, payments.values().filter_map(Payment::payer)).await?;
    let (mut postings, mut refunds) = (Vec::new(), Vec::new());
    for event in events {
        let payment = payments.get_mut(&event.data.order_id).expect("the payment of every event was made or locked");
        let refund = payment.refund(&event.data, &mut accounts, new_entry_id(tx));
        let Some(Refund { payment, refunded }) = refund else { continue };
        refunds.push(Refunded { order_id: payment.order_id, at: payment.refunded_at, reason: payment.reason });
        if let Some(entry) = refunded {
            publish_entry(tx, event.cause(), &entry)?;
            postings.push(Posting { entry, trace_id: event.trace.trace_id });
        }
        tx.publish(event.causes(payment))?;
    }
    store::insert_entries(tx, &postings).await?;
    store::update_refunded(tx, &refunds).await?;
    Ok(())
}

/// Tells an entry of the ledger. Every entry is told: balances are rebuilt from these events.
pub(crate) fn publish_entry(tx: &Tx<'_>, cause: Cause, entry: &Entry) -> Result<EventId, Failure> {
    let Entry { entry_id, user_id, kind, amount, balance, at } = entry.clone();
    match kind {
        EntryKind::Charged => tx.publish(cause.causes(PointCharged { entry_id, user_id, amount, balance, at })),
        EntryKind::Deducted { order_id } => {
            tx.publish(cause.causes(PointDeducted { entry_id, user_id, order_id, amount, balance, at }))
        }
        EntryKind::Refunded { order_id, reason } => {
            tx.publish(cause.causes(PointRefunded { entry_id, user_id, order_id, amount, balance, reason, at }))
        }
    }
}

/// An id for an entry, if there is to be one.
pub(crate) fn new_entry_id(tx: &Tx<'_>) -> EntryId {
    EntryId::new(tx.new_id())
}
