//! All tests of this crate in one program, which builds and links once: rows in, predictions and tables out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod graphs;
mod hostile;
mod kernels;
mod memory;
mod training;
mod unseen;
