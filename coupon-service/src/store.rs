//! The tables of coupon-service. Rows are locked in one order everywhere: orders, then coupons, then
//! issued coupons, each sorted by its id.
//!
//! | file | tables |
//! |---|---|
//! | `coupons` | `coupons`: definitions, epochs, counts |
//! | `claims` | `issued_coupons`, `unused_admissions`: what became of admissions |
//! | `orders` | `coupon_orders`, and what is in use of `issued_coupons` |

mod claims;
mod coupons;
mod orders;

use service_runtime::database::Migrations;

pub use claims::{
    Asker, MyCoupon, find_rejection, insert_issued, insert_unused, list_held, list_holders, list_issued, list_of_user,
    list_unreleased, list_unused, update_released,
};
pub use coupons::{Readable, find_coupon, find_coupons, insert_coupon, list_coupons, lock_coupons, update_epoch};
pub use orders::{lock_issued, lock_orders, update_wallet};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Coupons, who holds them, and which order uses them.
pub const MIGRATIONS: Migrations =
    Migrations { table: "coupon_service_schema_history", runner: embedded::migrations::runner };
