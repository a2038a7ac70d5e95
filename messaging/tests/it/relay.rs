//! `outbox-relay` as a process: rows go in, records come out, and the process is stopped, killed and
//! frozen meanwhile.

mod background;
mod idle;
mod lost_brokers;
mod moving;
pub(crate) mod process;
mod ready;
mod taking_over;
mod writers;
