//! Products, their prices, and their stock. The warehouse of the order saga: it holds stock for the
//! lines of an order, first come, first served, and takes it back when the order is cancelled.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `order-line-placed` | holds the line's stock, or refuses it | `stock-deducted` / `stock-deduct-failed` | `order-cancelled` |
//! | `order-cancelled` | gives back every line it holds; remembers the order, so that a line that comes later is refused | `stock-restored` per line | – |
//! | `POST /products` | puts a product up for sale | `product-catalog` | – |
//! | `PUT /products/{id}/price` | changes its price | `product-catalog` | – |
//! | `POST /products/{id}/restock` | puts pieces on the shelf | – | – |
//!
//! The law it keeps, whatever comes when, twice, or late: initial + restocked = available + held by
//! orders that aren't cancelled, and never less than nothing is available.

pub mod domain;
pub mod events;
pub mod http;
pub mod store;
