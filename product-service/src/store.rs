//! The tables of product-service. Rows are locked in one order everywhere: orders, then products, each
//! sorted by its id.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common_events::{OrderId, ProductId, Quantity, StockRefusal};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::{
    database::{
        Migrations,
        columns::{Amount, Word},
    },
    museum::{self, Bug},
};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::domain::{Line, LineState, Product, StockOrder};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Products, and what is held of them.
pub const MIGRATIONS: Migrations =
    Migrations { table: "product_service_schema_history", runner: embedded::migrations::runner };

/// Creates or locks the row of each order, and only then reads what became of its lines. An order
/// that is created here is this transaction's own: nobody can have decided anything about it.
pub async fn lock_orders(
    tx: &Tx<'_>,
    order_ids: impl Iterator<Item = OrderId>,
) -> Result<BTreeMap<OrderId, StockOrder>, Error> {
    let ids: BTreeSet<OrderId> = order_ids.collect();
    let mut orders: BTreeMap<OrderId, StockOrder> = ids.iter().map(|id| (*id, StockOrder::default())).collect();
    let created = insert_orders(tx, &ids).await?;
    let known: Vec<Uuid> = ids.difference(&created).map(|id| id.uuid()).collect();
    if known.is_empty() {
        return Ok(orders);
    }
    let rows = tx
        .query(
            "SELECT order_id, cancelled FROM stock_orders WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE",
            &[&known],
        )
        .await?;
    for row in rows {
        orders.entry(OrderId::new(row.get(0))).or_default().cancelled = row.get(1);
    }
    let rows = tx
        .query(
            "SELECT order_id, product_id, quantity, state, reason FROM stock_lines WHERE order_id = ANY($1)",
            &[&known],
        )
        .await?;
    for row in rows {
        orders.entry(OrderId::new(row.get(0))).or_default().lines.insert(product_id_of(&row, 1), line_of(&row));
    }
    Ok(orders)
}

async fn insert_orders(tx: &Tx<'_>, ids: &BTreeSet<OrderId>) -> Result<BTreeSet<OrderId>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = tx
        .query(
            "INSERT INTO stock_orders (order_id, cancelled)
             SELECT id, false FROM unnest($1::uuid[]) AS id ORDER BY id
             ON CONFLICT DO NOTHING RETURNING order_id",
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(|row| OrderId::new(row.get(0))).collect())
}

/// Marks orders as cancelled.
pub async fn update_orders(tx: &Tx<'_>, cancelled: &[OrderId]) -> Result<(), Error> {
    if !cancelled.is_empty() {
        let ids: Vec<Uuid> = cancelled.iter().map(|id| id.uuid()).collect();
        let sql = if museum::is_back(Bug::NoTombstone) {
            "UPDATE stock_orders SET cancelled = true
             WHERE order_id = ANY($1) AND EXISTS (SELECT FROM stock_lines l WHERE l.order_id = stock_orders.order_id)"
        } else {
            "UPDATE stock_orders SET cancelled = true WHERE order_id = ANY($1)"
        };
        tx.execute(sql, &[&ids]).await?;
    }
    Ok(())
}

/// Writes lines that were decided.
pub async fn insert_lines(tx: &Tx<'_>, decided: &[(OrderId, ProductId, Line)]) -> Result<(), Error> {
    if decided.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = decided.iter().map(|(order, _, _)| order.uuid()).collect();
    let products: Vec<&str> = decided.iter().map(|(_, product, _)| product.as_str()).collect();
    let quantities: Vec<i32> = decided.iter().map(|(_, _, line)| line.quantity.get()).collect();
    let states: Vec<&str> = decided.iter().map(|(_, _, line)| name_of(line.state)).collect();
    let reasons: Vec<Option<&str>> = decided.iter().map(|(_, _, line)| reason_of(&line.state)).collect();
    tx.execute(
        "INSERT INTO stock_lines (order_id, product_id, quantity, state, reason)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[])",
        &[&orders, &products, &quantities, &states, &reasons],
    )
    .await?;
    Ok(())
}

/// Puts the pieces of held lines back on the shelves of locked products. The lines' own state is the key:
/// what isn't held any more gives nothing, whatever the caller remembers.
pub async fn update_restored(tx: &Tx<'_>, restored: &[(OrderId, ProductId)]) -> Result<(), Error> {
    if restored.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = restored.iter().map(|(order, _)| order.uuid()).collect();
    let products: Vec<&str> = restored.iter().map(|(_, product)| product.as_str()).collect();
    tx.execute(
        "WITH back AS (
             UPDATE stock_lines line SET state = 'RESTORED'
             FROM unnest($1::uuid[], $2::text[]) AS restored (order_id, product_id)
             WHERE line.order_id = restored.order_id AND line.product_id = restored.product_id AND line.state = 'HELD'
             RETURNING line.product_id, line.quantity
         )
         UPDATE products SET stock = stock + per_product.pieces
         FROM (SELECT product_id, sum(quantity) AS pieces FROM back GROUP BY product_id) AS per_product
         WHERE products.product_id = per_product.product_id",
        &[&orders, &products],
    )
    .await?;
    Ok(())
}

/// Locks products; how many pieces of each are for sale. Who doesn't exist is left out.
pub async fn lock_stock<'p>(
    tx: &Tx<'_>,
    product_ids: impl Iterator<Item = &'p ProductId>,
) -> Result<BTreeMap<ProductId, i64>, Error> {
    let ids: Vec<&str> = product_ids.map(ProductId::as_str).collect::<HashSet<_>>().into_iter().collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = tx
        .query(
            "SELECT product_id, stock FROM products WHERE product_id = ANY($1) ORDER BY product_id FOR NO KEY UPDATE",
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(|row| (product_id_of(row, 0), row.get(1))).collect())
}

/// Takes pieces off the shelves of locked products.
pub async fn update_stock(tx: &Tx<'_>, taken: &BTreeMap<ProductId, i64>) -> Result<(), Error> {
    if taken.is_empty() {
        return Ok(());
    }
    let products: Vec<&str> = taken.keys().map(ProductId::as_str).collect();
    let pieces: Vec<i64> = taken.values().copied().collect();
    tx.execute(
        "UPDATE products SET stock = stock - taken.pieces
         FROM unnest($1::text[], $2::bigint[]) AS taken (product_id, pieces)
         WHERE products.product_id = taken.product_id",
        &[&products, &pieces],
    )
    .await?;
    Ok(())
}

/// Puts a product up for sale. False when its id is taken.
pub async fn insert_product(tx: &Tx<'_>, product: &Product) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO products (product_id, name, price, stock, version) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            &[&product.product_id.as_str(), &product.name, &product.price.get(), &product.stock, &product.version],
        )
        .await?;
    Ok(inserted == 1)
}

/// The product, locked; `None` when there is none.
pub async fn lock_product(tx: &Tx<'_>, product_id: &ProductId) -> Result<Option<Product>, Error> {
    let row = tx
        .query_opt(
            "SELECT product_id, name, price, stock, version FROM products WHERE product_id = $1 FOR NO KEY UPDATE",
            &[&product_id.as_str()],
        )
        .await?;
    Ok(row.map(|row| product_of(&row)))
}

/// Writes a locked product.
pub async fn update_product(tx: &Tx<'_>, product: &Product) -> Result<(), Error> {
    tx.execute(
        "UPDATE products SET price = $2, stock = $3, version = $4 WHERE product_id = $1",
        &[&product.product_id.as_str(), &product.price.get(), &product.stock, &product.version],
    )
    .await?;
    Ok(())
}

/// The product; `None` when there is none.
pub async fn find_product(client: &Client, product_id: &ProductId) -> Result<Option<Product>, Error> {
    let statement = client
        .prepare_cached("SELECT product_id, name, price, stock, version FROM products WHERE product_id = $1")
        .await?;
    let row = client.query_opt(&statement, &[&product_id.as_str()]).await?;
    Ok(row.map(|row| product_of(&row)))
}

/// Products by id, from the one behind `after` on, at most so many.
pub async fn list_products(client: &Client, after: Option<&ProductId>, at_most: i64) -> Result<Vec<Product>, Error> {
    // The empty text comes before every id.
    let after = after.map_or("", ProductId::as_str);
    let statement = client
        .prepare_cached(
            "SELECT product_id, name, price, stock, version FROM products WHERE product_id > $1
             ORDER BY product_id LIMIT $2",
        )
        .await?;
    let rows = client.query(&statement, &[&after, &at_most]).await?;
    Ok(rows.iter().map(product_of).collect())
}

fn product_of(row: &Row) -> Product {
    Product {
        product_id: product_id_of(row, 0),
        name: row.get(1),
        price: row.get::<_, Amount>(2).0,
        stock: row.get(3),
        version: row.get(4),
    }
}

fn product_id_of(row: &Row, column: usize) -> ProductId {
    row.get::<_, Word<_>>(column).0
}

/// The line in the columns from 2 on: quantity, state, reason.
fn line_of(row: &Row) -> Line {
    let quantity = Quantity::try_from(i64::from(row.get::<_, i32>(2))).expect("a quantity was checked");
    let state = match row.get::<_, &str>(3) {
        "HELD" => LineState::Held,
        "RESTORED" => LineState::Restored,
        _ => LineState::Refused(row.get::<_, Word<StockRefusal>>(4).0),
    };
    Line { quantity, state }
}

const fn name_of(state: LineState) -> &'static str {
    match state {
        LineState::Held => "HELD",
        LineState::Refused(_) => "REFUSED",
        LineState::Restored => "RESTORED",
    }
}

fn reason_of(state: &LineState) -> Option<&str> {
    match state {
        LineState::Refused(reason) => Some(reason.as_str()),
        LineState::Held | LineState::Restored => None,
    }
}
