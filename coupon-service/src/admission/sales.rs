//! What this process knows of sales without asking anybody.
//!
//! Once a coupon is sold out, who holds it can't change until a slot comes back, and Redis counts those
//! (`released`). So a process that has read the holders between two equal counts may answer by itself, as
//! long as the count stays the same: which it looks at, a few times a second, while people ask. A slot
//! that comes back through this process is noticed at once.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common_events::{CouponId, UserId};
use futures::{FutureExt, future::join_all};
use service_runtime::{
    chain,
    tasks::{Next, Rounds},
};
use tracing::{debug, warn};

use super::{Answered, Inner, Refused, is_past};
use crate::gate::Standing;

/// How often the count of a sold-out coupon is looked at: what a slot that came back waits at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Without an answer of Redis for so long, nothing is known any more.
const BELIEVED: Duration = Duration::from_secs(1);
/// Nobody asked for so long: who holds it is forgotten, and the whole sale later.
const CROWD_FORGOTTEN_AFTER: u64 = 30;
const SALE_FORGOTTEN_AFTER: u64 = 600;
/// Sales that are known at most.
const MAX_SALES: usize = 10_000;
/// The most holders of one coupon that are kept in mind, at about 16 bytes each.
const MAX_HOLDERS: i64 = 1_000_000;

pub(super) struct Sales {
    /// Only coupons that there are.
    known: RwLock<HashMap<CouponId, Arc<Sale>>>,
    began: Instant,
}

#[derive(Default)]
struct Sale {
    /// The latest epoch that this process heard of.
    epoch: AtomicI64,
    crowd: RwLock<Option<Arc<Crowd>>>,
    is_being_read: AtomicBool,
    /// In seconds since the process began.
    last_asked: AtomicU64,
}

/// Who holds a sold-out coupon.
struct Crowd {
    standing: Standing,
    /// Hashes under keys of this process: who isn't among them gets a wrong answer once in 10^13 questions
    /// about a million holders.
    holders: HashSet<u64>,
    keys: RandomState,
    /// When Redis last said that nothing has changed, in milliseconds since the process began.
    believed_at: AtomicU64,
}

impl Default for Sales {
    fn default() -> Self {
        Self { known: RwLock::default(), began: Instant::now() }
    }
}

impl Sales {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// An answer that needs no question, if there is one.
    pub(super) fn refuse(&self, coupon_id: &CouponId, user_id: &UserId) -> Option<Refused> {
        let sale = self.find(coupon_id)?;
        let crowd = sale.crowd()?;
        let now = self.now();
        sale.note_asked(now);
        // Whatever became of who should look: what nobody confirms is forgotten.
        if now.saturating_sub(crowd.believed_at()) > BELIEVED {
            return None;
        }
        if crowd.holders.contains(&crowd.keys.hash_one(user_id.as_str())) {
            return Some(Refused::AskedBefore);
        }
        // After the end of the sale the gate says so.
        (!is_past(crowd.standing.closes_at)).then_some(Refused::SoldOut)
    }

    /// The gate says that nothing is left: from now on this process may know it by itself.
    pub(super) fn sold_out(inner: &Arc<Inner>, coupon_id: &CouponId) {
        let Some(sale) = inner.sales.find_or_insert(coupon_id) else { return };
        if sale.is_being_read.swap(true, Ordering::AcqRel) {
            return;
        }
        let (reading, coupon_id, being_read) = (Arc::clone(inner), coupon_id.clone(), BeingRead(sale));
        let read = async move {
            match read_crowd(&reading, &coupon_id).await {
                Ok(Some(crowd)) => being_read.0.set(Some(Arc::new(crowd))),
                Ok(None) => {}
                Err(unanswered) => debug!(error = chain(&unanswered), "the holders can't be read"),
            }
        };
        inner.tasks.once("crowd", read.boxed());
    }

    pub(super) fn slot_came_back(&self, coupon_id: &CouponId) {
        if let Some(sale) = self.find(coupon_id) {
            sale.set(None);
        }
    }

    pub(super) fn epoch_of(&self, coupon_id: &CouponId) -> Option<i64> {
        self.find(coupon_id).map(|sale| sale.epoch.load(Ordering::Acquire))
    }

    /// Whether there is this coupon, for all this process knows.
    pub(super) fn knows(&self, coupon_id: &CouponId) -> bool {
        self.find(coupon_id).is_some()
    }

    /// Remembers a coupon that somebody asked for.
    pub(super) fn remember(&self, coupon_id: &CouponId) {
        self.find_or_insert(coupon_id);
    }

    /// A later epoch ends what was known of the one before. Of a sale that nobody asks for here, nothing is.
    pub(super) fn heard_of_epoch(&self, coupon_id: &CouponId, epoch: i64) {
        let Some(sale) = self.find(coupon_id) else { return };
        if sale.epoch.fetch_max(epoch, Ordering::AcqRel) < epoch
            && sale.crowd().is_some_and(|crowd| crowd.standing.epoch < epoch)
        {
            sale.set(None);
        }
    }

    fn find(&self, coupon_id: &CouponId) -> Option<Arc<Sale>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(coupon_id).cloned()
    }

    /// `None` when too many are known.
    fn find_or_insert(&self, coupon_id: &CouponId) -> Option<Arc<Sale>> {
        if let Some(sale) = self.find(coupon_id) {
            sale.note_asked(self.now());
            return Some(sale);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SALES && !known.contains_key(coupon_id) {
            return None;
        }
        let sale = known.entry(coupon_id.clone()).or_default();
        sale.note_asked(self.now());
        Some(Arc::clone(sale))
    }

    fn forget_old(&self) {
        let then = self.now().as_secs().saturating_sub(SALE_FORGOTTEN_AFTER);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, sale| sale.last_asked.load(Ordering::Relaxed) >= then);
    }

    fn sold_out_sales(&self) -> Vec<(CouponId, Arc<Sale>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let sold_out = known.iter().filter(|(_, sale)| sale.crowd().is_some());
        sold_out.map(|(coupon_id, sale)| (coupon_id.clone(), Arc::clone(sale))).collect()
    }
}

impl Sale {
    fn crowd(&self) -> Option<Arc<Crowd>> {
        self.crowd.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, crowd: Option<Arc<Crowd>>) {
        *self.crowd.write().unwrap_or_else(PoisonError::into_inner) = crowd;
    }

    fn note_asked(&self, now: Duration) {
        self.last_asked.store(now.as_secs(), Ordering::Relaxed);
    }

    fn is_forgotten_at(&self, now: Duration) -> bool {
        self.last_asked.load(Ordering::Relaxed) + CROWD_FORGOTTEN_AFTER < now.as_secs()
    }
}

/// However the reading ends, the next one who finds it sold out has it read again.
struct BeingRead(Arc<Sale>);

impl Drop for BeingRead {
    fn drop(&mut self) {
        self.0.is_being_read.store(false, Ordering::Release);
    }
}

impl Crowd {
    fn believed_at(&self) -> Duration {
        Duration::from_millis(self.believed_at.load(Ordering::Relaxed))
    }

    fn believe(&self, now: Duration) {
        self.believed_at.store(millis(now), Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads all holders, if nothing changes meanwhile.
async fn read_crowd(inner: &Inner, coupon_id: &CouponId) -> Answered<Option<Crowd>> {
    let gate = &inner.gate;
    let Some(before) = gate.standing(coupon_id).await?.filter(Standing::is_sold_out) else { return Ok(None) };
    if before.holders > MAX_HOLDERS {
        return Ok(None);
    }
    let keys = RandomState::new();
    let mut holders = HashSet::with_capacity(usize::try_from(before.holders).unwrap_or(0));
    let mut cursor = 0;
    loop {
        let (next, page) = gate.list_holders(coupon_id, cursor).await?;
        holders.extend(page.iter().map(|user| keys.hash_one(user.as_str())));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let now = inner.sales.now();
    let after = gate.standing(coupon_id).await?;
    let same = after.is_some_and(|after| is_same_crowd(&before, &after));
    Ok(same.then(|| Crowd { standing: before, holders, keys, believed_at: millis(now).into() }))
}

fn is_same_crowd(before: &Standing, now: &Standing) -> bool {
    (before.epoch, before.released, before.holders) == (now.epoch, now.released, now.holders)
}

/// Looks whether what is known still holds.
pub(super) fn watch(inner: &Arc<Inner>) {
    let watching = (Arc::clone(inner), Instant::now());
    inner.tasks.repeat(Rounds::every("sold-out-sales", LOOK_EVERY), watching, |(inner, forgot)| {
        async move {
            if forgot.elapsed() > Duration::from_secs(CROWD_FORGOTTEN_AFTER) {
                *forgot = Instant::now();
                inner.sales.forget_old();
            }
            let inner: &Inner = inner;
            let sales = inner.sales.sold_out_sales();
            // One round trip for all, however many they are.
            join_all(sales.iter().map(|(coupon_id, sale)| look(inner, coupon_id, sale))).await;
            Ok(Next::Later)
        }
        .boxed()
    });
}

async fn look(inner: &Inner, coupon_id: &CouponId, sale: &Sale) {
    let Some(crowd) = sale.crowd() else { return };
    let now = inner.sales.now();
    let holds = match inner.gate.standing(coupon_id).await {
        Ok(standing) => standing.is_some_and(|standing| is_same_crowd(&crowd.standing, &standing)),
        Err(unanswered) => {
            if now.saturating_sub(crowd.believed_at()) <= BELIEVED {
                return;
            }
            warn!(coupon = %coupon_id, error = chain(&unanswered), "who holds it isn't known any more");
            false
        }
    };
    if holds && !sale.is_forgotten_at(now) {
        crowd.believe(now);
    } else {
        sale.set(None);
    }
}

#[cfg(test)]
mod tests;
