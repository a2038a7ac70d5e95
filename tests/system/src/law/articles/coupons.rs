//! Article 3: what holds of coupons, and of coupons in orders.

use std::collections::{BTreeMap, BTreeSet};

use common_events::{CouponId, IssuedCouponId, OrderId, TraceId, UserId};

use crate::{
    law::{
        Evidence,
        evidence::{Issued, Order},
    },
    topics::Told,
};

/// One customer and one coupon.
type Claim = (CouponId, UserId);

/// Issued ≤ quantity, one per user, ranks unique; every 202 ends as ISSUED or visibly REJECTED; sold out means
/// exactly `quantity` issued; each coupon is told of, in the trace of a request for it, and no other.
pub(in crate::law) fn coupons(evidence: &Evidence) -> Vec<String> {
    [counted(evidence), one_each(evidence), promised(evidence), told(evidence)].concat()
}

fn counted(evidence: &Evidence) -> Vec<String> {
    let mut held: BTreeMap<&CouponId, i64> = BTreeMap::new();
    evidence.issued.iter().for_each(|issued| *held.entry(&issued.coupon).or_default() += 1);
    let mut broken = Vec::new();
    for (id, coupon) in &evidence.coupons {
        let held = held.get(id).copied().unwrap_or_default();
        let (quantity, counted) = (coupon.quantity, coupon.issued);
        if counted != held || held > quantity {
            broken.push(format!("coupons: {held} of {quantity} {id} are held, {counted} are counted"));
        }
        if coupon.state == "SOLD_OUT" && held != quantity {
            broken.push(format!("coupons: {id} is sold out, and {held} of {quantity} are held"));
        }
    }
    let unknown = held.keys().filter(|id| !evidence.coupons.contains_key(**id));
    broken.extend(unknown.map(|id| format!("coupons: {id} is held, and there is no such coupon")));
    broken
}

fn one_each(evidence: &Evidence) -> Vec<String> {
    let (mut holders, mut ranks) = (BTreeSet::new(), BTreeSet::new());
    let mut broken = Vec::new();
    for Issued { coupon, user, rank, .. } in &evidence.issued {
        if !holders.insert((coupon, user)) {
            broken.push(format!("coupons: {user} holds {coupon} twice"));
        }
        if rank.is_some_and(|rank| !ranks.insert((coupon, rank))) {
            broken.push(format!("coupons: rank {rank:?} of {coupon} is held twice"));
        }
    }
    broken
}

fn promised(evidence: &Evidence) -> Vec<String> {
    let held = holders(evidence);
    let rejected: BTreeSet<Claim> = claims(evidence, "coupon-issue-rejected").map(|(claim, _)| claim).collect();
    let lost = evidence.books.admissions.iter().filter(|claim| !held.contains(claim) && !rejected.contains(claim));
    lost.map(|(coupon, user)| format!("coupons: {user} was admitted to {coupon}, and neither has it nor was rejected"))
        .collect()
}

/// Who asks again is told again what he holds: the same coupon each time.
fn told(evidence: &Evidence) -> Vec<String> {
    let mut requested: BTreeMap<Claim, BTreeSet<TraceId>> = BTreeMap::new();
    for (claim, told) in claims(evidence, "coupon-issue-requested") {
        requested.entry(claim).or_default().insert(told.traceid);
    }
    let mut broken = Vec::new();
    let mut given = BTreeSet::new();
    for (claim, told) in claims(evidence, "coupon-issued") {
        if !requested.get(&claim).is_some_and(|traces| traces.contains(&told.traceid)) {
            broken.push(format!("trace: nobody asked for {} of {} in {}", claim.0, claim.1, told.traceid));
        }
        given.extend(told.data.issued_coupon_id.map(|id| (id, claim)));
    }
    let held = evidence.issued.iter().map(|issued| (issued.id, (issued.coupon.clone(), issued.user.clone())));
    let held: BTreeSet<(IssuedCouponId, Claim)> = held.collect();
    let differs = given.symmetric_difference(&held);
    broken.extend(differs.map(|one @ (id, (coupon, user))| {
        let what = if held.contains(one) { "is held, and nobody was told" } else { "was told of, and isn't held" };
        format!("coupons: {id}, a {coupon} of {user}, {what}")
    }));
    broken
}

fn holders(evidence: &Evidence) -> BTreeSet<Claim> {
    evidence.issued.iter().map(|issued| (issued.coupon.clone(), issued.user.clone())).collect()
}

fn claims<'e>(evidence: &'e Evidence, kind: &'static str) -> impl Iterator<Item = (Claim, &'e Told)> {
    evidence.told_once(kind).filter_map(|told| Some(((told.data.coupon_id.clone()?, told.data.user_id.clone()?), told)))
}

/// A coupon is used by the confirmed order that it was taken for, and by no other.
pub(in crate::law) fn coupons_in_orders(evidence: &Evidence) -> Vec<String> {
    let of = |kind| evidence.told_once(kind).filter_map(|told| told.data.order_id).collect::<BTreeSet<OrderId>>();
    let (used, restored) = (of("coupon-used"), of("coupon-restored"));
    let is_confirmed = |id: &OrderId| evidence.orders.get(id).is_some_and(Order::is_confirmed);
    let due: BTreeSet<OrderId> = used.iter().copied().filter(is_confirmed).collect();
    let using: BTreeSet<OrderId> = evidence.issued.iter().filter_map(|issued| issued.order).collect();
    let mut broken: Vec<String> = due
        .symmetric_difference(&using)
        .map(|order| {
            format!(
                "coupons: order {order} was told to use one: {}, and does: {}",
                due.contains(order),
                using.contains(order)
            )
        })
        .collect();
    let undone: BTreeSet<OrderId> = used.difference(&due).copied().collect();
    let differs = undone.symmetric_difference(&restored);
    broken.extend(differs.map(|order| format!("coupons: the coupon of order {order} wasn't given back just once")));
    broken
}
