//! The tables of orders and of the catalogue's read copy.
//!
//! An order is one row, and everything about it is decided on that row once it is locked. PostgreSQL
//! gives a row that had to be waited for as its last owner left it, so `lock_` reads and locks in one
//! statement. Rows are always locked in the order of their ids.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{
    CancelReason, IssuedCouponId, OrderId, UserId,
    events::{OrderLine, ProductCatalog},
};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::{
    database::{
        Migrations,
        columns::{Amount, Word},
    },
    museum::{self, Bug},
};
use tokio_postgres::{Error, Row, types::Json};
use uuid::Uuid;

use crate::domain::{Coupon, Hold, Line, Order, Payment, Product, Status};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Orders, and the read copy of the catalogue.
pub const MIGRATIONS: Migrations =
    Migrations { table: "order_service_migrations", runner: embedded::migrations::runner };

/// A query for whole orders, which [`order`] reads.
macro_rules! select_orders {
    ($which:literal) => {
        concat!(
            "SELECT order_id, user_id, status, order_version, lines, stock, issued_coupon_id, coupon, payment,
                    subtotal, discount, reason, note, traceparent, created_at, updated_at
             FROM orders ",
            $which
        )
    };
}

/// Stores a new order.
pub async fn insert_order(tx: &Tx<'_>, order: &Order) -> Result<(), Error> {
    let lines: Vec<&OrderLine> = order.lines.iter().map(|line| &line.placed).collect();
    tx.execute(
        "INSERT INTO orders (order_id, user_id, status, order_version, lines, stock, issued_coupon_id, coupon,
                             subtotal, discount, traceparent, created_at, updated_at, open_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, now())",
        &[
            &order.id.uuid(),
            &order.user_id.as_str(),
            &order.status.as_str(),
            &order.version,
            &Json(lines),
            &Json(stock(order)),
            &order.coupon.map(|coupon| coupon.id.uuid()),
            &order.coupon.map(|coupon| coupon.hold.as_str()),
            &order.subtotal.get(),
            &order.discount.get(),
            &order.trace.to_string(),
            &order.created_at,
        ],
    )
    .await?;
    Ok(())
}

/// Stores what can change of these orders.
pub async fn update_orders(tx: &Tx<'_>, orders: impl IntoIterator<Item = &Order>) -> Result<(), Error> {
    let orders: Vec<&Order> = orders.into_iter().collect();
    let column = |text: fn(&Order) -> Option<&str>| orders.iter().map(|order| text(order)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id.uuid()).collect();
    let versions: Vec<i32> = orders.iter().map(|order| order.version).collect();
    let stocks: Vec<_> = orders.iter().map(|order| Json(stock(order))).collect();
    let discounts: Vec<i64> = orders.iter().map(|order| order.discount.get()).collect();
    let updated: Vec<DateTime<Utc>> = orders.iter().map(|order| order.updated_at).collect();
    let open: Vec<bool> = orders.iter().map(|order| order.status.is_open()).collect();
    tx.execute(
        "UPDATE orders
         SET status = now.status, order_version = now.order_version, stock = now.stock, coupon = now.coupon,
             payment = now.payment, discount = now.discount, reason = now.reason, note = now.note,
             updated_at = now.updated_at, open_since = CASE WHEN now.open THEN orders.open_since END
         FROM unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[], $5::text[], $6::text[], $7::bigint[],
                     $8::text[], $9::text[], $10::timestamptz[], $11::boolean[])
              AS now (order_id, status, order_version, stock, coupon, payment, discount,
                      reason, note, updated_at, open)
         WHERE orders.order_id = now.order_id",
        &[
            &ids,
            &column(|order| Some(order.status.as_str())),
            &versions,
            &stocks,
            &column(|order| order.coupon.map(|coupon| coupon.hold.as_str())),
            &column(|order| order.payment.map(Payment::as_str)),
            &discounts,
            &column(|order| order.reason.as_ref().map(CancelReason::as_str)),
            &column(|order| order.note.as_deref()),
            &updated,
            &open,
        ],
    )
    .await?;
    Ok(())
}

/// Locks one order.
pub async fn lock_order(tx: &Tx<'_>, id: OrderId) -> Result<Option<Order>, Error> {
    let row = tx.query_opt(select_orders!("WHERE order_id = $1 FOR UPDATE"), &[&id.uuid()]).await?;
    row.as_ref().map(order).transpose()
}

/// Locks those of these orders that exist.
pub async fn lock_orders(tx: &Tx<'_>, ids: &BTreeSet<OrderId>) -> Result<BTreeMap<OrderId, Order>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let found = if museum::is_back(Bug::JoinLosesUpdate) {
        select_orders!("WHERE order_id = ANY($1)")
    } else {
        select_orders!("WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE")
    };
    let rows = tx.query(found, &[&ids]).await?;
    rows.iter().map(|row| order(row).map(|order| (order.id, order))).collect()
}

/// Orders that are open for too long.
pub struct Overdue {
    /// Those that can be read.
    pub orders: Vec<Order>,
    /// The others, each with why.
    pub unreadable: Vec<(OrderId, Error)>,
}

/// Locks the orders that are open for `open_for` or longer, by the database's clock: the oldest, at most
/// so many. Those that somebody else works on are left out.
pub async fn lock_overdue_orders(tx: &Tx<'_>, open_for: TimeDelta, at_most: i64) -> Result<Overdue, Error> {
    let overdue = select_orders!(
        "WHERE open_since <= now() - $1::bigint * interval '1 millisecond'
         ORDER BY open_since LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let mut found = Overdue { orders: Vec::new(), unreadable: Vec::new() };
    for row in tx.query(overdue, &[&open_for.num_milliseconds(), &at_most]).await? {
        match order(&row) {
            Ok(order) => found.orders.push(order),
            Err(error) => found.unreadable.push((OrderId::new(row.try_get("order_id")?), error)),
        }
    }
    Ok(found)
}

/// Counts from now on how long these orders are open, so that they aren't the oldest any more.
pub async fn postpone_orders(tx: &Tx<'_>, ids: impl IntoIterator<Item = OrderId>) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.into_iter().map(OrderId::uuid).collect();
    tx.execute("UPDATE orders SET open_since = now() WHERE order_id = ANY($1)", &[&ids]).await?;
    Ok(())
}

/// Reads one order.
pub async fn find_order(client: &Client, id: OrderId) -> Result<Option<Order>, Error> {
    let statement = client.prepare_cached(select_orders!("WHERE order_id = $1")).await?;
    client.query_opt(&statement, &[&id.uuid()]).await?.as_ref().map(order).transpose()
}

/// A customer's orders, newest first, those placed before `before`.
pub async fn list_orders(
    client: &Client,
    user_id: &UserId,
    status: Option<Status>,
    before: Option<OrderId>,
    at_most: i64,
) -> Result<Vec<Order>, Error> {
    let newest_first = select_orders!(
        "WHERE user_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::uuid IS NULL OR order_id < $3)
         ORDER BY order_id DESC LIMIT $4"
    );
    let statement = client.prepare_cached(newest_first).await?;
    let (status, before) = (status.map(Status::as_str), before.map(OrderId::uuid));
    let rows = client.query(&statement, &[&user_id.as_str(), &status, &before, &at_most]).await?;
    rows.iter().map(order).collect()
}

/// Which of these orders are confirmed or cancelled.
pub async fn list_ended(client: &Client, ids: &[OrderId]) -> Result<Vec<OrderId>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let ended = "SELECT order_id FROM orders WHERE order_id = ANY($1) AND open_since IS NULL";
    let statement = client.prepare_cached(ended).await?;
    client.query(&statement, &[&ids]).await?.iter().map(|row| row.try_get(0).map(OrderId::new)).collect()
}

/// Those of these products that are known here.
pub async fn list_products(tx: &Tx<'_>, ids: &[&str]) -> Result<Vec<Product>, Error> {
    let rows = tx.query("SELECT product_id, name, price FROM products WHERE product_id = ANY($1)", &[&ids]).await?;
    let product = |row: &Row| {
        let id = row.try_get::<_, Word<_>>(0)?.0;
        Ok(Product { id, name: row.try_get(1)?, price: row.try_get::<_, Amount>(2)?.0 })
    };
    rows.iter().map(product).collect()
}

/// Keeps of each product the highest version that was ever seen.
pub async fn update_products<'a>(
    tx: &Tx<'_>,
    products: impl IntoIterator<Item = &'a ProductCatalog>,
) -> Result<(), Error> {
    let mut newest: BTreeMap<&str, &ProductCatalog> = BTreeMap::new();
    for product in products {
        let known = newest.entry(product.product_id.as_str()).or_insert(product);
        if known.version < product.version {
            *known = product;
        }
    }
    let ids: Vec<&str> = newest.keys().copied().collect();
    let names: Vec<&str> = newest.values().map(|product| product.name.as_str()).collect();
    let prices: Vec<i64> = newest.values().map(|product| product.price.get()).collect();
    let versions: Vec<i64> = newest.values().map(|product| product.version).collect();
    tx.execute(
        "INSERT INTO products (product_id, name, price, version)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
         ON CONFLICT (product_id) DO UPDATE
         SET name = excluded.name, price = excluded.price, version = excluded.version
         WHERE products.version < excluded.version",
        &[&ids, &names, &prices, &versions],
    )
    .await?;
    Ok(())
}

fn stock(order: &Order) -> Vec<Hold> {
    order.lines.iter().map(|line| line.stock).collect()
}

fn order(row: &Row) -> Result<Order, Error> {
    let lines: Json<Vec<OrderLine>> = row.try_get("lines")?;
    let stock: Json<Vec<Hold>> = row.try_get("stock")?;
    let coupon_id: Option<Uuid> = row.try_get("issued_coupon_id")?;
    let coupon_hold: Option<Word<Hold>> = row.try_get("coupon")?;
    Ok(Order {
        id: OrderId::new(row.try_get("order_id")?),
        user_id: row.try_get::<_, Word<_>>("user_id")?.0,
        status: row.try_get::<_, Word<_>>("status")?.0,
        version: row.try_get("order_version")?,
        lines: lines.0.into_iter().zip(stock.0).map(|(placed, stock)| Line { placed, stock }).collect(),
        coupon: coupon_id.zip(coupon_hold).map(|(id, hold)| Coupon { id: IssuedCouponId::new(id), hold: hold.0 }),
        payment: row.try_get::<_, Option<Word<_>>>("payment")?.map(|payment| payment.0),
        subtotal: row.try_get::<_, Amount>("subtotal")?.0,
        discount: row.try_get::<_, Amount>("discount")?.0,
        reason: row.try_get::<_, Option<Word<_>>>("reason")?.map(|reason| reason.0),
        note: row.try_get("note")?,
        trace: row.try_get::<_, Word<_>>("traceparent")?.0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
