//! The whole choreography in one process, without a broker.

mod histories;
mod reader;
mod versions;
