//! The reconciler: compares Redis, topic and database, coupon by coupon, and mends what was left undone.
//!
//! | found | done |
//! |---|---|
//! | a pending admission older than any publication can take | its request is sent again, as it was |
//! | an admission that the tables have decided, and the gate doesn't know | settled; a rejected one's slot is free |
//! | an admission that is neither pending nor decided, and whose request this group never got | sent again |
//! | a slot that nobody holds: all is settled, and more are taken than issued | the gate is rebuilt |
//! | a gate that is lost, of an ended epoch, or without somebody who holds the coupon (old data) | rebuilt |
//!
//! Every process does this. What two do at the same time happens once: requests are known by their id,
//! tokens are compared, epochs are raised from the one that was seen.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use common_events::{CouponId, EventId, UserId};
use futures::FutureExt;
use messaging::progress;
use metrics::{counter, gauge};
use service_runtime::{
    museum::{self, Bug},
    tasks::{Next, Rounds},
};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tracing::{debug, info, warn};

use super::{Inner, rebuilder};
use crate::{
    domain::{Coupon, Outcome, Settled},
    gate::{Standing, Token},
    store::{self, Readable},
};

/// How often a page of coupons is looked at, and how often at most when somebody notices something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Coupons of one page.
const PAGE: i64 = 200;
/// Requests of one coupon that are sent again, or releases that are made up for, in one round.
const MAX_MENDED: usize = 1_000;
/// After so many coupons that couldn't be looked after it isn't theirs: the rest waits for the next round.
const MAX_FAILED_IN_A_ROW: usize = 3;
/// An admission that was kept, and that the issuer didn't decide for so long, is asked after.
const ASKED_AFTER: TimeDelta = TimeDelta::minutes(1);

pub(super) fn start(inner: &Arc<Inner>) {
    let rounds =
        Rounds::every("reconciler", LOOK_EVERY).woken_by(Arc::clone(&inner.wake)).at_least_apart(LOOK_AT_MOST_EVERY);
    let reconciler = Reconciler {
        inner: Arc::clone(inner),
        after: None,
        cursors: BTreeMap::new(),
        heard_all: None,
        sums: Sums::default(),
        rebuilding: None,
        failed: None,
        lost_in_pass: false,
    };
    inner.tasks.repeat(rounds, reconciler, |reconciler| reconciler.look().boxed());
}

struct Reconciler {
    inner: Arc<Inner>,
    /// Behind which coupon the next page begins.
    after: Option<CouponId>,
    /// Where the look through a coupon's tokens goes on.
    cursors: BTreeMap<CouponId, u64>,
    /// What this round found about the issuer, once it asked.
    heard_all: Option<bool>,
    sums: Sums,
    /// How the rebuild under way will have ended.
    rebuilding: Option<oneshot::Receiver<anyhow::Result<()>>>,
    /// Why the last one failed; none since one ended well, or all gates stood.
    failed: Option<String>,
    /// Whether this pass through all coupons found a lost gate.
    lost_in_pass: bool,
}

/// What the looks of one round found.
#[derive(Debug, Default)]
struct Looks {
    /// Whose gate is to be rebuilt.
    lost: Vec<Coupon>,
    first_error: Option<anyhow::Error>,
    failed_in_a_row: usize,
}

impl Looks {
    /// One that can't be looked after is told of, and holds up no other.
    fn note(&mut self, coupon_id: CouponId, error: impl Into<anyhow::Error>) {
        self.first_error.get_or_insert_with(|| error.into().context(coupon_id));
    }

    /// Those that can be read.
    fn readable(&mut self, coupons: Vec<Readable>) -> Vec<Coupon> {
        let readable = |one: Readable| one.map_err(|(coupon_id, error)| self.note(coupon_id, error)).ok();
        coupons.into_iter().filter_map(readable).collect()
    }
}

/// What one pass through all coupons adds up.
#[derive(Debug, Clone, Default)]
struct Sums {
    pending: i64,
    unsettled: i64,
    unanswered: usize,
}

impl Reconciler {
    /// One round, and a rebuild of what it finds to be lost. One at a time: what is lost meanwhile is found again.
    async fn look(&mut self) -> anyhow::Result<Next> {
        let Looks { lost, first_error, .. } = self.round().await?;
        match self.ended_rebuild() {
            Some(Err(error)) => self.failed = Some(format!("{error:#}")),
            Some(Ok(())) => self.failed = None,
            None => {}
        }
        self.lost_in_pass |= !lost.is_empty();
        if self.after.is_none() && !std::mem::take(&mut self.lost_in_pass) && self.rebuilding.is_none() {
            // All gates stand: another process was faster, or the answer got lost.
            self.failed = None;
        }
        if !lost.is_empty() && self.rebuilding.is_none() {
            let (tell, told) = oneshot::channel();
            let inner = Arc::clone(&self.inner);
            let rebuild = async move {
                // Nobody looks any more when the process ends.
                let _ = tell.send(rebuilder::rebuild(&inner, lost).await);
            };
            self.inner.tasks.once("gate-rebuild", rebuild.boxed());
            self.rebuilding = Some(told);
        }
        // Until one ends well, whatever else goes well.
        if let Some(failed) = &self.failed {
            anyhow::bail!("gates are lost, and stay closed for now: {failed}");
        }
        first_error.map_or(Ok(Next::Later), Err)
    }

    /// How a rebuild has ended since the last look, if one has.
    fn ended_rebuild(&mut self) -> Option<anyhow::Result<()>> {
        let ended = match self.rebuilding.as_mut()?.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => return None,
            // It was told of where it panicked.
            Err(TryRecvError::Closed) => Err(anyhow::anyhow!("a rebuild ended in the middle")),
        };
        self.rebuilding = None;
        Some(ended)
    }

    /// Looks at the coupons that were noticed, and at the next page.
    ///
    /// A coupon that can't be looked after holds up no other: the pass goes on, and comes to it again.
    async fn round(&mut self) -> anyhow::Result<Looks> {
        self.heard_all = None;
        let client = self.inner.pool.get().await?;
        let page = store::list_coupons(&client, self.after.as_ref(), PAGE).await?;
        let is_last_page = i64::try_from(page.len()).is_ok_and(|found| found < PAGE);
        let id_of = |one: &Readable| one.as_ref().map_or_else(|(id, _)| id.clone(), |coupon| coupon.coupon_id.clone());
        let last = page.last().map(id_of);
        let mut looks = Looks::default();
        let page = looks.readable(page);
        let mut noticed: BTreeSet<CouponId> =
            std::mem::take(&mut *self.inner.noticed.lock().unwrap_or_else(PoisonError::into_inner));
        noticed.retain(|coupon_id| !page.iter().any(|coupon| coupon.coupon_id == *coupon_id));
        let others =
            if noticed.is_empty() { Vec::new() } else { looks.readable(store::find_coupons(&client, &noticed).await?) };
        drop(client);
        let left_at = self.look_at(page, &mut looks).await;
        self.after = left_at.or(if is_last_page { None } else { last });
        if self.after.is_none() {
            self.tell();
        }
        // These are added up with their own page.
        let sums = self.sums.clone();
        self.look_at(others, &mut looks).await;
        self.sums = sums;
        Ok(looks)
    }

    /// Returns where it was left when the gate or the database seems to be away.
    async fn look_at(&mut self, coupons: Vec<Coupon>, looks: &mut Looks) -> Option<CouponId> {
        for coupon in coupons {
            match self.look_after(&coupon).await {
                Ok(gate) => {
                    looks.failed_in_a_row = 0;
                    if gate == Gate::Lost {
                        looks.lost.push(coupon);
                    }
                }
                Err(error) => {
                    looks.failed_in_a_row += 1;
                    let coupon_id = coupon.coupon_id.clone();
                    looks.note(coupon.coupon_id, error);
                    if looks.failed_in_a_row >= MAX_FAILED_IN_A_ROW {
                        return Some(coupon_id);
                    }
                }
            }
        }
        None
    }

    async fn look_after(&mut self, coupon: &Coupon) -> anyhow::Result<Gate> {
        let coupon_id = &coupon.coupon_id;
        self.inner.sales.heard_of_epoch(coupon_id, coupon.epoch);
        self.release(coupon_id).await?;
        // Asked after the database: whoever it issued the coupon to has his slot.
        let Some(standing) = self.inner.gate.standing(coupon_id).await? else { return Ok(Gate::Lost) };
        if standing.epoch > coupon.epoch {
            // It was rebuilt since the database was asked.
            return Ok(Gate::Stands);
        }
        if standing.epoch < coupon.epoch || standing.holders < coupon.issued {
            return self.give_up(coupon, &standing, "old data").await;
        }
        self.sums.pending += standing.pending;
        self.sums.unsettled += standing.unsettled;
        if standing.pending > 0 {
            self.send_again(coupon_id).await?;
        }
        if standing.unsettled > 0 {
            self.settle_decided(coupon_id).await?;
        } else if self.has_leaked(coupon_id, &standing).await? {
            counter!("coupon_drift_total", "between" => "gate-database").increment(1);
            return self.give_up(coupon, &standing, "slots that nobody holds").await;
        }
        Ok(Gate::Stands)
    }

    async fn give_up(&self, coupon: &Coupon, standing: &Standing, why: &str) -> anyhow::Result<Gate> {
        let Standing { epoch, holders, .. } = standing;
        warn!(coupon = %coupon.coupon_id, why, epoch, holders, issued = coupon.issued, "the gate isn't to be trusted");
        self.inner.gate.close(&coupon.coupon_id, *epoch).await?;
        self.inner.sales.slot_came_back(&coupon.coupon_id);
        Ok(Gate::Lost)
    }

    /// Admissions that came to nothing, and that the gate wasn't told of.
    async fn release(&self, coupon_id: &CouponId) -> anyhow::Result<()> {
        let client = self.inner.pool.get().await?;
        let at_most = i64::try_from(MAX_MENDED)?;
        let unreleased = store::list_unreleased(&client, coupon_id, at_most).await?;
        drop(client);
        if !unreleased.is_empty() {
            self.inner.settle(coupon_id, &unreleased).await?;
        }
        Ok(())
    }

    /// Whoever let these in had his time to tell what became of their requests.
    async fn send_again(&self, coupon_id: &CouponId) -> anyhow::Result<()> {
        if museum::is_back(Bug::SlotLeaks) {
            return Ok(());
        }
        let overdue = self.inner.gate.list_overdue(coupon_id, self.inner.longest, MAX_MENDED).await?;
        if overdue.is_empty() {
            return Ok(());
        }
        info!(coupon = %coupon_id, requests = overdue.len(), "requests of pending admissions are sent again");
        let sent = futures::future::join_all(overdue.iter().map(|token| self.inner.publish_again(token))).await;
        let kept: Vec<Token> =
            overdue.into_iter().zip(sent).filter_map(|(token, kept)| kept.then_some(token)).collect();
        counter!("coupon_requests_sent_again_total").increment(kept.len() as u64);
        self.inner.gate.confirm(coupon_id, &kept).await?;
        Ok(())
    }

    /// Looks at a page of tokens: what the tables say of them, and whether anybody will ever say something.
    async fn settle_decided(&mut self, coupon_id: &CouponId) -> anyhow::Result<()> {
        let cursor = self.cursors.get(coupon_id).copied().unwrap_or(0);
        let (next, tokens) = self.inner.gate.list_unsettled(coupon_id, cursor).await?;
        if next == 0 {
            self.cursors.remove(coupon_id);
        } else {
            self.cursors.insert(coupon_id.clone(), next);
        }
        let before = Utc::now() - TimeDelta::from_std(self.inner.longest)?;
        let tokens: Vec<Token> = tokens.into_iter().filter(|token| token.admitted_at < before).collect();
        if tokens.is_empty() {
            return Ok(());
        }
        let settled = self.decided(coupon_id, &tokens).await?;
        let known: HashSet<EventId> = settled.iter().map(|one| one.request_id).collect();
        if !settled.is_empty() {
            info!(coupon = %coupon_id, admissions = settled.len(), "the gate is told how admissions ended");
            self.inner.settle(coupon_id, &settled).await?;
        }
        let asked_after = Utc::now() - ASKED_AFTER;
        let is_unanswered = |token: &Token| !known.contains(&token.request_id) && token.admitted_at < asked_after;
        let unanswered: Vec<Token> = tokens.into_iter().filter(is_unanswered).collect();
        if !unanswered.is_empty() {
            self.sums.unanswered += unanswered.len();
            self.ask_after(coupon_id, &unanswered).await?;
        }
        Ok(())
    }

    /// Those of these admissions that the tables have decided.
    async fn decided(&self, coupon_id: &CouponId, tokens: &[Token]) -> anyhow::Result<Vec<Settled>> {
        let client = self.inner.pool.get().await?;
        let requests: Vec<EventId> = tokens.iter().map(|token| token.request_id).collect();
        let mut settled = store::list_unused(&client, &requests).await?;
        let users: Vec<UserId> = tokens.iter().map(|token| token.user_id.clone()).collect();
        let issued = store::list_issued(&client, coupon_id, &users).await?;
        let requests: HashSet<EventId> = issued.iter().map(|coupon| coupon.request_id).collect();
        settled.extend(tokens.iter().filter(|token| requests.contains(&token.request_id)).map(|token| Settled {
            request_id: token.request_id,
            coupon_id: token.coupon_id.clone(),
            user_id: token.user_id.clone(),
            rank: token.rank,
            epoch: token.epoch,
            outcome: Outcome::Issued,
        }));
        Ok(settled)
    }

    /// Requests that were kept, and that the issuer never got though it read everything: they are sent again.
    async fn ask_after(&mut self, coupon_id: &CouponId, tokens: &[Token]) -> anyhow::Result<()> {
        if !self.issuer_heard_all().await {
            return Ok(());
        }
        let requests: Vec<_> = tokens.iter().map(|token| (token.admitted_at.date_naive(), token.request_id)).collect();
        let client = self.inner.pool.get().await?;
        let unheard = progress::list_unheard(&client, &requests).await?;
        drop(client);
        for token in tokens.iter().filter(|token| unheard.contains(&token.request_id)) {
            counter!("coupon_drift_total", "between" => "gate-topic").increment(1);
            warn!(coupon = %coupon_id, request_id = %token.request_id, "a request isn't on its topic: it is sent again");
            self.inner.publish_again(token).await;
        }
        Ok(())
    }

    /// Whether the issuer has read all that was published before this round. While Kafka can't tell, no request
    /// is missed; what else is to be mended doesn't wait for it.
    async fn issuer_heard_all(&mut self) -> bool {
        if let Some(known) = self.heard_all {
            return known;
        }
        let Inner { progress, publisher, .. } = &*self.inner;
        let asked = async {
            let ends = progress.ends().await?;
            anyhow::Ok(publisher.has_no_backlog().await? && progress.behind(&ends).await? == 0)
        };
        let heard_all = asked.await.unwrap_or_else(|error| {
            debug!(error = format!("{error:#}"), "how far the issuer is can't be told");
            false
        });
        *self.heard_all.insert(heard_all)
    }

    /// Whether slots are taken that nobody holds. Everything that had a slot when the gate was asked was
    /// settled by then, so the database, asked after it, shows a coupon for each.
    async fn has_leaked(&self, coupon_id: &CouponId, standing: &Standing) -> anyhow::Result<bool> {
        let client = self.inner.pool.get().await?;
        let Some(coupon) = store::find_coupon(&client, coupon_id).await? else { return Ok(false) };
        let unfilled = standing.is_sold_out() && coupon.issued < coupon.quantity;
        Ok(coupon.epoch == standing.epoch && (coupon.issued < standing.holders || unfilled))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts")]
    fn tell(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        gauge!("coupon_admissions_pending").set(sums.pending as f64);
        gauge!("coupon_admissions_unsettled").set(sums.unsettled as f64);
        gauge!("coupon_admissions_unanswered").set(sums.unanswered as f64);
    }
}

/// What a look at a coupon's gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Stands,
    Lost,
}
