//! `issued_coupons` and `unused_admissions`: what became of admissions. The statement that issues is the
//! third line of defence, whatever the gate let in and the issuer believes.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use common_events::{ClaimRefusal, CouponId, EventId, IssuedCouponId, OrderId, UserId, events::Discount};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::database::columns::Word;
use tokio_postgres::{Error, Row, types::Json};
use uuid::Uuid;

use crate::domain::{IssuedCoupon, Outcome, Settled};

/// A query for whole issued coupons, which [`issued_coupon`] reads.
macro_rules! select_issued {
    ($($from:tt)+) => {
        concat!(
            "SELECT held.issued_coupon_id, held.coupon_id, held.user_id, held.rank, held.request_id, held.discount,
                    held.valid_until, held.issued_at ",
            $($from)+
        )
    };
}

/// Issues what it may of these coupons, in their order, and counts it, in one statement: never more than
/// there are left, one per user, each rank once. Returns which were issued. The coupons are locked.
pub async fn insert_issued(tx: &Tx<'_>, asked: &[IssuedCoupon]) -> Result<BTreeSet<IssuedCouponId>, Error> {
    if asked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<Uuid> = asked.iter().map(|coupon| coupon.issued_coupon_id.uuid()).collect();
    let coupons: Vec<&str> = asked.iter().map(|coupon| coupon.coupon_id.as_str()).collect();
    let users: Vec<&str> = asked.iter().map(|coupon| coupon.user_id.as_str()).collect();
    let ranks: Vec<Option<i64>> = asked.iter().map(|coupon| coupon.rank).collect();
    let requests: Vec<Uuid> = asked.iter().map(|coupon| coupon.request_id.uuid()).collect();
    let discounts: Vec<Json<&Discount>> = asked.iter().map(|coupon| Json(&coupon.discount)).collect();
    let times: Vec<DateTime<Utc>> = asked.iter().map(|coupon| coupon.issued_at).collect();
    let sql = "WITH asked AS (
             SELECT issued_coupon_id, coupon_id, user_id, rank, request_id, discount, issued_at, position,
                    row_number() OVER (PARTITION BY coupon_id ORDER BY position) AS nth
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::uuid[], $6::jsonb[], $7::timestamptz[])
                  WITH ORDINALITY
                  AS asked (issued_coupon_id, coupon_id, user_id, rank, request_id, discount, issued_at, position)
         ), inserted AS (
             INSERT INTO issued_coupons
                 (issued_coupon_id, coupon_id, user_id, rank, request_id, discount, valid_until, issued_at)
             SELECT asked.issued_coupon_id, asked.coupon_id, asked.user_id, asked.rank, asked.request_id,
                    asked.discount, coupons.valid_until, asked.issued_at
             FROM asked JOIN coupons USING (coupon_id)
             WHERE asked.nth <= coupons.quantity - coupons.issued
               AND (asked.rank IS NULL OR asked.rank <= coupons.quantity)
             ORDER BY asked.position
             ON CONFLICT DO NOTHING
             RETURNING coupon_id, issued_coupon_id
         ), counted AS (
             UPDATE coupons SET issued = issued + counts.inserted
             FROM (SELECT coupon_id, count(*) AS inserted FROM inserted GROUP BY coupon_id) AS counts
             WHERE coupons.coupon_id = counts.coupon_id
         )
         SELECT issued_coupon_id FROM inserted";
    let rows = tx.query(sql, &[&ids, &coupons, &users, &ranks, &requests, &discounts, &times]).await?;
    rows.iter().map(|row| row.try_get(0).map(IssuedCouponId::new)).collect()
}

/// Who asks, for which coupon, under which rank.
pub type Asker<'a> = (&'a CouponId, &'a UserId, Option<i64>);

/// What these askers hold of the coupons they ask for, and what others hold under the ranks they ask with.
pub async fn list_held(tx: &Tx<'_>, askers: &[Asker<'_>]) -> Result<Vec<IssuedCoupon>, Error> {
    if askers.is_empty() {
        return Ok(Vec::new());
    }
    let coupons: Vec<&str> = askers.iter().map(|(coupon, _, _)| coupon.as_str()).collect();
    let users: Vec<&str> = askers.iter().map(|(_, user, _)| user.as_str()).collect();
    let ranks: Vec<Option<i64>> = askers.iter().map(|(_, _, rank)| *rank).collect();
    let held = select_issued!(
        "FROM unnest($1::text[], $2::text[]) AS asker (coupon_id, user_id)
         JOIN issued_coupons held ON held.user_id = asker.user_id AND held.coupon_id = asker.coupon_id
         UNION ALL ",
        select_issued!(
            "FROM unnest($1::text[], $3::bigint[]) AS asker (coupon_id, rank)
             JOIN issued_coupons held ON held.coupon_id = asker.coupon_id AND held.rank = asker.rank"
        )
    );
    tx.query(held, &[&coupons, &users, &ranks]).await?.iter().map(issued_coupon).collect()
}

/// Everybody who holds this coupon: what a gate is rebuilt from. Read it in the transaction that raised
/// the epoch, and nobody of an older epoch comes after.
pub async fn list_holders(tx: &Tx<'_>, coupon_id: &CouponId) -> Result<Vec<(UserId, Option<i64>)>, Error> {
    let holders = "SELECT user_id, rank FROM issued_coupons WHERE coupon_id = $1";
    let rows = tx.query(holders, &[&coupon_id.as_str()]).await?;
    rows.iter().map(|row| Ok((row.try_get::<_, Word<_>>(0)?.0, row.try_get(1)?))).collect()
}

/// Notes admissions of which no coupon came, and how they ended. One that is noted already stays as it is.
pub async fn insert_unused(tx: &Tx<'_>, settled: &[Settled]) -> Result<(), Error> {
    let unused: Vec<(&Settled, Unused)> =
        settled.iter().filter_map(|one| Unused::of(one.outcome).map(|unused| (one, unused))).collect();
    if unused.is_empty() {
        return Ok(());
    }
    let requests: Vec<Uuid> = unused.iter().map(|(one, _)| one.request_id.uuid()).collect();
    let coupons: Vec<&str> = unused.iter().map(|(one, _)| one.coupon_id.as_str()).collect();
    let users: Vec<&str> = unused.iter().map(|(one, _)| one.user_id.as_str()).collect();
    let ranks: Vec<Option<i64>> = unused.iter().map(|(one, _)| one.rank).collect();
    let epochs: Vec<i64> = unused.iter().map(|(one, _)| one.epoch).collect();
    let outcomes: Vec<&str> = unused.iter().map(|(_, unused)| unused.outcome).collect();
    let reasons: Vec<Option<&str>> =
        unused.iter().map(|(_, unused)| unused.reason.as_ref().map(ClaimRefusal::as_str)).collect();
    let held: Vec<Option<i64>> = unused.iter().map(|(_, unused)| unused.held_rank).collect();
    tx.execute(
        "INSERT INTO unused_admissions
             (request_id, coupon_id, user_id, rank, epoch, outcome, reason, held_rank, decided_at)
         SELECT request_id, coupon_id, user_id, rank, epoch, outcome, reason, held_rank, $9
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bigint[])
              AS unused (request_id, coupon_id, user_id, rank, epoch, outcome, reason, held_rank)
         ORDER BY request_id
         ON CONFLICT DO NOTHING",
        &[&requests, &coupons, &users, &ranks, &epochs, &outcomes, &reasons, &held, &tx.now()],
    )
    .await?;
    Ok(())
}

/// An outcome without a coupon, as its columns.
struct Unused {
    outcome: &'static str,
    reason: Option<ClaimRefusal>,
    held_rank: Option<i64>,
}

impl Unused {
    const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Issued => None,
            Outcome::Rejected(reason) => Some(Self { outcome: "REJECTED", reason: Some(reason), held_rank: None }),
            Outcome::RankTaken => {
                Some(Self { outcome: "RANK_TAKEN", reason: Some(ClaimRefusal::SoldOut), held_rank: None })
            }
            Outcome::AlreadyHeld { rank } => Some(Self { outcome: "ALREADY_HELD", reason: None, held_rank: rank }),
        }
    }
}

/// Admissions without a coupon that the gate hasn't taken back yet, the oldest first, at most so many.
pub async fn list_unreleased(client: &Client, coupon_id: &CouponId, at_most: i64) -> Result<Vec<Settled>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT request_id, coupon_id, user_id, rank, epoch, outcome, reason, held_rank FROM unused_admissions
             WHERE coupon_id = $1 AND released_at IS NULL ORDER BY decided_at LIMIT $2",
        )
        .await?;
    client.query(&statement, &[&coupon_id.as_str(), &at_most]).await?.iter().map(settled).collect()
}

/// How these admissions ended, by their requests: those of which no coupon came. Others are issued
/// ([`list_issued`]), or not decided yet.
pub async fn list_unused(client: &Client, requests: &[EventId]) -> Result<Vec<Settled>, Error> {
    let requests: Vec<Uuid> = requests.iter().map(|request| request.uuid()).collect();
    let statement = client
        .prepare_cached(
            "SELECT request_id, coupon_id, user_id, rank, epoch, outcome, reason, held_rank FROM unused_admissions
             WHERE request_id = ANY($1)",
        )
        .await?;
    client.query(&statement, &[&requests]).await?.iter().map(settled).collect()
}

/// What these users hold of a coupon.
pub async fn list_issued(client: &Client, coupon_id: &CouponId, users: &[UserId]) -> Result<Vec<IssuedCoupon>, Error> {
    let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let statement = client
        .prepare_cached(select_issued!("FROM issued_coupons held WHERE user_id = ANY($2) AND coupon_id = $1"))
        .await?;
    client.query(&statement, &[&coupon_id.as_str(), &users]).await?.iter().map(issued_coupon).collect()
}

/// Notes that the gate took these admissions back, or has nothing to take back.
pub async fn update_released(client: &Client, requests: &[EventId]) -> Result<(), Error> {
    let requests: Vec<Uuid> = requests.iter().map(|request| request.uuid()).collect();
    let statement = client
        .prepare_cached(
            "UPDATE unused_admissions SET released_at = now() WHERE request_id = ANY($1) AND released_at IS NULL",
        )
        .await?;
    client.execute(&statement, &[&requests]).await?;
    Ok(())
}

/// Why the user's last admission came to nothing, if it did; what he holds is [`list_issued`]'s.
pub async fn find_rejection(
    client: &Client,
    coupon_id: &CouponId,
    user_id: &UserId,
) -> Result<Option<ClaimRefusal>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT reason FROM unused_admissions
             WHERE user_id = $1 AND coupon_id = $2 AND reason IS NOT NULL
             ORDER BY decided_at DESC LIMIT 1",
        )
        .await?;
    let row = client.query_opt(&statement, &[&user_id.as_str(), &coupon_id.as_str()]).await?;
    row.map(|row| Ok(row.try_get::<_, Word<_>>(0)?.0)).transpose()
}

/// A coupon as its holder sees it.
#[derive(Debug, Clone)]
pub struct MyCoupon {
    /// What he holds.
    pub coupon: IssuedCoupon,
    /// The order that uses it.
    pub order_id: Option<OrderId>,
    /// Since when.
    pub used_at: Option<DateTime<Utc>>,
}

/// What a user holds, the newest first, those issued before `before`. His few are read before they are
/// sorted: by the order of the list it would be all users'.
pub async fn list_of_user(
    client: &Client,
    user_id: &UserId,
    before: Option<IssuedCouponId>,
    at_most: i64,
) -> Result<Vec<MyCoupon>, Error> {
    let statement = client
        .prepare_cached(
            "WITH held AS MATERIALIZED (
                 SELECT issued_coupon_id, coupon_id, user_id, rank, request_id, discount, valid_until, issued_at, order_id,
                        used_at
                 FROM issued_coupons WHERE user_id = $1
             )
             SELECT issued_coupon_id, coupon_id, user_id, rank, request_id, discount, valid_until, issued_at, order_id,
                    used_at
             FROM held WHERE $2::uuid IS NULL OR issued_coupon_id < $2
             ORDER BY issued_coupon_id DESC LIMIT $3",
        )
        .await?;
    let rows = client.query(&statement, &[&user_id.as_str(), &before.map(IssuedCouponId::uuid), &at_most]).await?;
    let mine = |row: &Row| {
        let order_id: Option<Uuid> = row.try_get("order_id")?;
        let used_at = row.try_get("used_at")?;
        Ok(MyCoupon { coupon: issued_coupon(row)?, order_id: order_id.map(OrderId::new), used_at })
    };
    rows.iter().map(mine).collect()
}

fn issued_coupon(row: &Row) -> Result<IssuedCoupon, Error> {
    Ok(IssuedCoupon {
        issued_coupon_id: IssuedCouponId::new(row.try_get("issued_coupon_id")?),
        coupon_id: row.try_get::<_, Word<_>>("coupon_id")?.0,
        user_id: row.try_get::<_, Word<_>>("user_id")?.0,
        rank: row.try_get("rank")?,
        request_id: EventId::new(row.try_get("request_id")?),
        discount: row.try_get::<_, Json<Discount>>("discount")?.0,
        valid_until: row.try_get("valid_until")?,
        issued_at: row.try_get("issued_at")?,
    })
}

fn settled(row: &Row) -> Result<Settled, Error> {
    let reason: Option<Word<ClaimRefusal>> = row.try_get("reason")?;
    let outcome = match (row.try_get::<_, &str>("outcome")?, reason) {
        ("RANK_TAKEN", _) => Outcome::RankTaken,
        (_, Some(Word(reason))) => Outcome::Rejected(reason),
        (_, None) => Outcome::AlreadyHeld { rank: row.try_get("held_rank")? },
    };
    Ok(Settled {
        request_id: EventId::new(row.try_get("request_id")?),
        coupon_id: row.try_get::<_, Word<_>>("coupon_id")?.0,
        user_id: row.try_get::<_, Word<_>>("user_id")?.0,
        rank: row.try_get("rank")?,
        epoch: row.try_get("epoch")?,
        outcome,
    })
}
