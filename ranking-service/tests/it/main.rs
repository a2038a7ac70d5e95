//! ranking-service on a real PostgreSQL: its handlers through the seam, its call over HTTP.

mod background;
mod board;
mod counting;
mod document;
mod reading;
mod recomputation;
