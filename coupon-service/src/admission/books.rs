//! Bookkeeping behind everybody's back: what is kept is confirmed, what is decided is settled, in batches.
//! What is lost on the way, the reconciler finds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common_events::{CouponId, EventId};
use service_runtime::chain;
use tokio::sync::mpsc;
use tracing::warn;

use super::Inner;
use crate::{
    domain::{Outcome, Settled},
    gate::{Gate, Token},
    store,
};

/// How many confirmations one round takes, and how long they gather for the next.
const MAX_BATCH: usize = 1_000;
const GATHER: Duration = Duration::from_millis(20);

/// Notes that requests are kept, so that nobody sends them again.
pub(super) async fn confirm_all(gate: Gate, mut confirming: mpsc::Receiver<Token>) {
    let mut tokens = Vec::new();
    while confirming.recv_many(&mut tokens, MAX_BATCH).await > 0 {
        for (coupon_id, tokens) in by_coupon(tokens.drain(..), |token| &token.coupon_id) {
            if let Err(unanswered) = gate.confirm(&coupon_id, &tokens).await {
                warn!(error = chain(&unanswered), requests = tokens.len(), "not confirmed: they will be sent again");
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Closes the books on what the issuer has decided.
pub(super) async fn settle_all(inner: Arc<Inner>, mut settled: mpsc::Receiver<Vec<Settled>>) {
    let mut batches = Vec::new();
    while settled.recv_many(&mut batches, MAX_BATCH).await > 0 {
        for (coupon_id, settled) in by_coupon(batches.drain(..).flatten(), |one| &one.coupon_id) {
            if let Err(error) = inner.settle(&coupon_id, &settled).await {
                warn!(coupon = %coupon_id, error = format!("{error:#}"), "the gate isn't told yet how admissions ended");
            }
        }
    }
}

impl Inner {
    /// Tells the gate how admissions of one coupon ended, and notes in the tables that it knows.
    pub(super) async fn settle(&self, coupon_id: &CouponId, settled: &[Settled]) -> anyhow::Result<()> {
        if self.gate.settle(coupon_id, settled).await? > 0 {
            self.sales.slot_came_back(coupon_id);
        }
        let released: Vec<EventId> =
            settled.iter().filter(|one| one.outcome != Outcome::Issued).map(|one| one.request_id).collect();
        if !released.is_empty() {
            let client = self.pool.get().await?;
            store::update_released(&client, &released).await?;
        }
        Ok(())
    }
}

fn by_coupon<T>(all: impl Iterator<Item = T>, coupon_of: impl Fn(&T) -> &CouponId) -> BTreeMap<CouponId, Vec<T>> {
    let mut coupons: BTreeMap<CouponId, Vec<T>> = BTreeMap::new();
    for one in all {
        match coupons.get_mut(coupon_of(&one)) {
            Some(others) => others.push(one),
            None => {
                coupons.insert(coupon_of(&one).clone(), vec![one]);
            }
        }
    }
    coupons
}
