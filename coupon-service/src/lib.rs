//! Coupons: first come, first served, exactly as many as there are; and their use in an order.
//!
//! Three lines of defence stand between a rush and one coupon too many: the gate admits (Redis), the
//! issuer checks (this service's own consumer), PostgreSQL decides. Only a row of `issued_coupons` is a
//! coupon that somebody holds.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `POST /coupons` | puts a coupon up for claiming | – | – |
//! | `POST /coupons/{id}/issue` | the gate admits, or not | `coupon-issue-requested` | `coupon-issue-rejected` |
//! | `coupon-issue-requested` | issues the coupon, or turns away | `coupon-issued` / `coupon-issue-rejected` | – |
//! | `order-created` with a coupon | holds the coupon for the order, or refuses | `coupon-used` / `coupon-use-failed` | `order-cancelled` |
//! | `order-cancelled` with a coupon | the coupon can be used again; of an order not heard of yet keeps a tombstone | `coupon-restored` | – |
//!
//! The law it keeps, whatever comes when, twice, or late: never more than `quantity` issued, one per
//! user, each rank once; a coupon is used by one order at a time.

pub mod admission;
pub mod domain;
pub mod events;
pub mod gate;
pub mod http;
pub mod store;
