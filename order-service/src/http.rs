//! The endpoints of orders (docs/contract.md §3). A customer sees his own orders; anybody else's is a 404,
//! but for operators.

mod cancel_order;
mod get_order;
mod list_orders;
mod place_order;
mod view;

use actix_web::web::Data;
use service_runtime::{Pool, Problem, http::Routes};

use crate::{orders::NotDone, waiting::Waiting};

/// Every route of this service.
pub fn routes(pool: Pool, waiting: Waiting) -> Routes {
    let (pool, waiting) = (Data::new(pool), Data::new(waiting));
    Routes::new(move |config| {
        config
            .app_data(pool.clone())
            .app_data(waiting.clone())
            .service(place_order::place_order)
            .service(list_orders::list_orders)
            .service(get_order::get_order)
            .service(cancel_order::cancel_order);
    })
}

impl From<NotDone> for Problem {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::Refused(refusal) => refusal.into(),
            NotDone::Database(error) => error.into(),
            NotDone::Unpublished(failure) => Self::internal(failure),
        }
    }
}
