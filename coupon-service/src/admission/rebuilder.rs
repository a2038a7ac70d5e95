//! The rebuilder: opens a lost gate again, from what PostgreSQL issued, under a new epoch.
//!
//! While a gate is lost nobody is admitted. What was admitted before still has its chance: the rebuilder
//! waits until it had its time to arrive, until the producer dead letters are on their topic, and until the
//! issuer and its ladder have decided all of it. A dead request counts as decided. Only then the epoch is
//! raised, in the transaction that reads who holds what. Whatever comes later with an older epoch is turned
//! away by the issuer, so none of these waits is what makes it right: they make it fair.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use common_events::{CouponId, Topic, UserId};
use messaging::{Tx, progress};
use metrics::counter;
use service_runtime::museum::{self, Bug};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Inner;
use crate::{
    domain::Coupon,
    gate::{Opened, Opening},
    store,
};

/// How often is looked whether everything is decided.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long everything may take to be decided. Then it begins anew, with what is lost by then.
const PATIENCE: Duration = Duration::from_mins(30);

/// Opens these gates, which are lost, again. `coupons`: as they were when that was noticed.
///
/// # Errors
/// The first reason why one stays closed; the others may be open.
pub(super) async fn rebuild(inner: &Arc<Inner>, coupons: Vec<Coupon>) -> anyhow::Result<()> {
    let names: Vec<&str> = coupons.iter().take(10).map(|coupon| coupon.coupon_id.as_str()).collect();
    warn!(coupons = coupons.len(), ?names, "gates are lost: their sales are closed until they are rebuilt");
    sleep(inner.longest).await;
    wait_until_all_is_decided(inner).await?;
    let mut first_error = None;
    for coupon in coupons {
        match reopen(inner, &coupon).await {
            Ok(Some(epoch)) => {
                counter!("coupon_gate_rebuilds_total").increment(1);
                info!(coupon = %coupon.coupon_id, epoch, "the gate is open again");
            }
            Ok(None) => {}
            Err(error) => _ = first_error.get_or_insert_with(|| error.context(coupon.coupon_id)),
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn wait_until_all_is_decided(inner: &Inner) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !inner.publisher.has_no_backlog().await? {
        ensure!(Instant::now() < until, "producer dead letters wait for {PATIENCE:?}");
        sleep(LOOK_EVERY).await;
    }
    let ends = inner.progress.ends().await?;
    loop {
        let behind = inner.progress.behind(&ends).await?;
        // The inbox is large: it is only asked when everything was read.
        let undecided = if behind == 0 {
            let client = inner.pool.get().await?;
            progress::count_undecided(&client, Topic::CouponIssueRequested).await?
        } else {
            0
        };
        if (behind, undecided) == (0, 0) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{behind} requests unread and {undecided} undecided for {PATIENCE:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// Returns the new epoch; `None` when somebody else was faster.
async fn reopen(inner: &Inner, lost: &Coupon) -> anyhow::Result<Option<i64>> {
    if inner.gate.standing(&lost.coupon_id).await?.is_some_and(|standing| standing.epoch >= lost.epoch) {
        return Ok(None);
    }
    let Some((coupon, holders)) = begin_epoch(inner, &lost.coupon_id, lost.epoch).await? else { return Ok(None) };
    inner.sales.heard_of_epoch(&coupon.coupon_id, coupon.epoch);
    let opened = inner.gate.open(&Opening { coupon: &coupon, epoch: coupon.epoch, holders: &holders }).await?;
    Ok((opened == Opened::Now).then_some(coupon.epoch))
}

/// Ends the epoch that was seen, and reads what will ever have been issued in it.
async fn begin_epoch(
    inner: &Inner,
    coupon_id: &CouponId,
    seen: i64,
) -> anyhow::Result<Option<(Coupon, Vec<(UserId, Option<i64>)>)>> {
    let mut client = inner.pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let Some(mut coupon) = store::lock_coupons(&tx, [coupon_id]).await?.remove(coupon_id) else { return Ok(None) };
    if coupon.epoch != seen {
        return Ok(None);
    }
    if let Some(epoch) = store::update_epoch(&tx, coupon_id).await? {
        coupon.epoch = epoch;
    }
    let mut holders = store::list_holders(&tx, coupon_id).await?;
    if museum::is_back(Bug::GateOpensEmpty) {
        holders.clear();
    }
    tx.commit().await?;
    Ok(Some((coupon, holders)))
}
