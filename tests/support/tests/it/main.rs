//! What holds for the house as a whole, whatever a service does.

mod deploy;
mod house;
mod metrics;
