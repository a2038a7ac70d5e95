//! Coupons over HTTP: admins put them up, anyone looks at them, customers see their own.

mod create_coupon;
mod get_coupon;
mod issue_coupon;
mod list_my_coupons;
mod my_claim;
mod view;

use actix_web::web::Data;
use service_runtime::{Pool, http::Routes};

use crate::admission::Admission;

/// The calls of coupon-service, on its database and its gate.
pub fn routes(pool: Pool, admission: Admission) -> Routes {
    let (pool, admission) = (Data::new(pool), Data::new(admission));
    Routes::new(move |config| {
        config
            .app_data(pool.clone())
            .app_data(admission.clone())
            // First of all: routes are tried in turn, and this is the one with the rush.
            .service(issue_coupon::issue_coupon)
            .service(create_coupon::create_coupon)
            .service(get_coupon::get_coupon)
            .service(my_claim::my_claim)
            .service(list_my_coupons::list_my_coupons);
    })
}
