//! Orders and their state, from `POST /orders` to CONFIRMED or CANCELLED.
//!
//! order-service tells that an order was placed, hears what the others could do for it, and keeps
//! the order's state: it is where the answers come together. It commands nobody and undoes nothing
//! of others: whoever holds something for an order lets it go on `order-cancelled`.
//!
//! | hears | does | tells | undone by |
//! |---|---|---|---|
//! | `POST /orders` | an order, PENDING | `order-created`, `order-line-placed` per line | `order-cancelled` |
//! | `stock-deducted`, `coupon-used` | notes what is held; when all is: `AWAITING_PAYMENT` | `order-reserved` | `order-cancelled` |
//! | `payment-completed` | CONFIRMED | `order-confirmed` | `order-cancelled` |
//! | `stock-deduct-failed`, `coupon-use-failed`, `payment-failed` | CANCELLED, for the event's reason | `order-cancelled` | – |
//! | `POST /orders/{id}/cancel` | CANCELLED, also after CONFIRMED | `order-cancelled` | – |
//! | nothing for `ORDER_TIMEOUT` | CANCELLED, `TIMEOUT` | `order-cancelled` | – |
//! | `payment-refunded` | notes it | – | – |
//! | `product-catalog` | keeps name and price, the highest version | – | – |
//!
//! An order is cancelled once. What is heard of it later is noted, and changes nothing. An answer that doesn't
//! fit what the order asked, as it is of another customer, quantity or amount, is set aside.

pub mod domain;
pub mod events;
pub mod http;
pub mod orders;
pub mod store;
pub mod timeout;
pub mod waiting;
