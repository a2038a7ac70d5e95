//! product-service on a real PostgreSQL: its handlers through the seam, its calls over HTTP.

mod background;
mod catalogue;
mod dead_letters;
mod document;
mod shop;
mod stock;
