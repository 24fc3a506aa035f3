//! All tests of this crate in one program, which builds and links once: files, checks, lowering.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod common;
mod executions;
mod file;
mod lowering;
mod pushes;
mod random_plans;
mod violations;
