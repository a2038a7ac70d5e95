//! `coupons`: what can be claimed, in which epoch, and how many were issued.

use std::collections::{BTreeMap, BTreeSet};

use common_events::{CouponId, events::Discount};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::database::columns::Word;
use tokio_postgres::{Error, Row, types::Json};

use crate::domain::{Coupon, Reward};

macro_rules! select_coupons {
    ($which:literal) => {
        concat!(
            "SELECT coupon_id, name, mode, quantity, discount, rewards, opens_at, closes_at, valid_until,
                    epoch, issued, created_at
             FROM coupons ",
            $which
        )
    };
}

/// Puts a coupon up. False when its id is taken.
pub async fn insert_coupon(tx: &Tx<'_>, coupon: &Coupon) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO coupons (coupon_id, name, mode, quantity, discount, rewards, opens_at, closes_at, valid_until,
                                  epoch, issued, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT DO NOTHING",
            &[
                &coupon.coupon_id.as_str(),
                &coupon.name,
                &coupon.mode.as_str(),
                &coupon.quantity,
                &Json(&coupon.discount),
                &Json(&coupon.rewards),
                &coupon.opens_at,
                &coupon.closes_at,
                &coupon.valid_until,
                &coupon.epoch,
                &coupon.issued,
                &coupon.created_at,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// A coupon, or which one can't be read, and why.
pub type Readable = Result<Coupon, (CouponId, Error)>;

/// The coupons by id, from the one behind `after` on, at most so many.
pub async fn list_coupons(client: &Client, after: Option<&CouponId>, at_most: i64) -> Result<Vec<Readable>, Error> {
    // The empty text comes before every id.
    let after = after.map_or("", CouponId::as_str);
    let statement = client.prepare_cached(select_coupons!("WHERE coupon_id > $1 ORDER BY coupon_id LIMIT $2")).await?;
    client.query(&statement, &[&after, &at_most]).await?.iter().map(readable).collect()
}

/// Those of these coupons that exist.
pub async fn find_coupons(client: &Client, coupon_ids: &BTreeSet<CouponId>) -> Result<Vec<Readable>, Error> {
    let ids: Vec<&str> = coupon_ids.iter().map(CouponId::as_str).collect();
    let statement = client.prepare_cached(select_coupons!("WHERE coupon_id = ANY($1) ORDER BY coupon_id")).await?;
    client.query(&statement, &[&ids]).await?.iter().map(readable).collect()
}

/// The coupon; `None` when there is none.
pub async fn find_coupon(client: &Client, coupon_id: &CouponId) -> Result<Option<Coupon>, Error> {
    let statement = client.prepare_cached(select_coupons!("WHERE coupon_id = $1")).await?;
    client.query_opt(&statement, &[&coupon_id.as_str()]).await?.as_ref().map(coupon).transpose()
}

/// Locks those of these coupons that exist: nobody issues any of them, or raises its epoch, meanwhile.
pub async fn lock_coupons(
    tx: &Tx<'_>,
    coupon_ids: impl IntoIterator<Item = &CouponId>,
) -> Result<BTreeMap<CouponId, Coupon>, Error> {
    let ids: BTreeSet<&str> = coupon_ids.into_iter().map(CouponId::as_str).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let lock = select_coupons!("WHERE coupon_id = ANY($1) ORDER BY coupon_id FOR NO KEY UPDATE");
    let rows = tx.query(lock, &[&ids]).await?;
    rows.iter().map(|row| coupon(row).map(|coupon| (coupon.coupon_id.clone(), coupon))).collect()
}

/// Ends the coupon's epoch: what was admitted in it and isn't issued yet will be turned away. Returns
/// the new one; `None` when there is no such coupon. The row stays locked, so that what is read after
/// this in the same transaction is all that the old epoch will ever have issued.
pub async fn update_epoch(tx: &Tx<'_>, coupon_id: &CouponId) -> Result<Option<i64>, Error> {
    let raise = "UPDATE coupons SET epoch = epoch + 1 WHERE coupon_id = $1 RETURNING epoch";
    tx.query_opt(raise, &[&coupon_id.as_str()]).await?.map(|row| row.try_get(0)).transpose()
}

fn readable(row: &Row) -> Result<Readable, Error> {
    match coupon(row) {
        Ok(coupon) => Ok(Ok(coupon)),
        Err(error) => Ok(Err((row.try_get::<_, Word<_>>("coupon_id")?.0, error))),
    }
}

fn coupon(row: &Row) -> Result<Coupon, Error> {
    Ok(Coupon {
        coupon_id: row.try_get::<_, Word<_>>("coupon_id")?.0,
        name: row.try_get("name")?,
        mode: row.try_get::<_, Word<_>>("mode")?.0,
        quantity: row.try_get("quantity")?,
        discount: row.try_get::<_, Json<Discount>>("discount")?.0,
        rewards: row.try_get::<_, Json<Vec<Reward>>>("rewards")?.0,
        opens_at: row.try_get("opens_at")?,
        closes_at: row.try_get("closes_at")?,
        valid_until: row.try_get("valid_until")?,
        epoch: row.try_get("epoch")?,
        issued: row.try_get("issued")?,
        created_at: row.try_get("created_at")?,
    })
}
