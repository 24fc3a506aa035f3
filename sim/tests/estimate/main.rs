//! The closed form of a training step: its laws, and its steps against the step engine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agreement;
mod laws;
mod pipelines;
mod support;
