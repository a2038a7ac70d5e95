//! `points_ledger`: appended to, and read.

use chrono::{DateTime, Utc};
use common_events::{OrderId, TraceId, UserId, Won};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::database::columns::{Amount, Word};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::domain::Entry;

/// An entry, and the trace in which it was made.
#[derive(Debug, Clone)]
pub struct Posting {
    /// The entry.
    pub entry: Entry,
    /// The trace of the request that began it.
    pub trace_id: TraceId,
}

/// Appends entries, and brings the accounts along in the same statement: there is no entry without
/// its projection. The accounts must be held.
pub async fn insert_entries(tx: &Tx<'_>, postings: &[Posting]) -> Result<(), Error> {
    if postings.is_empty() {
        return Ok(());
    }
    let entries = || postings.iter().map(|posting| &posting.entry);
    let ids: Vec<Uuid> = entries().map(|entry| entry.entry_id.uuid()).collect();
    let users: Vec<&str> = entries().map(|entry| entry.user_id.as_str()).collect();
    let times: Vec<DateTime<Utc>> = entries().map(|entry| entry.at).collect();
    let kinds: Vec<&str> = entries().map(|entry| entry.kind.as_str()).collect();
    let deltas: Vec<i64> = entries().map(Entry::delta).collect();
    let balances: Vec<i64> = entries().map(|entry| entry.balance.get()).collect();
    let orders: Vec<Option<Uuid>> = entries().map(|entry| entry.kind.order_id().map(OrderId::uuid)).collect();
    let reasons: Vec<Option<String>> = entries().map(|entry| Some(entry.kind.reason()?.to_string())).collect();
    let traces: Vec<String> = postings.iter().map(|posting| posting.trace_id.to_string()).collect();
    tx.execute(
        "WITH entry AS (
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[],
                                  $7::uuid[], $8::text[], $9::text[])
                 AS entry (entry_id, user_id, at, kind, delta, balance, order_id, reason, trace_id)
         ), appended AS (
             INSERT INTO points_ledger (entry_id, user_id, at, kind, delta, balance, order_id, reason, trace_id)
             SELECT entry_id, user_id, at, kind, delta, balance, order_id, reason, trace_id FROM entry
         )
         UPDATE points_accounts account
         SET balance = latest.balance, last_at = latest.at, charged = account.charged + latest.charged
         FROM (
             SELECT user_id, max(at) AS at, (array_agg(balance ORDER BY at DESC))[1] AS balance,
                    coalesce(sum(delta) FILTER (WHERE kind = 'CHARGED'), 0)::bigint AS charged
             FROM entry GROUP BY user_id
         ) latest
         WHERE account.user_id = latest.user_id",
        &[&ids, &users, &times, &kinds, &deltas, &balances, &orders, &reasons, &traces],
    )
    .await?;
    Ok(())
}

/// A balance, and when it was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceThen {
    /// The balance at `at`.
    pub balance: Won,
    /// The time that was asked for, or else the latest that can't change any more.
    pub at: DateTime<Utc>,
    /// The latest time that could have been asked for.
    pub now: DateTime<Utc>,
}

/// The balance at a time that the user's last entry isn't before; `None` when it is, or when there is no
/// entry. Every entry is later than the one before it, so this answer can't change, and nothing is locked.
pub async fn find_settled_balance(client: &Client, id: &UserId, at: DateTime<Utc>) -> Result<Option<Won>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT coalesce(
                 (SELECT balance FROM points_ledger WHERE user_id = $1 AND at <= $2 ORDER BY at DESC LIMIT 1), 0
             ) AS balance
             FROM points_accounts WHERE user_id = $1 AND last_at >= $2",
        )
        .await?;
    let row = client.query_opt(&statement, &[&id.as_str(), &at]).await?;
    Ok(row.map(|row| row.get::<_, Amount>("balance").0))
}

/// The balance at a time, or now. While the account is held by [`super::lock_or_insert_account`], which
/// was an earlier statement, the clock read here is earlier than any entry still to come: so a balance
/// up to one microsecond before it never changes.
pub async fn find_balance(tx: &Tx<'_>, user_id: &UserId, at: Option<DateTime<Utc>>) -> Result<BalanceThen, Error> {
    let row = tx
        .query_one(
            "SELECT moment.now, coalesce($2, moment.now) AS at, coalesce(
                 (SELECT balance FROM points_ledger WHERE user_id = $1 AND at <= coalesce($2, moment.now)
                  ORDER BY at DESC LIMIT 1), 0) AS balance
             FROM (
                 SELECT greatest(
                     clock_timestamp() - interval '1 microsecond',
                     (SELECT last_at FROM points_accounts WHERE user_id = $1)
                 ) AS now OFFSET 0
             ) AS moment",
            &[&user_id.as_str(), &at],
        )
        .await?;
    Ok(BalanceThen { balance: row.get::<_, Amount>("balance").0, at: row.get("at"), now: row.get("now") })
}

/// A user's entries of `from` ≤ time < `to`, and before the position of the page before; latest first.
pub async fn list_history(
    client: &Client,
    id: &UserId,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    rows_at_most: i64,
) -> Result<Vec<Posting>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT entry_id, at, kind, abs(delta) AS amount, balance, order_id, reason, trace_id FROM points_ledger
             WHERE user_id = $1 AND at >= coalesce($2::timestamptz, '-infinity') AND at < coalesce($3::timestamptz, 'infinity')
             ORDER BY at DESC LIMIT $4",
        )
        .await?;
    let rows = client.query(&statement, &[&id.as_str(), &from, &to, &rows_at_most]).await?;
    Ok(rows.iter().map(|row| posting(row, id)).collect())
}

fn posting(row: &Row, user_id: &UserId) -> Posting {
    let order_id: Option<Uuid> = row.get("order_id");
    let reason: Option<Word<_>> = row.get("reason");
    let entry = Entry {
        entry_id: common_events::ids::EntryId::new(row.get("entry_id")),
        user_id: user_id.clone(),
        kind: crate::domain::EntryKind::of(
            row.get("kind"),
            order_id.map(OrderId::new),
            reason.map(|Word(reason)| reason),
        )
        .expect("a check holds kind, order and reason together"),
        amount: row.get::<_, Amount>("amount").0,
        balance: row.get::<_, Amount>("balance").0,
        at: row.get("at"),
    };
    Posting { entry, trace_id: row.get::<_, Word<_>>("trace_id").0 }
}
