//! The tables of ranking-service. Rows are locked in one order everywhere: sales by their key, then names
//! by product.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common_events::{ProductId, events::ProductCatalog};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::database::Migrations;
use tokio_postgres::Error;

use crate::domain::{By, Sums, Window};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Sales, and what products are called.
pub const MIGRATIONS: Migrations =
    Migrations { table: "ranking_service_schema_history", runner: embedded::migrations::runner };

/// A product with what was sold of it, in the order of a ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// The product.
    pub product_id: String,
    /// What it is called.
    pub name: String,
    /// Pieces.
    pub quantity: i64,
    /// Won, before any discount.
    pub amount: i64,
}

/// Adds sums to what is counted already.
pub async fn update_sales(tx: &Tx<'_>, sums: &Sums) -> Result<(), Error> {
    let windows: Vec<&str> = sums.iter().map(|(key, _)| key.window.as_str()).collect();
    let starts: Vec<DateTime<Utc>> = sums.iter().map(|(key, _)| key.from).collect();
    let products: Vec<&str> = sums.iter().map(|(key, _)| key.product_id.as_str()).collect();
    let quantities: Vec<i64> = sums.iter().map(|(_, sold)| sold.quantity).collect();
    let amounts: Vec<i64> = sums.iter().map(|(_, sold)| sold.amount).collect();
    tx.execute(
        "INSERT INTO sales (window_kind, window_start, product_id, quantity, amount)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[])
             AS sold (window_kind, window_start, product_id, quantity, amount)
         ORDER BY window_kind COLLATE \"C\", window_start, product_id COLLATE \"C\"
         ON CONFLICT (window_kind, window_start, product_id) DO UPDATE
         SET quantity = sales.quantity + excluded.quantity, amount = sales.amount + excluded.amount",
        &[&windows, &starts, &products, &quantities, &amounts],
    )
    .await?;
    Ok(())
}

/// Remembers what order lines call their products, where nothing else is known.
pub async fn insert_names(tx: &Tx<'_>, names: &BTreeMap<&ProductId, &str>) -> Result<(), Error> {
    let products: Vec<&str> = names.keys().map(|product_id| product_id.as_str()).collect();
    let names: Vec<&str> = names.values().copied().collect();
    tx.execute(
        "INSERT INTO product_names (product_id, name, version)
         SELECT product_id, name, 0 FROM unnest($1::text[], $2::text[]) AS said (product_id, name)
         ORDER BY product_id COLLATE \"C\"
         ON CONFLICT DO NOTHING",
        &[&products, &names],
    )
    .await?;
    Ok(())
}

/// Remembers what the catalogue calls products, unless a later version is known. At most one per product.
pub async fn update_names(tx: &Tx<'_>, latest: impl Iterator<Item = &ProductCatalog> + Clone) -> Result<(), Error> {
    let products: Vec<&str> = latest.clone().map(|said| said.product_id.as_str()).collect();
    let names: Vec<&str> = latest.clone().map(|said| said.name.as_str()).collect();
    let versions: Vec<i64> = latest.map(|said| said.version).collect();
    tx.execute(
        "INSERT INTO product_names (product_id, name, version)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS said (product_id, name, version)
         ORDER BY product_id COLLATE \"C\"
         ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, version = excluded.version
         WHERE product_names.version < excluded.version",
        &[&products, &names, &versions],
    )
    .await?;
    Ok(())
}

/// The products of a window that were sold most, first the best. Products of which everything was refunded
/// are left out, and so is for the moment a product with more refunds than payments heard.
pub async fn list_best(
    client: &Client,
    window: Window,
    from: DateTime<Utc>,
    by: By,
    at_most: i64,
) -> Result<Vec<Ranked>, Error> {
    let sql = match by {
        By::Quantity => {
            "SELECT product_id, name, quantity, amount FROM sales JOIN product_names USING (product_id)
             WHERE window_kind = $1 AND window_start = $2 AND quantity > 0
             ORDER BY quantity DESC, product_id LIMIT $3"
        }
        By::Amount => {
            "SELECT product_id, name, quantity, amount FROM sales JOIN product_names USING (product_id)
             WHERE window_kind = $1 AND window_start = $2 AND quantity > 0
             ORDER BY amount DESC, product_id LIMIT $3"
        }
    };
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&window.as_str(), &from, &at_most]).await?;
    let ranked = |row: &tokio_postgres::Row| Ranked {
        product_id: row.get(0),
        name: row.get(1),
        quantity: row.get(2),
        amount: row.get(3),
    };
    Ok(rows.iter().map(ranked).collect())
}
