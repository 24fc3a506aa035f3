//! Placement: searchers against all assignments, endings told apart, and the public workloads.

mod endings;
mod exhaustive;
mod public;
mod stages;
mod support;
