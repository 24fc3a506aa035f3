//! The simulator and the planner: what a plan costs before anything runs, and which plan is best.
//!
//! - [`advanced`]: small models around a step: serving, federated rounds, checkpoints, elasticity, offload, freezing.
//! - [`cost`]: a ladder of cost models, from a datasheet roofline to measured device profiles; collectives; memory.
//! - [`engine`]: discrete-event execution of a program in virtual time, with link sharing.
//! - [`graph_step`]: the closed form of a training step of any operator graph, replicated or pipelined.
//! - [`kernel`]: how long one kernel takes on one accelerator.
//! - [`network`]: what collectives cost on nested domains and on irregular topologies.
//! - [`placement`]: graphs of given costs on accelerators and CPU cores, for throughput or latency.
//! - [`footprint`]: peak memory of a training step in closed form.
//! - [`estimate`]: the closed form of a training step under every parallel axis, at any scale.
//! - [`planner`]: a ladder of searchers, from even split to ILP, all answering with a plan, a bound and a reason to stop.
//! - [`rematerialise`]: which activations to keep and which to compute again under a memory budget.
//! - [`prediction`]: a predicted time with its interval, and where its numbers come from.

// Helpers of the integration tests serve unit tests too.
#[cfg(test)]
extern crate self as cutplane_sim;

pub mod advanced;
pub mod cost;
pub mod engine;
pub mod estimate;
pub mod footprint;
pub mod graph_step;
pub mod kernel;
pub mod network;
pub mod placement;
pub mod planner;
pub mod prediction;
pub mod rematerialise;
