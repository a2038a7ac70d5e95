//! `PUT /points/accounts/{userId}`: an admin closes, opens or limits an account.

use actix_web::{
    put,
    web::{Data, Path},
};
use common_events::{UserId, Won};
use serde::{Deserialize, Serialize};
use service_runtime::{Admin, Pool, Problem, http::Json};
use utoipa::ToSchema;

use crate::{
    domain::{Account, AccountState},
    store,
};

/// How an account is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangeAccount {
    /// A closed account takes no charges and pays nothing; refunds still arrive.
    state: AccountState,
    /// What one payment may take at most, in won; default no limit.
    limit_per_payment: Option<PaymentLimit>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
struct PaymentLimit(Won);

#[derive(Debug, thiserror::Error)]
#[error("a limit is a whole number of won from 1 to {}", Won::MAX.get())]
struct NoLimit;

impl TryFrom<i64> for PaymentLimit {
    type Error = NoLimit;

    fn try_from(limit: i64) -> Result<Self, NoLimit> {
        Won::try_from(limit).ok().filter(|limit| *limit > Won::ZERO).map(Self).ok_or(NoLimit)
    }
}

/// An account, as an admin sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account)]
struct AccountAnswer {
    user_id: UserId,
    state: AccountState,
    /// In won; none when there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_per_payment: Option<Won>,
    /// In won.
    balance: Won,
}

impl From<Account> for AccountAnswer {
    fn from(Account { user_id, state, limit_per_payment, balance, .. }: Account) -> Self {
        Self { user_id, state, limit_per_payment, balance }
    }
}

/// Closes, opens or limits an account; makes it where the user has none yet.
#[utoipa::path(
    tag = "points",
    security(("identity" = ["admin"])),
    params(("userId" = inline(UserId), Path)),
    request_body = ChangeAccount,
    responses((status = 200, body = AccountAnswer)),
)]
#[put("/points/accounts/{userId}")]
pub(super) async fn change_account(
    Admin(admin): Admin,
    user_id: Path<UserId>,
    Json(change): Json<ChangeAccount>,
    pool: Data<Pool>,
) -> Result<Json<AccountAnswer>, Problem> {
    let limit = change.limit_per_payment.map(|limit| limit.0);
    let client = pool.get().await?;
    let account = store::upsert_account(&client, &user_id, change.state, limit).await?;
    tracing::info!(
        admin = admin.user_id.as_str(),
        user = account.user_id.as_str(),
        state = account.state.as_str(),
        limit_per_payment = account.limit_per_payment.map(Won::get),
        "an account was changed"
    );
    Ok(Json(account.into()))
}

#[cfg(test)]
mod tests {
    use test_support::assert_bounds;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_bounds::<PaymentLimit>();
    }
}
