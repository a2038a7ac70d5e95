//! What coupon-service hears: admissions that ask for a coupon, orders that want to use one, and orders
//! that ended.

use common_events::Service;
use messaging::Subscriptions;
use tokio::sync::mpsc;

use crate::domain::Settled;

/// How many batches of settled admissions may wait for the gate. What finds no room is found by the
/// gate's reconciler.
pub const MAX_UNSETTLED_BATCHES: usize = 64;

/// The group `coupon-service`. How admissions ended is handed to `settled` once it is committed: a hint
/// for the gate, which finds the same in the tables.
pub fn subscriptions(settled: mpsc::Sender<Vec<Settled>>) -> Subscriptions {
    let _ = settled;
    Subscriptions::of(Service::Coupon)
}
