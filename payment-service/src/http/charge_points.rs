//! `POST /points/charge`: the caller pays points in.

use actix_web::{HttpResponse, http::StatusCode, post, web::Data};
use common_events::{TraceParent, UserId, Won};
use messaging::{Cause, Tx};
use serde::{Deserialize, Serialize};
use service_runtime::{
    Customer, Pool, Problem,
    http::{Json, RequestTrace},
    idempotency::{self, Attempt, IdempotencyKey, StoredAnswer},
};
use utoipa::ToSchema;

use super::Points;
use crate::{
    domain::ChargeRefused,
    events::{new_entry_id, publish_entry},
    store::{self, Posting},
};

const CALL: &str = "POST /points/charge";
/// What one charge may pay in at most, in won: this service's own bound, so that a slip of the keyboard
/// doesn't use up what an account may ever be charged with.
const MAX_CHARGE: i64 = 1_000_000_000_000;

/// Points to be paid in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChargePoints {
    /// In won.
    amount: ChargeAmount,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
struct ChargeAmount(Won);

#[derive(Debug, thiserror::Error)]
#[error("a charge is a whole number of won from 1 to {MAX_CHARGE}")]
struct NoCharge;

impl TryFrom<i64> for ChargeAmount {
    type Error = NoCharge;

    fn try_from(amount: i64) -> Result<Self, NoCharge> {
        let amount = Some(amount).filter(|amount| (1..=MAX_CHARGE).contains(amount)).ok_or(NoCharge)?;
        Won::try_from(amount).map(Self).map_err(|_| NoCharge)
    }
}

impl From<ChargeAmount> for i64 {
    fn from(amount: ChargeAmount) -> Self {
        amount.0.get()
    }
}

/// Pays points in.
#[utoipa::path(
    tag = "points",
    security(("identity" = ["customer"])),
    params((
        "Idempotency-Key" = inline(IdempotencyKey), Header,
        description = "Sent again with the same key, the points are paid in once",
    )),
    request_body = ChargePoints,
    responses(
        (status = 200, body = Points),
        (status = 409, description = "`account-closed`: the account takes no charges"),
        (status = 422, description = "`balance-overflow`: more than an account can hold"),
    ),
)]
#[post("/points/charge")]
pub(super) async fn charge_points(
    Customer(caller): Customer,
    key: IdempotencyKey,
    Json(request): Json<ChargePoints>,
    RequestTrace(trace): RequestTrace,
    pool: Data<Pool>,
) -> Result<HttpResponse, Problem> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let answer = charge_once(&tx, caller.user_id, &key, &request, trace).await;
    Ok(tx.end(answer).await?.into())
}

async fn charge_once(
    tx: &Tx<'_>,
    user_id: UserId,
    key: &IdempotencyKey,
    request: &ChargePoints,
    trace: TraceParent,
) -> Result<StoredAnswer, Problem> {
    let pending = match idempotency::begin(tx.transaction(), &user_id, CALL, key, request).await? {
        Attempt::First(pending) => pending,
        Attempt::Repeat(answer) => return Ok(answer),
    };
    let mut accounts = store::lock_or_insert_account(tx, &user_id).await?;
    let stamp = accounts.stamp(new_entry_id(tx));
    let entry = accounts.of(&user_id).charge(request.amount.0, stamp)?;
    publish_entry(tx, Cause::trace(trace), &entry).map_err(Problem::internal)?;
    let points = Points { user_id, balance: entry.balance, at: entry.at };
    store::insert_entries(tx, &[Posting { entry, trace_id: trace.trace_id }]).await?;
    Ok(pending.remember(tx.transaction(), StatusCode::OK, None, &points).await?)
}

impl From<ChargeRefused> for Problem {
    fn from(refused: ChargeRefused) -> Self {
        let detail = format!("{refused}.");
        match refused {
            ChargeRefused::AccountClosed => Self::conflict("account-closed", detail),
            ChargeRefused::Overflow => Self::unprocessable("balance-overflow", detail).of_field("amount"),
        }
    }
}

#[cfg(test)]
mod tests {
    use test_support::assert_bounds;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_bounds::<ChargeAmount>();
    }
}
