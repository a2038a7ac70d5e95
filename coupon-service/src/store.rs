//! The tables of coupon-service. Rows are locked in one order everywhere: orders, then coupons, then
//! issued coupons, each sorted by its id.
//!
//! | file | tables |
//! |---|---|
//! | `coupons` | `coupons`: definitions, epochs, counts |
//! | `claims` | `issued_coupons`, `unused_admissions`: what became of admissions |
//! | `orders` | `coupon_orders`, and what is in use of `issued_coupons` |

mod columns;
mod coupons;

use service_runtime::database::Migrations;

pub use coupons::{find_coupon, lock_coupons, update_epoch};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Coupons, who holds them, and which order uses them.
pub const MIGRATIONS: Migrations =
    Migrations { table: "coupon_service_schema_history", runner: embedded::migrations::runner };
