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

use super::{Points, askable};
use crate::store::{self, BalanceThen};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// When; now when nothing is said. The answer for a time never changes.
    at: Option<DateTime<Utc>>,
}

/// The caller's balance.
///
/// The account is held (shared) while the ledger is read, so that nobody is about to append an entry
/// of an earlier time than was answered for. Nothing stays of it, hence the rollback.
#[utoipa::path(
    tag = "points",
    params(Wanted),
    responses(
        (status = 200, description = "0 for a user without an account", body = Points),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 422, description = "`at` lies in the future", body = Problem),
    )
)]
#[get("/points")]
pub(super) async fn get_points(
    caller: Caller,
    Query(wanted): Query<Wanted>,
    pool: Data<Pool>,
) -> Result<Json<Points>, Problem> {
    let asked = wanted.at.map(askable);
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    store::lock_shared_account(&tx, &caller.user_id).await?;
    let BalanceThen { balance, at, now } = store::find_balance(&tx, &caller.user_id, asked).await?;
    tx.rollback().await?;
    if at > now {
        return Err(
            Problem::unprocessable("time-in-future", "Nobody knows yet what the balance will be then.").of_field("at")
        );
    }
    Ok(Json(Points { user_id: caller.user_id, balance, at: wanted.at.unwrap_or(at) }))
}
