//! order-service on real PostgreSQL: its handlers through the seam, its endpoints over HTTP; and its domain alone.

mod background;
mod cancel_order;
mod catalogue;
mod document;
mod domain;
mod get_order;
mod list_orders;
mod misfits;
mod place_order;
mod rivals;
mod saga;
mod shop;
mod timeout;
mod versions;
