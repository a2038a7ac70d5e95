//! `GET /points`: the caller's balance, now or as it was.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use messaging::Tx;
use serde::Deserialize;
use service_runtime::{
    Caller, Pool, Problem,
    http::{Json, Query},
};
use utoipa::IntoParams;

use super::{Points, check_time};
use crate::store::{self, BalanceThen};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// When; default now. The answer for a time never changes.
    at: Option<DateTime<Utc>>,
}

/// The caller's balance.
///
/// Up to the user's last entry the ledger is settled, and only read. For a later time the account is held
/// meanwhile, so that nobody is about to append an entry of an earlier time than was answered for. Nothing
/// stays of it, hence the rollback. It is held FOR UPDATE though it is only read: PostgreSQL lets a FOR SHARE
/// pass whoever waits FOR UPDATE, so a customer who asks all the time would keep his payments waiting.
#[utoipa::path(
    tag = "points",
    security(("identity" = [])),
    params(Wanted),
    responses(
        (status = 200, description = "A balance; 0 for a user without an account", body = Points),
        (status = 422, description = "`time-in-future`: `at` lies there; `invalid-field`: it lies beyond the years 0000 \
            to 9999"),
    ),
)]
#[get("/points")]
pub(super) async fn get_points(
    caller: Caller,
    Query(wanted): Query<Wanted>,
    pool: Data<Pool>,
) -> Result<Json<Points>, Problem> {
    check_time("at", wanted.at)?;
    let mut client = pool.get().await?;
    if let Some(at) = wanted.at
        && let Some(balance) = store::find_settled_balance(&client, &caller.user_id, at).await?
    {
        return Ok(Json(Points { user_id: caller.user_id, balance, at }));
    }
    let tx = Tx::begin(&mut client).await?;
    store::lock_or_insert_account(&tx, &caller.user_id).await?;
    let BalanceThen { balance, at, now } = store::find_balance(&tx, &caller.user_id, wanted.at).await?;
    tx.rollback().await?;
    if at > now {
        return Err(
            Problem::unprocessable("time-in-future", "Nobody knows yet what the balance will be then.").of_field("at")
        );
    }
    Ok(Json(Points { user_id: caller.user_id, balance, at: wanted.at.unwrap_or(at) }))
}
