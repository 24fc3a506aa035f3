//! Cost models against numbers worked out by hand.

#![allow(clippy::unwrap_used, reason = "tests")]

mod memory;
mod models;
mod process_links;
mod profiled;
mod roofline;
mod stage;
