//! The contract against what is checked in: events and their schemas, and the generator as a program.

mod events;
mod generator;
mod golden;
