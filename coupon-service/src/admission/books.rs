//! Bookkeeping behind everybody's back: what is kept is confirmed, what is decided is settled, in batches.
//! What is lost on the way, the reconciler finds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use common_events::{CouponId, EventId};
use futures::FutureExt;
use service_runtime::tasks::{Next, Rounds};
use tokio::sync::mpsc;

use super::Inner;
use crate::{
    domain::{Outcome, Settled},
    gate::Token,
    store,
};

/// How many confirmations one round takes, and how long they gather for the next.
const MAX_BATCH: usize = 1_000;
const GATHER: Duration = Duration::from_millis(20);

/// Notes that requests are kept, so that nobody sends them again.
pub(super) fn confirm_all(inner: &Arc<Inner>, confirming: mpsc::Receiver<Token>) {
    let books = Books { inner: Arc::clone(inner), coming: confirming, came: Vec::new() };
    inner.tasks.repeat_on_demand(
        Rounds::on_demand("confirmations"),
        books,
        |books| books.wait().boxed(),
        |books| books.confirm_some().boxed(),
    );
}

/// Closes the books on what the issuer has decided.
pub(super) fn settle_all(inner: &Arc<Inner>, settled: mpsc::Receiver<Vec<Settled>>) {
    let books = Books { inner: Arc::clone(inner), coming: settled, came: Vec::new() };
    inner.tasks.repeat_on_demand(
        Rounds::on_demand("settlements"),
        books,
        |books| books.wait().boxed(),
        |books| books.settle_some().boxed(),
    );
}

/// What comes to be written down.
struct Books<T> {
    inner: Arc<Inner>,
    coming: mpsc::Receiver<T>,
    /// What the next round writes down; nothing when nothing comes any more.
    came: Vec<T>,
}

impl<T> Books<T> {
    async fn wait(&mut self) -> anyhow::Result<()> {
        self.coming.recv_many(&mut self.came, MAX_BATCH).await;
        Ok(())
    }
}

impl Books<Token> {
    async fn confirm_some(&mut self) -> anyhow::Result<Next> {
        let tokens = std::mem::take(&mut self.came);
        if tokens.is_empty() {
            return Ok(Next::Never);
        }
        let mut outcome = Ok(Next::In(GATHER));
        for (coupon_id, tokens) in by_coupon(tokens.into_iter(), |token| &token.coupon_id) {
            if let Err(unanswered) = self.inner.gate.confirm(&coupon_id, &tokens).await {
                outcome = Err(unanswered).context("requests are not confirmed, and will be sent again");
            }
        }
        outcome
    }
}

impl Books<Vec<Settled>> {
    async fn settle_some(&mut self) -> anyhow::Result<Next> {
        let batches = std::mem::take(&mut self.came);
        if batches.is_empty() {
            return Ok(Next::Never);
        }
        let mut outcome = Ok(Next::Now);
        for (coupon_id, settled) in by_coupon(batches.into_iter().flatten(), |one| &one.coupon_id) {
            if let Err(error) = self.inner.settle(&coupon_id, &settled).await {
                outcome = Err(error).context("the gate isn't told yet how admissions ended");
            }
        }
        outcome
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
