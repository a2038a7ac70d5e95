//! `points_accounts`: what the ledger adds up to, and what an admin says of an account.

use chrono::{DateTime, Utc};
use common_events::{UserId, Won};
use deadpool_postgres::Client;
use messaging::Tx;
use service_runtime::database::columns::{Amount, Word};
use tokio_postgres::{Error, Row};

use crate::domain::{Account, AccountState, Accounts};

/// Locks the accounts of these users, sorted, and reads the clock once the last of them is held: the
/// outer select is evaluated row by row as the inner one hands out locked rows. Users without an
/// account never charged; nothing has to be held for them, as they can't pay.
pub async fn lock_accounts(tx: &Tx<'_>, user_ids: impl IntoIterator<Item = &UserId>) -> Result<Accounts, Error> {
    let user_ids: Vec<&str> = user_ids.into_iter().map(UserId::as_str).collect();
    if user_ids.is_empty() {
        return Ok(Accounts::new([], tx.now()));
    }
    let rows = tx
        .query(
            "WITH held AS MATERIALIZED (
                 SELECT user_id, balance, charged, state, limit_per_payment, last_at
                 FROM points_accounts WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE
             )
             SELECT user_id, balance, charged, state, limit_per_payment, last_at, clock_timestamp() AS clock FROM held",
            &[&user_ids],
        )
        .await?;
    let clock = rows.iter().map(|row| row.get::<_, DateTime<Utc>>("clock")).max();
    Ok(Accounts::new(rows.iter().map(account), clock.unwrap_or_else(|| tx.now())))
}

/// Locks one user's account; an account that wasn't there is made. Who only asks rolls back, so that
/// nothing of it stays.
pub async fn lock_or_insert_account(tx: &Tx<'_>, user_id: &UserId) -> Result<Accounts, Error> {
    let accounts = lock_accounts(tx, [user_id]).await?;
    if accounts.hold(user_id) {
        return Ok(accounts);
    }
    insert_account(tx, user_id).await?;
    lock_accounts(tx, [user_id]).await
}

async fn insert_account(tx: &Tx<'_>, user_id: &UserId) -> Result<(), Error> {
    tx.execute("INSERT INTO points_accounts (user_id) VALUES ($1) ON CONFLICT DO NOTHING", &[&user_id.as_str()])
        .await?;
    Ok(())
}

/// Sets what an admin decides of an account, and makes it where there is none.
pub async fn upsert_account(
    client: &Client,
    id: &UserId,
    state: AccountState,
    limit_per_payment: Option<Won>,
) -> Result<Account, Error> {
    let statement = client
        .prepare_cached(
            "INSERT INTO points_accounts (user_id, state, limit_per_payment) VALUES ($1, $2, $3)
             ON CONFLICT (user_id)
             DO UPDATE SET state = excluded.state, limit_per_payment = excluded.limit_per_payment
             RETURNING user_id, balance, charged, state, limit_per_payment, last_at",
        )
        .await?;
    let row = client.query_one(&statement, &[&id.as_str(), &state.as_str(), &limit_per_payment.map(Won::get)]).await?;
    Ok(account(&row))
}

fn account(row: &Row) -> Account {
    Account {
        user_id: row.get::<_, Word<_>>("user_id").0,
        balance: row.get::<_, Amount>("balance").0,
        charged: row.get::<_, Amount>("charged").0,
        state: row.get::<_, Word<_>>("state").0,
        limit_per_payment: row.get::<_, Option<Amount>>("limit_per_payment").map(|Amount(limit)| limit),
        last_at: row.get("last_at"),
    }
}
