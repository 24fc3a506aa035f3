//! The simulator and the planner: what a plan costs before anything runs, and which plan is best.
//!
//! - [`cost`]: a ladder of cost models, from a datasheet roofline to measured device profiles; collectives; memory.
//! - [`engine`]: discrete-event execution of a program in virtual time, with link sharing.
//! - [`estimate`]: the closed form of a training step under every parallel axis, at any scale.
//! - [`network`]: what collectives cost on nested domains and on irregular topologies.
//! - [`planner`]: a ladder of searchers, from even split to ILP, all answering with a plan, a bound and a reason to stop.

// Helpers of the integration tests serve unit tests too.
#[cfg(test)]
extern crate self as cutplane_sim;

pub mod cost;
pub mod engine;
pub mod estimate;
pub mod network;
pub mod planner;
