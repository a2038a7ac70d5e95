//! The law (ARCHITECTURE.md, "The law"), checked on the databases: some of it at any moment, all of it once everything is quiet.

mod coupons;
pub(crate) mod places;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use common_events::{
    EventData, EventId, OrderId, ProductId, Service, Topic, UserId,
    envelope::{self, Event},
    events::{OrderCancelled, OrderConfirmed, OrderCreated, PaymentCompleted, PaymentRefunded},
};
use messaging::Record;
use service_runtime::Pool;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{broker::Broker, outcome::Outcome, plan::Scene, shop::Shop};

/// Checks what holds at any moment: sums, and limits.
pub(crate) async fn always(shop: &Shop, scene: &Scene) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = scene.orders.iter().map(|order| order.uuid()).collect();
    ledgers(shop, &ids, &scene.users).await?;
    for (product, initial) in &scene.products {
        shelf(shop, product, *initial).await?;
    }
    for coupon in &scene.coupons {
        coupons::held(shop, coupon).await?;
    }
    Ok(())
}

/// Checks everything that holds when all is quiet. Returns what the history came to.
pub(crate) async fn check(shop: &Shop, broker: &Broker, scene: &Scene) -> anyhow::Result<Outcome> {
    let Scene { orders, products, users, coupons } = scene;
    let ids: Vec<Uuid> = orders.iter().map(|order| order.uuid()).collect();
    let ended = orders_end(shop, &ids).await?;
    money(shop, &ids, users).await?;
    stock(shop, products).await?;
    nothing_set_aside(shop).await?;
    told_once(broker, &ended)?;
    bytes_stay(broker)?;
    ranking(shop, broker, products).await?;
    one_trace_each(broker, orders)?;
    coupons::issued(shop, broker, coupons).await?;
    let (coupons_used, coupons_reused) = coupons::used(shop, broker, &ids).await?;
    let confirmed = ended.values().filter(|status| *status == "CONFIRMED").count();
    let mut outcome = Outcome::default();
    outcome.count("orders confirmed", confirmed);
    outcome.count("orders cancelled", ended.len() - confirmed);
    outcome.count("coupons used", coupons_used);
    outcome.count("coupons used again", coupons_reused);
    Ok(outcome)
}

async fn ask(pool: &Pool, sql: &str, params: &[&(dyn ToSql + Sync)]) -> anyhow::Result<Vec<Row>> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, params).await?)
}

/// The events that operators gave up in this service.
async fn given_up(shop: &Shop, service: Service) -> anyhow::Result<BTreeSet<EventId>> {
    let sql = "SELECT event_id FROM dead_letters WHERE state = 'DISCARDED' AND event_id IS NOT NULL";
    Ok(ask(shop.database(service), sql, &[]).await?.iter().map(|row| EventId::new(row.get(0))).collect())
}

/// 8: every saga ends.
async fn orders_end(shop: &Shop, ids: &[Uuid]) -> anyhow::Result<BTreeMap<Uuid, String>> {
    let sql = "SELECT order_id, status FROM orders WHERE order_id = ANY($1)";
    let rows = ask(shop.database(Service::Order), sql, &[&ids]).await?;
    ensure!(rows.len() == ids.len(), "{} orders of {} are there", rows.len(), ids.len());
    let statuses: BTreeMap<Uuid, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (order, status) in &statuses {
        ensure!(matches!(status.as_str(), "CONFIRMED" | "CANCELLED"), "order {order} is {status} when all is quiet");
    }
    Ok(statuses)
}

/// 1: captured − refunded = total of confirmed orders, order by order; the ledger sums to the balance.
async fn money(shop: &Shop, ids: &[Uuid], users: &[UserId]) -> anyhow::Result<()> {
    let sql =
        "SELECT order_id, CASE WHEN status = 'CONFIRMED' THEN total ELSE 0 END FROM orders WHERE order_id = ANY($1)";
    let owed: BTreeMap<Uuid, i64> =
        ask(shop.database(Service::Order), sql, &[&ids]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let kept = ledgers(shop, ids, users).await?;
    for (order, owed) in &owed {
        let kept = kept.get(order).copied().unwrap_or_default();
        ensure!(kept == *owed, "order {order}: {kept} won kept, {owed} owed");
    }
    Ok(())
}

/// Nothing is refunded that wasn't deducted, and each ledger sums to its balance. Returns what is kept of each order.
async fn ledgers(shop: &Shop, ids: &[Uuid], users: &[UserId]) -> anyhow::Result<BTreeMap<Uuid, i64>> {
    let sql = "SELECT order_id, (-sum(delta))::bigint, count(*) FILTER (WHERE kind = 'DEDUCTED'),
                      count(*) FILTER (WHERE kind = 'REFUNDED')
               FROM points_ledger WHERE order_id = ANY($1) GROUP BY order_id";
    let rows = ask(shop.database(Service::Payment), sql, &[&ids]).await?;
    for row in &rows {
        let (order, deducted, refunded): (Uuid, i64, i64) = (row.get(0), row.get(2), row.get(3));
        ensure!(deducted <= 1 && refunded <= deducted, "order {order}: {deducted} × deducted, {refunded} × refunded");
    }
    let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let sql = "SELECT user_id, balance, (SELECT sum(delta)::bigint FROM points_ledger l WHERE l.user_id = a.user_id)
               FROM points_accounts a WHERE user_id = ANY($1)";
    for row in ask(shop.database(Service::Payment), sql, &[&users]).await? {
        let (user, balance, sum): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        ensure!(balance == sum && balance >= 0, "{user}: balance {balance}, ledger {sum}");
    }
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// 2: initial = available + held, and what is held is exactly what confirmed orders hold.
async fn stock(shop: &Shop, products: &[(ProductId, i64)]) -> anyhow::Result<()> {
    for (product, initial) in products {
        let holders = shelf(shop, product, *initial).await?;
        let sql = "SELECT count(*) FROM orders WHERE order_id = ANY($1) AND status <> 'CONFIRMED'";
        let wrong: i64 = ask(shop.database(Service::Order), sql, &[&holders]).await?[0].get(0);
        ensure!(wrong == 0, "{product}: {wrong} orders hold stock and aren't confirmed");
    }
    Ok(())
}

/// Nothing is lost or made up of a product. Returns the orders that hold some.
async fn shelf(shop: &Shop, product: &ProductId, initial: i64) -> anyhow::Result<Vec<Uuid>> {
    let sql = "SELECT stock, (SELECT coalesce(sum(quantity), 0)::bigint FROM stock_lines l
                              WHERE l.product_id = p.product_id AND l.state = 'HELD'),
                      ARRAY(SELECT order_id FROM stock_lines l WHERE l.product_id = p.product_id AND l.state = 'HELD')
               FROM products p WHERE product_id = $1";
    let rows = ask(shop.database(Service::Product), sql, &[&product.as_str()]).await?;
    let (available, held): (i64, i64) = (rows[0].get(0), rows[0].get(1));
    ensure!(available >= 0 && available + held == initial, "{product}: {available} + {held} ≠ {initial}");
    Ok(rows[0].get(2))
}

/// 9: wherever an event lies, and however often, it has the key and the bytes it was published with.
fn bytes_stay(broker: &Broker) -> anyhow::Result<()> {
    let mut published: BTreeMap<EventId, &Record> = BTreeMap::new();
    for record in broker.records() {
        let Some(id) = envelope::peek(record.value.as_deref().unwrap_or_default()).id else { continue };
        let first = *published.entry(id).or_insert(record);
        ensure!(first.key == record.key && first.value == record.value, "{id} on {} has other bytes", record.topic);
    }
    Ok(())
}

/// 7: when all is quiet, no event is left anywhere but applied or discarded.
async fn nothing_set_aside(shop: &Shop) -> anyhow::Result<()> {
    for service in shop.services() {
        let sql = "SELECT (SELECT count(*) FROM dead_letters WHERE state IN ('DEAD', 'PARKED')),
                          (SELECT count(*) FROM waiting_events), (SELECT count(*) FROM waiting_keys),
                          (SELECT count(*) FROM outbox)";
        let rows = ask(shop.database(service), sql, &[]).await?;
        let [dead, waiting, blocked, unsent] = [0, 1, 2, 3].map(|column| rows[0].get::<_, i64>(column));
        ensure!(
            dead + waiting + blocked + unsent == 0,
            "{service}: {dead} dead letters, {waiting} events wait behind {blocked} keys, {unsent} rows in the outbox"
        );
    }
    Ok(())
}

/// 5: each fact is told by one event, however often that event lies on its topic.
fn told_once(broker: &Broker, ended: &BTreeMap<Uuid, String>) -> anyhow::Result<()> {
    let confirmed = ids_by_order::<OrderConfirmed>(broker, |data| data.order_id)?;
    let cancelled = ids_by_order::<OrderCancelled>(broker, |data| data.order_id)?;
    let completed = ids_by_order::<PaymentCompleted>(broker, |data| data.order_id)?;
    let refunded = ids_by_order::<PaymentRefunded>(broker, |data| data.order_id)?;
    for (order, status) in ended {
        let times = |told: &BTreeMap<OrderId, BTreeSet<_>>| told.get(&OrderId::new(*order)).map_or(0, BTreeSet::len);
        let counts = [times(&confirmed), times(&cancelled), times(&completed), times(&refunded)];
        let right = match status.as_str() {
            "CONFIRMED" => counts == [1, 0, 1, 0],
            _ => counts[0] <= 1 && counts[1] == 1 && counts[2] == counts[3] && counts[2] <= 1,
        };
        ensure!(right, "order {order} is {status}; told [confirmed, cancelled, completed, refunded]: {counts:?}");
    }
    Ok(())
}

/// 11: the ranking equals a recomputation from the topics.
async fn ranking(shop: &Shop, broker: &Broker, products: &[(ProductId, i64)]) -> anyhow::Result<()> {
    let mut sold: BTreeMap<ProductId, i64> = BTreeMap::new();
    for event in unique::<PaymentCompleted>(broker)?.values() {
        for line in &event.data.lines {
            *sold.entry(line.product_id.clone()).or_default() += i64::from(line.quantity.get());
        }
    }
    for event in unique::<PaymentRefunded>(broker)?.values() {
        for line in &event.data.lines {
            *sold.entry(line.product_id.clone()).or_default() -= i64::from(line.quantity.get());
        }
    }
    for (product, _) in products {
        let ranked = ranked_quantity(shop, product).await?;
        let sold = sold.get(product).copied().unwrap_or_default();
        ensure!(ranked == sold, "{product}: ranked with {ranked}, sold {sold}");
    }
    Ok(())
}

/// What the ranking counts of a product, over all days.
async fn ranked_quantity(shop: &Shop, product: &ProductId) -> anyhow::Result<i64> {
    let sql = "SELECT coalesce(sum(quantity), 0)::bigint FROM sales WHERE product_id = $1 AND window_kind = 'day'";
    Ok(ask(shop.database(Service::Ranking), sql, &[&product.as_str()]).await?[0].get(0))
}

/// 12: one trace id from the first request to the last compensation.
fn one_trace_each(broker: &Broker, orders: &[OrderId]) -> anyhow::Result<()> {
    let mut traces = BTreeMap::new();
    for event in unique::<OrderCreated>(broker)?.values() {
        traces.insert(event.data.order_id, event.trace.trace_id);
    }
    for order in orders {
        ensure!(traces.contains_key(order), "order {order} was never told");
    }
    for record in broker.records() {
        let value: &[u8] = record.value.as_deref().unwrap_or_default();
        let Some(trace) = envelope::peek(value).trace else { continue };
        let Some(order) = order_of(value) else { continue };
        if let Some(expected) = traces.get(&order) {
            ensure!(trace.trace_id == *expected, "order {order}: {} in another trace", record.topic);
        }
    }
    Ok(())
}

fn order_of(value: &[u8]) -> Option<OrderId> {
    let text = std::str::from_utf8(value).ok()?;
    let (_, after) = text.split_once(r#""orderId":""#)?;
    after.get(..36)?.parse().ok()
}

fn unique<T: EventData>(broker: &Broker) -> anyhow::Result<BTreeMap<Uuid, Event<T>>> {
    let topic: Topic = T::TOPIC;
    let mut events = BTreeMap::new();
    for record in broker.records().filter(|record| record.topic == topic.name()) {
        let event = envelope::decode::<T>(record.value.as_deref().unwrap_or_default())?;
        events.insert(event.id.uuid(), event);
    }
    Ok(events)
}

fn ids_by_order<T: EventData>(
    broker: &Broker,
    order: fn(&T) -> OrderId,
) -> anyhow::Result<BTreeMap<OrderId, BTreeSet<Uuid>>> {
    let mut ids: BTreeMap<OrderId, BTreeSet<Uuid>> = BTreeMap::new();
    for (id, event) in unique::<T>(broker)? {
        ids.entry(order(&event.data)).or_default().insert(id);
    }
    Ok(ids)
}
