//! `coupon_orders`, and which order uses which of `issued_coupons`.

use std::collections::{BTreeMap, BTreeSet};

use common_events::{CouponId, CouponRefusal, IssuedCouponId, OrderId, UserId, Won, events::Discount};
use messaging::Tx;
use service_runtime::database::columns::{Amount, Word};
use tokio_postgres::{Error, Row, types::Json};
use uuid::Uuid;

use crate::domain::{Changes, CouponInWallet, CouponOrder, Use};

/// Creates or locks the row of each order. An order that is created here is this transaction's own:
/// nobody can have decided anything about it.
pub async fn lock_orders(
    tx: &Tx<'_>,
    order_ids: impl IntoIterator<Item = OrderId>,
) -> Result<BTreeMap<OrderId, CouponOrder>, Error> {
    let ids: BTreeSet<OrderId> = order_ids.into_iter().collect();
    let mut orders: BTreeMap<OrderId, CouponOrder> = ids.iter().map(|id| (*id, CouponOrder::default())).collect();
    let created = insert_orders(tx, &ids).await?;
    let known: Vec<Uuid> = ids.difference(&created).map(|id| id.uuid()).collect();
    if known.is_empty() {
        return Ok(orders);
    }
    let rows = tx
        .query(
            "SELECT order_id, cancelled, state, issued_coupon_id, discount, reason FROM coupon_orders
             WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE",
            &[&known],
        )
        .await?;
    for row in rows {
        orders.insert(OrderId::new(row.try_get("order_id")?), order(&row)?);
    }
    Ok(orders)
}

async fn insert_orders(tx: &Tx<'_>, ids: &BTreeSet<OrderId>) -> Result<BTreeSet<OrderId>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = tx
        .query(
            "INSERT INTO coupon_orders (order_id, cancelled)
             SELECT id, false FROM unnest($1::uuid[]) AS id ORDER BY id
             ON CONFLICT DO NOTHING RETURNING order_id",
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(|row| OrderId::new(row.get(0))).collect())
}

/// Locks issued coupons. Those that don't exist are left out.
pub async fn lock_issued(
    tx: &Tx<'_>,
    ids: impl IntoIterator<Item = IssuedCouponId>,
) -> Result<BTreeMap<IssuedCouponId, CouponInWallet>, Error> {
    let ids: BTreeSet<Uuid> = ids.into_iter().map(IssuedCouponId::uuid).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let rows = tx
        .query(
            "SELECT issued_coupon_id, coupon_id, user_id, discount, valid_until, order_id FROM issued_coupons
             WHERE issued_coupon_id = ANY($1) ORDER BY issued_coupon_id FOR NO KEY UPDATE",
            &[&ids],
        )
        .await?;
    let coupon = |row: &Row| {
        let coupon = CouponInWallet {
            coupon_id: row.try_get::<_, Word<CouponId>>("coupon_id")?.0,
            user_id: row.try_get::<_, Word<UserId>>("user_id")?.0,
            discount: row.try_get::<_, Json<Discount>>("discount")?.0,
            valid_until: row.try_get("valid_until")?,
            order_id: row.try_get::<_, Option<Uuid>>("order_id")?.map(OrderId::new),
        };
        Ok((IssuedCouponId::new(row.try_get("issued_coupon_id")?), coupon))
    };
    rows.iter().map(coupon).collect()
}

/// Writes locked orders and issued coupons as they are now.
pub async fn update_wallet(tx: &Tx<'_>, changes: &Changes) -> Result<(), Error> {
    update_orders(tx, &changes.orders).await?;
    if changes.coupons.is_empty() {
        return Ok(());
    }
    let coupons: Vec<Uuid> = changes.coupons.keys().map(|id| id.uuid()).collect();
    let orders: Vec<Option<Uuid>> = changes.coupons.values().map(|order| order.map(OrderId::uuid)).collect();
    tx.execute(
        "UPDATE issued_coupons held
         SET order_id = now.order_id,
             used_at = CASE WHEN now.order_id IS NULL THEN NULL
                            WHEN now.order_id = held.order_id THEN held.used_at
                            ELSE $3 END
         FROM unnest($1::uuid[], $2::uuid[]) AS now (issued_coupon_id, order_id)
         WHERE held.issued_coupon_id = now.issued_coupon_id",
        &[&coupons, &orders, &tx.now()],
    )
    .await?;
    Ok(())
}

async fn update_orders(tx: &Tx<'_>, orders: &BTreeMap<OrderId, CouponOrder>) -> Result<(), Error> {
    if orders.is_empty() {
        return Ok(());
    }
    let wishes = || orders.values().map(|order| order.wish);
    let ids: Vec<Uuid> = orders.keys().map(|id| id.uuid()).collect();
    let cancelled: Vec<bool> = orders.values().map(|order| order.cancelled).collect();
    let coupons: Vec<Option<Uuid>> = wishes().map(|wish| wish.map(|(coupon, _)| coupon.uuid())).collect();
    let uses: Vec<UseColumns> = wishes().map(|wish| wish.map_or(UseColumns::default(), UseColumns::of)).collect();
    let states: Vec<Option<&str>> = uses.iter().map(|one| one.state).collect();
    let discounts: Vec<Option<i64>> = uses.iter().map(|one| one.discount.map(Won::get)).collect();
    let reasons: Vec<Option<&str>> = uses.iter().map(|one| one.reason.as_ref().map(CouponRefusal::as_str)).collect();
    tx.execute(
        "UPDATE coupon_orders
         SET cancelled = now.cancelled, issued_coupon_id = now.issued_coupon_id, state = now.state,
             discount = now.discount, reason = now.reason
         FROM unnest($1::uuid[], $2::boolean[], $3::uuid[], $4::text[], $5::bigint[], $6::text[])
              AS now (order_id, cancelled, issued_coupon_id, state, discount, reason)
         WHERE coupon_orders.order_id = now.order_id",
        &[&ids, &cancelled, &coupons, &states, &discounts, &reasons],
    )
    .await?;
    Ok(())
}

/// What became of a wish, as its columns.
#[derive(Default)]
struct UseColumns {
    state: Option<&'static str>,
    discount: Option<Won>,
    reason: Option<CouponRefusal>,
}

impl UseColumns {
    const fn of((_, used): (IssuedCouponId, Use)) -> Self {
        match used {
            Use::Used { discount } => Self { state: Some("USED"), discount: Some(discount), reason: None },
            Use::Refused(reason) => Self { state: Some("REFUSED"), discount: None, reason: Some(reason) },
            Use::Restored { discount } => Self { state: Some("RESTORED"), discount: Some(discount), reason: None },
        }
    }
}

fn order(row: &Row) -> Result<CouponOrder, Error> {
    let coupon: Option<Uuid> = row.try_get("issued_coupon_id")?;
    let reason: Option<Word<CouponRefusal>> = row.try_get("reason")?;
    let discount = row.try_get::<_, Option<Amount>>("discount")?.map_or(Won::ZERO, |Amount(discount)| discount);
    let used = match (row.try_get::<_, Option<&str>>("state")?, reason) {
        (None, _) => None,
        (Some(_), Some(Word(reason))) => Some(Use::Refused(reason)),
        (Some("RESTORED"), None) => Some(Use::Restored { discount }),
        (Some(_), None) => Some(Use::Used { discount }),
    };
    Ok(CouponOrder { cancelled: row.try_get("cancelled")?, wish: coupon.map(IssuedCouponId::new).zip(used) })
}
