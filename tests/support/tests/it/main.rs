//! What holds for the house as a whole, whatever a service does.

mod deploy;
mod document;
mod house;
mod metrics;
