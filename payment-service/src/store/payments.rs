//! `payments`: one row per order.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use chrono::{DateTime, Utc};
use common_events::{
    CancelReason, OrderId, PaymentRefusal, ReasonCode, UserId, Won,
    events::{OrderCancelled, OrderLine, OrderReserved},
};
use deadpool_postgres::Client;
use messaging::{Event, Tx};
use serde::Serialize;
use service_runtime::{
    database::columns::{Amount, Word},
    museum::{self, Bug},
};
use tokio_postgres::{Error, Row, types::Json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{Payment, Receipt};

/// The payments of an order each, while they are held.
type Payments = BTreeMap<OrderId, Payment>;

/// Makes or locks the payments of orders that are to be paid, sorted.
pub async fn lock_payments_of_reserved(tx: &Tx<'_>, events: &[&Event<OrderReserved>]) -> Result<Payments, Error> {
    let orders: Vec<Uuid> = events.iter().map(|event| event.data.order_id.uuid()).collect();
    let users: Vec<&str> = events.iter().map(|event| event.data.user_id.as_str()).collect();
    let lines: Vec<Json<&[OrderLine]>> = events.iter().map(|event| Json(&*event.data.lines)).collect();
    let discounts: Vec<i64> = events.iter().map(|event| event.data.discount.get()).collect();
    let totals: Vec<i64> = events.iter().map(|event| event.data.total.get()).collect();
    let traces: Vec<String> = events.iter().map(|event| event.trace.trace_id.to_string()).collect();
    let rows = tx
        .query(
            "INSERT INTO payments (order_id, status, user_id, lines, discount, total, trace_id)
             SELECT order_id, 'PENDING', user_id, lines, discount, total, trace_id
             FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bigint[], $5::bigint[], $6::text[])
                 AS asked (order_id, user_id, lines, discount, total, trace_id)
             ORDER BY order_id
             ON CONFLICT DO NOTHING
             RETURNING order_id",
            &[&orders, &users, &lines, &discounts, &totals, &traces],
        )
        .await?;
    with_those_there(tx, &rows, &Payment::Pending, orders).await
}

/// Locks the payments of orders that were cancelled, sorted; of an order that wasn't heard of a
/// tombstone is left.
pub async fn lock_payments_of_cancelled(tx: &Tx<'_>, events: &[&Event<OrderCancelled>]) -> Result<Payments, Error> {
    let orders: Vec<Uuid> = events.iter().map(|event| event.data.order_id.uuid()).collect();
    let users: Vec<&str> = events.iter().map(|event| event.data.user_id.as_str()).collect();
    let traces: Vec<String> = events.iter().map(|event| event.trace.trace_id.to_string()).collect();
    let rows = tx
        .query(
            "INSERT INTO payments (order_id, status, user_id, trace_id)
             SELECT order_id, 'CANCELLED', user_id, trace_id
             FROM unnest($1::uuid[], $2::text[], $3::text[]) AS cancelled (order_id, user_id, trace_id)
             ORDER BY order_id
             ON CONFLICT DO NOTHING
             RETURNING order_id",
            &[&orders, &users, &traces],
        )
        .await?;
    with_those_there(tx, &rows, &Payment::Cancelled, orders).await
}

/// Rows just made are held already; the others are locked by a later statement, which sees what was
/// decided while this transaction waited for them.
async fn with_those_there(tx: &Tx<'_>, made: &[Row], as_made: &Payment, asked: Vec<Uuid>) -> Result<Payments, Error> {
    let mut payments: Payments = made.iter().map(|row| (OrderId::new(row.get(0)), as_made.clone())).collect();
    let there: BTreeSet<Uuid> =
        asked.into_iter().filter(|order_id| !payments.contains_key(&OrderId::new(*order_id))).collect();
    if !there.is_empty() {
        let there: Vec<Uuid> = there.into_iter().collect();
        let rows = tx
            .query(
                "SELECT order_id, status, user_id, lines, discount, total, paid_at FROM payments
                 WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE",
                &[&there],
            )
            .await?;
        payments.extend(rows.iter().map(|row| (OrderId::new(row.get("order_id")), payment(row))));
    }
    Ok(payments)
}

fn payment(row: &Row) -> Payment {
    match row.get("status") {
        "PENDING" => Payment::Pending,
        "CANCELLED" => Payment::Cancelled,
        "FAILED" => Payment::Failed,
        "REFUNDED" if !museum::is_back(Bug::RefundTwice) => Payment::Refunded,
        "COMPLETED" | "REFUNDED" => {
            let Json(lines) = row.get("lines");
            let (discount, total) = (row.get::<_, Amount>("discount").0, row.get::<_, Amount>("total").0);
            let (user_id, paid_at) = (row.get::<_, Word<_>>("user_id").0, row.get("paid_at"));
            Payment::Completed(Receipt { user_id, lines, discount, total, paid_at })
        }
        status => panic!("a check lets no payment be {status}"),
    }
}

/// What was decided on a payment.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    /// Of which order.
    pub order_id: OrderId,
    /// What was to be paid; a tombstone doesn't know yet.
    pub total: Won,
    /// When it was paid, or why it failed.
    pub outcome: Result<DateTime<Utc>, PaymentRefusal>,
}

/// Saves decisions.
pub async fn update_decided(tx: &Tx<'_>, decided: &[Decided]) -> Result<(), Error> {
    if decided.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = decided.iter().map(|one| one.order_id.uuid()).collect();
    let totals: Vec<i64> = decided.iter().map(|one| one.total.get()).collect();
    let paid_at: Vec<Option<DateTime<Utc>>> = decided.iter().map(|one| one.outcome.ok()).collect();
    let reasons: Vec<Option<&str>> =
        decided.iter().map(|one| one.outcome.as_ref().err().map(PaymentRefusal::as_str)).collect();
    tx.execute(
        "UPDATE payments payment
         SET status = CASE WHEN decided.reason IS NULL THEN 'COMPLETED' ELSE 'FAILED' END,
             total = decided.total, paid_at = decided.paid_at, reason = decided.reason
         FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[])
             AS decided (order_id, total, paid_at, reason)
         WHERE payment.order_id = decided.order_id",
        &[&orders, &totals, &paid_at, &reasons],
    )
    .await?;
    Ok(())
}

/// A payment that went back.
#[derive(Debug, Clone, Copy)]
pub struct Refunded {
    /// Of which order.
    pub order_id: OrderId,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: CancelReason,
}

/// Saves refunds.
pub async fn update_refunded(tx: &Tx<'_>, refunded: &[Refunded]) -> Result<(), Error> {
    if refunded.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = refunded.iter().map(|one| one.order_id.uuid()).collect();
    let times: Vec<DateTime<Utc>> = refunded.iter().map(|one| one.at).collect();
    let reasons: Vec<&str> = refunded.iter().map(|one| one.reason.as_str()).collect();
    tx.execute(
        "UPDATE payments payment
         SET status = 'REFUNDED', refunded_at = refunded.at, reason = refunded.reason
         FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS refunded (order_id, at, reason)
         WHERE payment.order_id = refunded.order_id",
        &[&orders, &times, &reasons],
    )
    .await?;
    Ok(())
}

/// How a payment stands that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PaymentStatus {
    /// It is paid.
    Completed,
    /// Nothing was taken.
    Failed,
    /// What was paid went back.
    Refunded,
}

/// A text that is no status of a payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status of a payment")]
pub struct UnknownStatus(String);

impl FromStr for PaymentStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        match text {
            "COMPLETED" => Ok(Self::Completed),
            "FAILED" => Ok(Self::Failed),
            "REFUNDED" => Ok(Self::Refunded),
            _ => Err(UnknownStatus(text.to_owned())),
        }
    }
}

/// A payment as it can be looked at. Tombstones can't: there was no payment.
#[derive(Debug, Clone)]
pub struct PaymentView {
    /// Whose order it is.
    pub user_id: UserId,
    /// How it stands.
    pub status: PaymentStatus,
    /// What was to be paid.
    pub total: Won,
    /// What a coupon took off, where that is known.
    pub discount: Option<Won>,
    /// Why it failed or went back.
    pub reason: Option<ReasonCode>,
    /// The trace of the order.
    pub trace_id: String,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
    /// When it went back.
    pub refunded_at: Option<DateTime<Utc>>,
}

/// The payment of an order.
pub async fn find_payment(client: &Client, order_id: OrderId) -> Result<Option<PaymentView>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT user_id, status, total, discount, reason, trace_id, paid_at, refunded_at FROM payments
             WHERE order_id = $1 AND status IN ('COMPLETED', 'FAILED', 'REFUNDED')",
        )
        .await?;
    let row = client.query_opt(&statement, &[&order_id.uuid()]).await?;
    Ok(row.map(|row| PaymentView {
        user_id: row.get::<_, Word<_>>("user_id").0,
        status: row.get::<_, Word<_>>("status").0,
        total: row.get::<_, Amount>("total").0,
        discount: row.get::<_, Option<Amount>>("discount").map(|Amount(discount)| discount),
        reason: row.get::<_, Option<Word<_>>>("reason").map(|Word(reason)| reason),
        trace_id: row.get("trace_id"),
        paid_at: row.get("paid_at"),
        refunded_at: row.get("refunded_at"),
    }))
}
