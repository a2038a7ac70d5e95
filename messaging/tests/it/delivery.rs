//! Through the seam: records go in, effects and answers come out, once.

mod database_away;
mod days;
mod failing;
mod locks;
mod once;
mod publishing;
mod resume;
mod unreadable;
