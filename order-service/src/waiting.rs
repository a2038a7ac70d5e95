//! Who waits for an order to be confirmed or cancelled (`Prefer: wait`).
//!
//! A hint within this process, and never the only way: whoever ends an order wakes its waiters after
//! the commit, and as that may be another instance, one statement now and then looks for all orders
//! that are waited for here. What is woken reads the order itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common_events::OrderId;
use futures::FutureExt;
use messaging::Tx;
use service_runtime::{
    Pool, Tasks,
    tasks::{Next, Rounds},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::store;

/// More than so many don't wait; they are answered at once with the order as it is.
const MAX_WAITING: usize = 10_000;
/// How often it is looked for orders that another instance has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Everybody who waits in this process. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Waiting {
    orders: Arc<Mutex<HashMap<OrderId, Waited>>>,
    stopping: CancellationToken,
}

/// An order that somebody waits for.
struct Waited {
    waiters: usize,
    ended: watch::Sender<()>,
}

/// One who waits for one order. What ends from now on is not missed.
pub struct Waiter {
    order: OrderId,
    ended: watch::Receiver<()>,
    waiting: Waiting,
}

impl Waiting {
    /// Nobody waits yet, and nobody any more once `stopping` is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { orders: Arc::default(), stopping }
    }

    /// Begins to wait. `None` when too many do already.
    pub fn wait_for(&self, order: OrderId) -> Option<Waiter> {
        let mut orders = self.orders();
        if orders.len() >= MAX_WAITING && !orders.contains_key(&order) {
            return None;
        }
        let waited = orders.entry(order).or_insert_with(|| Waited { waiters: 0, ended: watch::Sender::new(()) });
        waited.waiters += 1;
        Some(Waiter { order, ended: waited.ended.subscribe(), waiting: self.clone() })
    }

    /// Wakes who waits for this order, once `tx` is committed.
    pub fn wake_after(&self, tx: &Tx<'_>, order: OrderId) {
        let waiting = self.clone();
        tx.after_commit(move || waiting.wake(order));
    }

    /// Wakes who waits for what another instance has ended, as long as the process runs.
    pub fn look_for_endings(&self, tasks: &Tasks, pool: Pool) {
        let rounds = Rounds::every("ended-orders", LOOK_EVERY);
        tasks.repeat(rounds, (self.clone(), pool), |(waiting, pool)| waiting.look(pool).boxed());
    }

    async fn look(&self, pool: &Pool) -> anyhow::Result<Next> {
        let waited_for: Vec<OrderId> = self.orders().keys().copied().collect();
        if !waited_for.is_empty() {
            let client = pool.get().await?;
            store::list_ended(&client, &waited_for).await?.into_iter().for_each(|order| self.wake(order));
        }
        Ok(Next::Later)
    }

    fn wake(&self, order: OrderId) {
        if let Some(waited) = self.orders().get(&order) {
            waited.ended.send_replace(());
        }
    }

    /// Nothing that holds this lock can panic half way.
    fn orders(&self) -> MutexGuard<'_, HashMap<OrderId, Waited>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when the order may have ended, when time is up, or when the process stops.
    pub async fn ended(mut self, at_most: Duration) {
        let stopping = self.waiting.stopping.clone();
        let woken = async {
            tokio::select! {
                _ = self.ended.changed() => {}
                () = stopping.cancelled() => {}
            }
        };
        // Which of the three it was, the order itself tells.
        let _ = timeout(at_most, woken).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut orders = self.waiting.orders();
        if let Some(waited) = orders.get_mut(&self.order) {
            waited.waiters -= 1;
            if waited.waiters == 0 {
                orders.remove(&self.order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn order() -> OrderId {
        OrderId::new(Uuid::from_u128(7))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_also_when_it_ended_just_before_he_slept() {
        let waiting = Waiting::new(CancellationToken::new());
        let (one, other) = (waiting.wait_for(order()).expect("room"), waiting.wait_for(order()).expect("room"));
        waiting.wake(order());
        let began = tokio::time::Instant::now();
        futures::join!(one.ended(LONG), other.ended(LONG));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_he_said_or_the_process_runs() {
        let stopping = CancellationToken::new();
        let waiting = Waiting::new(stopping.clone());
        let began = tokio::time::Instant::now();
        waiting.wait_for(order()).expect("room").ended(Duration::from_secs(3)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        stopping.cancel();
        waiting.wait_for(order()).expect("room").ended(LONG).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn an_order_that_nobody_waits_for_any_more_is_forgotten() {
        let waiting = Waiting::new(CancellationToken::new());
        let (one, other) = (waiting.wait_for(order()), waiting.wait_for(order()));
        drop(one);
        assert_eq!(waiting.orders().len(), 1);
        drop(other);
        assert!(waiting.orders().is_empty());
    }

    #[test]
    fn more_than_a_bounded_number_of_orders_is_not_waited_for() {
        let waiting = Waiting::new(CancellationToken::new());
        let ids = |n: usize| OrderId::new(Uuid::from_u128(n as u128 + 1));
        let waiters: Vec<Waiter> = (0..MAX_WAITING).map(|n| waiting.wait_for(ids(n)).expect("room")).collect();
        assert!(waiting.wait_for(ids(MAX_WAITING)).is_none());
        assert!(waiting.wait_for(ids(0)).is_some(), "it is waited for already");
        drop(waiters);
        assert!(waiting.wait_for(ids(MAX_WAITING)).is_some());
    }
}
