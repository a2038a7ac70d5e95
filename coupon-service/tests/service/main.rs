//! coupon-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP.

mod counter;
mod coupons;
mod defences;
mod desk;
mod discarding;
mod issuing;
mod rivals;
mod using;
