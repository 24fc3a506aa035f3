//! Definitions, tables, records and twins: what is refused by name, what is kept and read back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod refusals;
mod twin;
