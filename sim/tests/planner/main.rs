//! The planner's tests in one program, which links the solver once: plans device by device, layouts, unlike devices, sharding, maps.
#![cfg_attr(not(feature = "ilp"), allow(dead_code, reason = "instances of the tests that need the solver"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod estimate;
mod exact;
mod gpt2;
mod layouts;
mod mapping;
mod mixed;
#[cfg(feature = "ilp")]
mod sharding;
mod support;
