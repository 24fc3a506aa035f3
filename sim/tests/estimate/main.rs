//! The closed form of a training step: its laws, and its pipelines against an event simulation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agreement;
mod laws;
mod support;
