//! Placement: searchers against all assignments, endings told apart, seeds, and the public workloads.

mod endings;
mod exhaustive;
mod public;
mod seeds;
mod stages;
mod support;
