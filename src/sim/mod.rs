//! A simulated inference server.

pub mod counters;
pub mod engine;
pub mod profile;
