//! coupon-service's admission side on real Redis, Kafka and PostgreSQL. Tests that flush, stop or restart a
//! part start one of their own.

mod admitting;
mod background;
mod dead_letters;
mod http;
mod losing_redis;
mod own_parts;
mod publishing;
mod ranks;
mod reconciling;
mod sold_out;
mod station;
mod two_commands;
