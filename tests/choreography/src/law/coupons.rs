//! Article 3: what holds of coupons, and of coupons in orders.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use common_events::{
    EventId, Service, UserId,
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed, Discount,
        OrderCreated,
    },
};
use coupon_service::domain::{Coupon, Mode};
use uuid::Uuid;

use super::{ask, given_up, ids_by_order, unique};
use crate::{broker::Broker, shop::Shop};

/// Never more than there are, exactly as many as were asked for and weren't given up, and each request answered once.
pub(super) async fn issued(shop: &Shop, broker: &Broker, coupons: &[Coupon]) -> anyhow::Result<()> {
    let requested = unique::<CouponIssueRequested>(broker)?;
    let given_up = given_up(shop, Service::Coupon).await?;
    let mut rows: BTreeSet<Uuid> = BTreeSet::new();
    for coupon in coupons {
        let id = coupon.coupon_id.as_str();
        let held = held(shop, coupon).await?;
        let issued = i64::try_from(held.len())?;
        let of_this = || requested.values().filter(|event| event.data.coupon_id == coupon.coupon_id);
        let askers: BTreeSet<&UserId> = of_this().map(|event| &event.data.user_id).collect();
        let due = coupon.quantity.min(i64::try_from(askers.len())?);
        let given_up = of_this().filter(|event| given_up.contains(&event.id)).count();
        // A rank that somebody asked with who had one already is nobody's.
        let at_least = if coupon.mode == Mode::Ranked { 0 } else { due - i64::try_from(given_up)? };
        ensure!((at_least..=due).contains(&issued), "{id}: {issued} held, {due} due");
        rows.extend(held);
    }
    let issued = unique::<CouponIssued>(broker)?;
    let told: BTreeSet<Uuid> = issued.values().map(|event| event.data.issued_coupon_id.uuid()).collect();
    ensure!(told == rows, "coupons told of: {told:?}, held: {rows:?}");
    let rejected = unique::<CouponIssueRejected>(broker)?;
    let yes = issued.values().map(|event| event.data.request_id);
    let mut answered: Vec<Option<EventId>> = yes.chain(rejected.values().map(|event| event.data.request_id)).collect();
    answered.sort_unstable();
    let asked: Vec<Option<EventId>> = requested.values().map(|event| Some(event.id)).collect();
    ensure!(answered == asked, "requests {asked:?}, answers to {answered:?}");
    Ok(())
}

/// Never more than there are, and as many as are counted. Returns which are held.
pub(super) async fn held(shop: &Shop, coupon: &Coupon) -> anyhow::Result<Vec<Uuid>> {
    let id = coupon.coupon_id.as_str();
    let sql = "SELECT issued, ARRAY(SELECT issued_coupon_id FROM issued_coupons i WHERE i.coupon_id = c.coupon_id)
               FROM coupons c WHERE coupon_id = $1";
    let found = ask(shop.database(Service::Coupon), sql, &[&id]).await?;
    let (counted, held): (i64, Vec<Uuid>) = (found[0].get(0), found[0].get(1));
    let issued = i64::try_from(held.len())?;
    ensure!(counted == issued && issued <= coupon.quantity, "{id}: {issued} held, {counted} counted");
    Ok(held)
}

/// An order that is confirmed uses its coupon and pays what that leaves; one that isn't gave it back if it
/// had it. An order whose `order-created` was discarded isn't known there. Returns how many coupons are in use, and how many were used more than once.
pub(super) async fn used(shop: &Shop, broker: &Broker, orders: &[Uuid]) -> anyhow::Result<(usize, usize)> {
    let used = ids_by_order::<CouponUsed>(broker, |data| data.order_id)?;
    let failed = ids_by_order::<CouponUseFailed>(broker, |data| data.order_id)?;
    let restored = ids_by_order::<CouponRestored>(broker, |data| data.order_id)?;
    let discounts = discounts(broker)?;
    let given_up = given_up(shop, Service::Coupon).await?;
    let unheard: BTreeSet<_> = unique::<OrderCreated>(broker)?
        .values()
        .filter(|event| given_up.contains(&event.id))
        .map(|event| event.data.order_id)
        .collect();
    let sql = "SELECT order_id, status, issued_coupon_id, subtotal, discount FROM orders
               WHERE order_id = ANY($1) AND issued_coupon_id IS NOT NULL";
    let mut using: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    for row in ask(shop.database(Service::Order), sql, &[&orders]).await? {
        let (order, status, coupon): (Uuid, String, Uuid) = (row.get(0), row.get(1), row.get(2));
        let id = common_events::OrderId::new(order);
        let [used, failed, restored] = [&used, &failed, &restored].map(|told| told.get(&id).map_or(0, BTreeSet::len));
        let is_confirmed = status == "CONFIRMED";
        let undone = if is_confirmed { 0 } else { used };
        ensure!(
            used + failed == usize::from(!unheard.contains(&id)) && restored == undone && (used == 1 || !is_confirmed),
            "order {order} is {status}; its coupon: {used} × used, {failed} × refused, {restored} × restored"
        );
        if is_confirmed {
            let (subtotal, discount): (i64, i64) = (row.get(3), row.get(4));
            let due = discounts.get(&coupon).map(|discount| taken_off(subtotal, discount));
            ensure!(Some(discount) == due, "order {order}: {discount} off {subtotal}, due {due:?}");
            ensure!(using.insert(coupon, order).is_none(), "coupon {coupon} is used by two orders");
        }
    }
    let coupons: Vec<Uuid> = discounts.keys().copied().collect();
    let sql = "SELECT issued_coupon_id, order_id FROM issued_coupons
               WHERE issued_coupon_id = ANY($1) AND order_id IS NOT NULL";
    let rows = ask(shop.database(Service::Coupon), sql, &[&coupons]).await?;
    let held: BTreeMap<Uuid, Uuid> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    ensure!(held == using, "coupons in use: {held:?}, by confirmed orders: {using:?}");

    let mut times: BTreeMap<Uuid, usize> = BTreeMap::new();
    for event in unique::<CouponUsed>(broker)?.values() {
        *times.entry(event.data.issued_coupon_id.uuid()).or_default() += 1;
    }
    Ok((using.len(), times.values().filter(|times| **times > 1).count()))
}

fn discounts(broker: &Broker) -> anyhow::Result<BTreeMap<Uuid, Discount>> {
    let issued = unique::<CouponIssued>(broker)?;
    Ok(issued.into_values().map(|event| (event.data.issued_coupon_id.uuid(), event.data.discount)).collect())
}

/// Reckoned here once more.
fn taken_off(subtotal: i64, discount: &Discount) -> i64 {
    match discount {
        Discount::Amount { value } => subtotal.min(value.get()),
        Discount::Percent { value, max } => {
            let part = subtotal * i64::from(*value) / 100;
            max.map_or(part, |max| part.min(max.get()))
        }
    }
}
