//! Points and payments over HTTP. Customers see their own; what changes something is one transaction
//! with what it publishes.

mod change_account;
mod charge_points;
mod get_payment;
mod get_points;
mod list_history;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use common_events::{
    UserId, Won,
    time::{YEARS, is_writable},
};
use serde::Serialize;
use service_runtime::{Pool, Problem, http::Routes};
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
    user_id: UserId,
    /// In won.
    balance: Won,
    /// To the microsecond.
    at: DateTime<Utc>,
}

/// 422 for a time that the ledger can't be asked about.
fn check_time(parameter: &str, time: Option<DateTime<Utc>>) -> Result<(), Problem> {
    if time.as_ref().is_none_or(is_writable) {
        return Ok(());
    }
    let detail = format!("A time in the years {:04} to {} is expected.", YEARS.start(), YEARS.end());
    Err(Problem::invalid_field(parameter, detail))
}
