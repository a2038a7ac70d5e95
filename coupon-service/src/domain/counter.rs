//! The second line of defence: of those whom the gate admitted, who gets a coupon. It knows what the
//! gate can't be trusted with (its memory may be old, or gone), and judges by the time of admission,
//! not by now: a request that had to wait for an hour was in time if its customer was.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use common_events::{ClaimRefusal, CouponId, EventId, IssuedCouponId, UserId, events::CouponIssueRequested};

use super::{Coupon, IssuedCoupon, Mode};

/// One admission that asks for its coupon.
#[derive(Debug, Clone, Copy)]
pub struct Request<'e> {
    /// Of the event.
    pub request_id: EventId,
    /// What it says.
    pub admission: &'e CouponIssueRequested,
    /// The id that its coupon gets, if it gets one.
    pub issued_coupon_id: IssuedCouponId,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets this coupon.
    Issued(IssuedCoupon),
    /// Its user holds this one already.
    Held(IssuedCoupon),
    /// It gets none.
    Rejected(ClaimRefusal),
    /// It gets none: its rank is somebody else's, or no rank at all.
    RankTaken,
}

/// The counter where coupons are handed out: the locked coupons of a batch, and who of those that ask
/// holds one.
#[derive(Debug)]
pub struct Counter {
    coupons: BTreeMap<CouponId, Coupon>,
    /// By user and coupon.
    holders: HashMap<(UserId, CouponId), IssuedCoupon>,
    /// By rank and coupon.
    ranks: HashMap<(i64, CouponId), UserId>,
    now: DateTime<Utc>,
}

impl Counter {
    /// What was loaded: the coupons, locked, and what the askers hold of them, or others under their ranks.
    pub fn new(
        coupons: BTreeMap<CouponId, Coupon>,
        held: impl IntoIterator<Item = IssuedCoupon>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut counter = Self { coupons, holders: HashMap::new(), ranks: HashMap::new(), now };
        for coupon in held {
            counter.note(coupon);
        }
        counter
    }

    /// Judges one request after the other; `None` when there is no such coupon. Who holds one already is
    /// asked first: a repeated request is done, however late it comes.
    pub fn judge(&mut self, request: Request<'_>) -> Option<Verdict> {
        let asked = request.admission;
        let coupon = self.coupons.get(&asked.coupon_id)?;
        if let Some(held) = self.held_by(&asked.user_id, &asked.coupon_id) {
            return Some(Verdict::Held(held.clone()));
        }
        if let Some(reason) = out_of_time(coupon, asked) {
            return Some(Verdict::Rejected(reason));
        }
        if asked.rank.is_some_and(|rank| !coupon.has_rank(rank) || self.is_taken(rank, &asked.coupon_id)) {
            return Some(Verdict::RankTaken);
        }
        if coupon.issued >= coupon.quantity || !is_of_its_mode(coupon, asked) {
            return Some(Verdict::Rejected(ClaimRefusal::SoldOut));
        }
        let issued = self.issue(request)?;
        self.note(issued.clone());
        if let Some(coupon) = self.coupons.get_mut(&asked.coupon_id) {
            coupon.issued += 1;
        }
        Some(Verdict::Issued(issued))
    }

    /// The coupon that the request would get if nobody looked; `None` when there is no such coupon.
    pub fn issue(&self, request: Request<'_>) -> Option<IssuedCoupon> {
        let asked = request.admission;
        let coupon = self.coupons.get(&asked.coupon_id)?;
        Some(IssuedCoupon {
            issued_coupon_id: request.issued_coupon_id,
            coupon_id: asked.coupon_id.clone(),
            user_id: asked.user_id.clone(),
            rank: asked.rank,
            request_id: request.request_id,
            discount: coupon.discount_of(asked.rank).clone(),
            valid_until: coupon.valid_until,
            issued_at: self.now,
        })
    }

    /// What it comes to when the database didn't take it: the user holds one by now, or his rank is
    /// somebody else's, or none is left. `held` is what was found there afterwards.
    pub fn explain(&self, asked: &CouponIssueRequested, held: &[IssuedCoupon]) -> Verdict {
        let of_coupon = || held.iter().filter(|held| held.coupon_id == asked.coupon_id);
        if let Some(held) = of_coupon().find(|held| held.user_id == asked.user_id) {
            return Verdict::Held(held.clone());
        }
        let is_rank = |rank| self.coupons.get(&asked.coupon_id).is_some_and(|coupon| coupon.has_rank(rank));
        match asked.rank {
            Some(rank) if !is_rank(rank) || of_coupon().any(|held| held.rank == Some(rank)) => Verdict::RankTaken,
            Some(_) | None => Verdict::Rejected(ClaimRefusal::SoldOut),
        }
    }

    /// What a request comes to that was given up before it was judged; `None` when there is no such coupon.
    pub fn discard(&self, asked: &CouponIssueRequested) -> Option<Verdict> {
        self.coupons.get(&asked.coupon_id)?;
        let held = self.held_by(&asked.user_id, &asked.coupon_id);
        Some(held.map_or(Verdict::Rejected(ClaimRefusal::Discarded), |held| Verdict::Held(held.clone())))
    }

    fn held_by(&self, user_id: &UserId, coupon_id: &CouponId) -> Option<&IssuedCoupon> {
        self.holders.get(&(user_id.clone(), coupon_id.clone()))
    }

    fn is_taken(&self, rank: i64, coupon_id: &CouponId) -> bool {
        self.ranks.contains_key(&(rank, coupon_id.clone()))
    }

    fn note(&mut self, held: IssuedCoupon) {
        if let Some(rank) = held.rank {
            self.ranks.insert((rank, held.coupon_id.clone()), held.user_id.clone());
        }
        self.holders.insert((held.user_id.clone(), held.coupon_id.clone()), held);
    }
}

/// Why this admission counts for nothing, whoever asks.
fn out_of_time(coupon: &Coupon, asked: &CouponIssueRequested) -> Option<ClaimRefusal> {
    if asked.epoch != coupon.epoch {
        return Some(ClaimRefusal::EpochEnded);
    }
    (!coupon.is_open_at(asked.admitted_at)).then_some(ClaimRefusal::NotOpen)
}

/// A rank where there are none, or none where there are: no gate of this coupon admitted that.
const fn is_of_its_mode(coupon: &Coupon, asked: &CouponIssueRequested) -> bool {
    match coupon.mode {
        Mode::Set => asked.rank.is_none(),
        Mode::Ranked => asked.rank.is_some(),
    }
}
