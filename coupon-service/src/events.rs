//! What coupon-service hears: admissions that ask for their coupon ([`issuing`]), orders that want to use
//! one, and orders that ended ([`using`]).
//!
//! A handler gets a batch: it locks what the batch is about, sorted; decides in memory, event by event;
//! saves with one statement per table; and publishes the answers in the order of their questions.

mod issuing;
mod using;

use common_events::{
    Service,
    events::{CouponIssueRequested, OrderCancelled, OrderCreated},
};
use futures::FutureExt;
use messaging::Subscriptions;
use tokio::sync::mpsc;

use crate::domain::Settled;

pub use issuing::Defences;

/// How many batches of settled admissions may wait for the gate. What finds no room is found by the
/// gate's reconciler.
pub const MAX_UNSETTLED_BATCHES: usize = 64;

/// The group `coupon-service`. How admissions ended is handed to `settled` once it is committed: a hint
/// for the gate, which finds the same in the tables.
pub fn subscriptions(settled: mpsc::Sender<Vec<Settled>>) -> Subscriptions {
    subscriptions_behind(Defences::ALL, settled)
}

/// The same behind other lines of defence than [`Defences::ALL`], to show what each of them holds alone.
#[doc(hidden)]
pub fn subscriptions_behind(defences: Defences, settled: mpsc::Sender<Vec<Settled>>) -> Subscriptions {
    let issued = settled.clone();
    Subscriptions::of(Service::Coupon)
        // In any order: each request carries its rank and the time of its admission.
        .hear_in_any_order::<CouponIssueRequested, _>(move |tx, events| {
            let settled = issued.clone();
            async move { issuing::on_coupon_issue_requested(tx, events, defences, settled).await }.boxed()
        })
        .when_discarded::<CouponIssueRequested, _>(move |tx, events| {
            let settled = settled.clone();
            async move { issuing::on_request_discarded(tx, events, settled).await }.boxed()
        })
        .hear::<OrderCreated, _>(|tx, events| using::on_order_created(tx, events).boxed())
        .hear::<OrderCancelled, _>(|tx, events| using::on_order_cancelled(tx, events).boxed())
}
