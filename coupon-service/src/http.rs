//! Coupons over HTTP: admins put them up, anyone looks at them, customers claim them and see their own.

use actix_web::web::Data;
use service_runtime::Pool;
use utoipa_actix_web::service_config::ServiceConfig;

/// The calls of coupon-service, on its database.
pub fn routes(pool: Pool) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let pool = Data::new(pool);
    move |config| {
        config.app_data(pool.clone());
    }
}
