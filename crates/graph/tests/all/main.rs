//! All tests of this crate in one program, which builds and links once: devices, operators, folding, local graphs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod devices;
mod experts;
mod facts;
mod fold;
mod local;
mod model_errors;
mod operators;
mod sharding;
