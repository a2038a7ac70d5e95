//! coupon-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP. `gate` is its admission
//! side, on real Redis and Kafka.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod counter;
mod coupons;
mod defences;
mod desk;
mod discarding;
mod document;
mod gate;
mod issuing;
mod rivals;
mod using;
