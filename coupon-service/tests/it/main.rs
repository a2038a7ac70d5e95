//! coupon-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP. `gate` is its admission
//! side, on real Redis and Kafka.

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
