//! What the rebuild holds against each other: ledger, topics, and the accounts beside the ledger.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common_events::UserId;
use messaging::Tx;
use service_runtime::database::columns::Word;
use tokio_postgres::Error;

use crate::domain::Balances;

/// What the ledger's entries of one user add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerBalance {
    /// In won.
    pub balance: i64,
    /// How many entries.
    pub entries: u64,
}

/// Lifts two limits of the pool's connections until `tx` ends. What adds up whole tables takes longer than
/// a request may, and reads them from end to end.
async fn lift_limits(tx: &Tx<'_>) -> Result<(), Error> {
    tx.query_one("SELECT set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true)", &[])
        .await?;
    Ok(())
}

/// What the ledger adds up to, per user, for the entries that the topics ought to have: those up to
/// the user's latest on the topics, and those up to `since`, when the comparison began. So entries
/// that are made while it runs don't disturb it.
pub async fn list_ledger_balances(
    tx: &Tx<'_>,
    topics: &Balances,
    since: DateTime<Utc>,
) -> Result<BTreeMap<UserId, LedgerBalance>, Error> {
    lift_limits(tx).await?;
    let users: Vec<&str> = topics.users().keys().map(UserId::as_str).collect();
    let latest: Vec<DateTime<Utc>> = topics.users().values().map(|user| user.last_at).collect();
    let rows = tx
        .query(
            "SELECT ledger.user_id, sum(ledger.delta)::bigint AS balance, count(*) AS entries
             FROM points_ledger ledger
             LEFT JOIN unnest($1::text[], $2::timestamptz[]) AS topics (user_id, last_at) USING (user_id)
             WHERE ledger.at <= greatest(topics.last_at, $3)
             GROUP BY ledger.user_id",
            &[&users, &latest, &since],
        )
        .await?;
    let of = |row| LedgerBalance {
        balance: tokio_postgres::Row::get(row, "balance"),
        entries: row.get::<_, i64>("entries").unsigned_abs(),
    };
    Ok(rows.iter().map(|row| (row.get::<_, Word<_>>("user_id").0, of(row))).collect())
}

/// An account that isn't what its ledger adds up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub user_id: UserId,
    /// What the account says; `None` when there is none.
    pub account: Option<i64>,
    /// What the ledger adds up to.
    pub ledger: i64,
}

/// What the accounts should be, by the ledger; to be grouped by user.
const LEDGER: &str = "SELECT user_id, sum(delta)::bigint AS balance, max(at) AS last_at,
        coalesce(sum(delta) FILTER (WHERE kind = 'CHARGED'), 0)::bigint AS charged
    FROM points_ledger";

/// The accounts that differ from the ledger. One statement, so one moment.
pub async fn list_drifts(tx: &Tx<'_>) -> Result<Vec<Drift>, Error> {
    lift_limits(tx).await?;
    let rows = tx
        .query(
            &format!(
                "SELECT coalesce(account.user_id, ledger.user_id) AS user_id, account.balance AS account,
                        coalesce(ledger.balance, 0) AS ledger
                 FROM points_accounts account
                 FULL JOIN ({LEDGER} GROUP BY user_id) ledger ON ledger.user_id = account.user_id
                 WHERE account.balance IS DISTINCT FROM coalesce(ledger.balance, 0)
                    OR account.charged IS DISTINCT FROM coalesce(ledger.charged, 0)
                    OR account.last_at IS DISTINCT FROM ledger.last_at
                 ORDER BY 1"
            ),
            &[],
        )
        .await?;
    let of = |row: &tokio_postgres::Row| Drift {
        user_id: row.get::<_, Word<_>>("user_id").0,
        account: row.get("account"),
        ledger: row.get("ledger"),
    };
    Ok(rows.iter().map(of).collect())
}

/// Makes these accounts what their ledger adds up to, while they are held; accounts that are missing
/// are made. The users come sorted.
pub async fn update_drifted_accounts(tx: &Tx<'_>, drifts: &[Drift]) -> Result<(), Error> {
    let users: Vec<&str> = drifts.iter().map(|drift| drift.user_id.as_str()).collect();
    tx.execute("INSERT INTO points_accounts (user_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", &[&users])
        .await?;
    tx.execute("SELECT FROM points_accounts WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE", &[&users]).await?;
    // Only now: the accounts aren't waited for without a limit.
    lift_limits(tx).await?;
    tx.execute(
        &format!(
            "UPDATE points_accounts account
             SET balance = coalesce(ledger.balance, 0), charged = coalesce(ledger.charged, 0),
                 last_at = ledger.last_at
             FROM unnest($1::text[]) AS drifted (user_id)
             LEFT JOIN ({LEDGER} WHERE user_id = ANY ($1) GROUP BY user_id) ledger USING (user_id)
             WHERE account.user_id = drifted.user_id"
        ),
        &[&users],
    )
    .await?;
    Ok(())
}
