//! Points and payments over HTTP. Customers see their own; what changes something is one transaction
//! with what it publishes.

mod change_account;
mod charge_points;
mod get_payment;
mod get_points;
mod list_history;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use common_events::{UserId, Won};
use serde::Serialize;
use service_runtime::{Pool, http::Routes};
use utoipa::ToSchema;

/// The calls of payment-service, on its database.
pub fn routes(pool: Pool) -> Routes {
    let pool = Data::new(pool);
    Routes::new(move |config| {
        config
            .app_data(pool.clone())
            .service(charge_points::charge_points)
            .service(get_points::get_points)
            .service(list_history::list_history)
            .service(get_payment::get_payment)
            .service(change_account::change_account);
    })
}

/// A balance, and when it was so.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Points {
    #[schema(value_type = String)]
    user_id: UserId,
    /// In won.
    #[schema(value_type = i64, minimum = 0)]
    balance: Won,
    /// To the microsecond.
    at: DateTime<Utc>,
}

/// The times that can be asked about: PostgreSQL knows fewer than RFC 3339 parsers do, and no entry is
/// older than this ledger.
fn askable(time: DateTime<Utc>) -> DateTime<Utc> {
    const BEFORE_ALL: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const AFTER_ALL: DateTime<Utc> = DateTime::from_timestamp_nanos(i64::MAX);
    time.clamp(BEFORE_ALL, AFTER_ALL)
}
