#![allow(dead_code, clippy::allow_attributes)]
mod admin;
mod broker;
mod relay;
mod toys;
