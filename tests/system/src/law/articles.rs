//! The articles of the law. Pure: evidence in, broken sentences out.

mod coupons;

use std::collections::{BTreeMap, BTreeSet};

use common_events::{OrderId, ProductId, UserId};

pub(super) use self::coupons::{coupons, coupons_in_orders};
use super::evidence::{Evidence, RANKING_LIMIT};
use crate::{shop::Ranking, topics::FactLine};

/// Article 1: captured − refunded = total of CONFIRMED orders; per order 0 ≤ refunded ≤ captured ≤ total; the ledger
/// adds up to the balances.
pub(super) fn money(evidence: &Evidence) -> Vec<String> {
    let mut broken = Vec::new();
    let mut paid: BTreeMap<OrderId, (i64, i64)> = BTreeMap::new();
    let mut balances: BTreeMap<&UserId, i64> = BTreeMap::new();
    for entry in &evidence.ledger {
        *balances.entry(&entry.user).or_default() += entry.delta;
        let Some(order) = entry.order else { continue };
        let (captured, refunded) = paid.entry(order).or_default();
        if entry.kind == "REFUNDED" {
            *refunded += entry.delta;
        } else {
            *captured -= entry.delta;
        }
    }
    for (id, (captured, refunded)) in &paid {
        let Some(order) = evidence.orders.get(id) else {
            broken.push(format!("money: order {id} was paid and never placed"));
            continue;
        };
        if !(0 <= *refunded && refunded <= captured && *captured <= order.total) {
            broken.push(format!("money: order {id} of {}: captured {captured}, refunded {refunded}", order.total));
        }
    }
    for (id, order) in &evidence.orders {
        let (captured, refunded) = paid.get(id).copied().unwrap_or_default();
        let due = if order.is_confirmed() { order.total } else { 0 };
        if captured - refunded != due {
            let status = &order.status;
            broken.push(format!(
                "money: {status} order {id} of {}: captured {captured}, refunded {refunded}",
                order.total
            ));
        }
    }
    for (user, balance) in &evidence.balances {
        let sum = balances.get(user).copied().unwrap_or_default();
        if sum != *balance {
            broken.push(format!("money: the ledger of {user} adds up to {sum}, the balance is {balance}"));
        }
    }
    broken
}

/// Article 2: initial + restocked = available + held by orders that aren't cancelled; never below 0.
pub(super) fn stock(evidence: &Evidence) -> Vec<String> {
    let mut broken = Vec::new();
    let owed = evidence.owed();
    let mut held: BTreeMap<&ProductId, i64> = BTreeMap::new();
    for ((_, product), quantity) in &owed {
        *held.entry(product).or_default() += quantity;
    }
    for (product, shelved) in &evidence.books.shelved {
        // An answer that was lost: the product may not be there at all.
        let Some(available) = evidence.stock.get(product) else { continue };
        let held = held.get(product).copied().unwrap_or_default();
        if *available < 0 || available + held != *shelved {
            broken.push(format!("stock: {product}: {shelved} shelved, {available} available, {held} held"));
        }
    }
    for (place, quantity) in owed.iter().filter(|(place, quantity)| evidence.held.get(place) != Some(quantity)) {
        broken.push(format!("stock: order {} is confirmed, its {quantity} of {} aren't held", place.0, place.1));
    }
    for (place, quantity) in evidence.held.iter().filter(|(place, _)| !owed.contains_key(place)) {
        broken.push(format!("stock: {quantity} of {} are held for order {}, which isn't confirmed", place.1, place.0));
    }
    broken
}

/// Article 4: every 202 order exists; every order was told of.
pub(super) fn nothing_acknowledged_is_lost(evidence: &Evidence) -> Vec<String> {
    let promised = evidence.books.accepted.iter().filter(|accepted| !evidence.orders.contains_key(&accepted.order_id));
    let lost = promised.map(|accepted| format!("lost: order {} was accepted and isn't there", accepted.order_id));
    let told: BTreeSet<OrderId> = evidence.told_once("order-created").filter_map(|told| told.data.order_id).collect();
    let silent = evidence.orders.keys().filter(|id| !told.contains(id));
    lost.chain(silent.map(|id| format!("lost: nobody was told of order {id}"))).collect()
}

/// Article 5: each effect is told with one event id, once per order (and line).
pub(super) fn effects_happen_once(evidence: &Evidence) -> Vec<String> {
    let kinds = [
        "order-created",
        "order-line-placed",
        "stock-deducted",
        "stock-restored",
        "coupon-used",
        "coupon-use-failed",
        "coupon-restored",
        "order-reserved",
        "point-deducted",
        "point-refunded",
        "payment-completed",
        "payment-failed",
        "payment-refunded",
        "order-confirmed",
        "order-cancelled",
    ];
    let mut broken = Vec::new();
    for kind in kinds {
        let mut seen = BTreeSet::new();
        for told in evidence.told_once(kind) {
            let (order, product) = (told.data.order_id, told.data.product_id.clone());
            if !seen.insert((order, product)) {
                broken.push(format!("once: {kind} was told twice of {:?}", told.data.order_id));
            }
        }
    }
    broken
}

/// Article 8: every saga ends: each order is confirmed or cancelled, and its end was told.
pub(super) fn every_saga_has_ended(evidence: &Evidence) -> Vec<String> {
    let of = |kind| evidence.told_once(kind).filter_map(|told| told.data.order_id).collect::<BTreeSet<OrderId>>();
    let (confirmed, cancelled) = (of("order-confirmed"), of("order-cancelled"));
    let told_of = |id: &OrderId, status: &str| match status {
        "CONFIRMED" => confirmed.contains(id) && !cancelled.contains(id),
        "CANCELLED" => cancelled.contains(id),
        _ => false,
    };
    let open = evidence.orders.iter().filter(|(id, order)| !told_of(id, &order.status));
    open.map(|(id, order)| format!("end: order {id} is {}, and that isn't what was told", order.status)).collect()
}

/// Article 7: nothing was set aside.
pub(super) fn nothing_is_dead(evidence: &Evidence) -> Vec<String> {
    let each = |(service, dead): (&&str, &Vec<String>)| {
        dead.first().map(|first| format!("dead: {} letters of {service}, such as {first}", dead.len()))
    };
    evidence.dead.iter().filter_map(each).collect()
}

/// Article 4, outside: every payment that completed was taken by the platform, each once.
pub(super) fn the_platform_outside(evidence: &Evidence) -> Vec<String> {
    let completed = evidence.told_once("payment-completed").count() as u64;
    let taken = evidence.taken_outside;
    if taken == completed {
        return Vec::new();
    }
    vec![format!("outside: {completed} payments were completed, the platform has taken {taken}")]
}

/// Article 11: the ranking equals a recomputation from the topics.
pub(super) fn ranking(evidence: &Evidence) -> Vec<String> {
    evidence.rankings.iter().flat_map(|(by, ranking)| one_ranking(evidence, by, ranking)).collect()
}

fn one_ranking(evidence: &Evidence, by: &str, ranking: &Ranking) -> Vec<String> {
    let mut sold: BTreeMap<&ProductId, (i64, i64)> = BTreeMap::new();
    for (kind, sign) in [("payment-completed", 1), ("payment-refunded", -1)] {
        let within = |paid| ranking.from <= paid && paid < ranking.to;
        let told = evidence.told_once(kind).filter(|told| told.data.paid_at.is_some_and(within));
        for FactLine { product_id, quantity, amount } in told.flat_map(|told| &told.data.lines) {
            let (pieces, won) = sold.entry(product_id).or_default();
            (*pieces, *won) = (*pieces + sign * quantity, *won + sign * amount);
        }
    }
    sold.retain(|_, (pieces, won)| (*pieces, *won) != (0, 0));
    let value = |(pieces, won): (i64, i64)| if by == "quantity" { pieces } else { won };
    let shown: BTreeMap<&ProductId, (i64, i64)> =
        ranking.items.iter().map(|item| (&item.product_id, (item.quantity, item.amount))).collect();

    let mut broken = Vec::new();
    let name = format!("ranking of the {} by {by}", ranking.window);
    for (product, shown) in shown.iter().filter(|(_, shown)| **shown != (0, 0)) {
        let sold = sold.get(product).copied().unwrap_or_default();
        if *shown != sold {
            broken.push(format!("{name}: {product} shows {shown:?} pieces and won, the topics say {sold:?}"));
        }
    }
    let lowest = shown.values().map(|shown| value(*shown)).min();
    let is_full = shown.len() >= RANKING_LIMIT as usize;
    for (product, sold) in sold.iter().filter(|(product, _)| !shown.contains_key(*product)) {
        if !is_full || lowest.is_some_and(|lowest| value(*sold) > lowest) {
            broken.push(format!("{name}: {product} is missing with {sold:?} pieces and won"));
        }
    }
    let values: Vec<i64> = ranking.items.iter().map(|item| value((item.quantity, item.amount))).collect();
    if !values.is_sorted_by(|a, b| a >= b) {
        broken.push(format!("{name}: it isn't in order: {values:?}"));
    }
    broken
}

/// Article 12: one traceid from the first request to the last compensation.
pub(super) fn one_trace(evidence: &Evidence) -> Vec<String> {
    let mut broken = Vec::new();
    for told in &evidence.told {
        let Some(id) = told.data.order_id else { continue };
        match evidence.orders.get(&id) {
            None => broken.push(format!("trace: {} tells of order {id}, which isn't there", told.kind)),
            Some(order) if order.trace != told.traceid => {
                broken.push(format!(
                    "trace: {} of order {id} has {}, the order {}",
                    told.kind, told.traceid, order.trace
                ));
            }
            Some(_) => {}
        }
    }
    broken
}

/// Balances rebuilt from the points topics equal the ledger's.
pub(super) fn balances_from_the_topics(evidence: &Evidence) -> Vec<String> {
    let mut told: BTreeMap<&UserId, i64> = BTreeMap::new();
    for (kind, sign) in [("point-charged", 1), ("point-deducted", -1), ("point-refunded", 1)] {
        for event in evidence.told_once(kind) {
            if let (Some(user), Some(amount)) = (&event.data.user_id, event.data.amount) {
                *told.entry(user).or_default() += sign * amount;
            }
        }
    }
    let differs = |(user, balance): &(&UserId, &i64)| told.get(user).copied().unwrap_or_default() != **balance;
    let wrong = evidence.balances.iter().filter(differs);
    wrong.map(|(user, balance)| format!("money: {user} has {balance}, the topics say {:?}", told.get(user))).collect()
}

#[cfg(test)]
mod tests;
