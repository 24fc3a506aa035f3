//! Cost models against numbers worked out by hand.

#![allow(clippy::unwrap_used, reason = "tests")]

mod memory;
mod models;
mod profiled;
mod roofline;
mod stage;
