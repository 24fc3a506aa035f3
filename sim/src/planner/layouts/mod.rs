//! Whole training plans at cluster scale: the best [`Layout`](crate::estimate::Layout) of a model over equal devices, with a
//! proof.
//!
//! The space: tensor, sequence, context, expert, data and pipeline parallelism, sharding of state (ZeRO), micro-batch size,
//! schedule, recomputation, optimizer state on the host, and layers of each stage, under the memory of a device. The
//! price: [`crate::estimate`], with [`crate::footprint`] for memory. Nothing is ruled out by habit: that tensor
//! parallelism stays inside a node and data parallelism goes across follows from the prices.
//!
//! [`search`](fn@search) is a branch and bound whose bound covers the whole space; [`exhaustive`](fn@exhaustive) tries everything,
//! for tests. [`mixed`] plans over devices that are not alike. [`pareto`](fn@pareto) answers for several objectives at once, [`sensitivities`] says what alternatives cost.

mod bound;
mod error;
mod exhaustive;
mod facts;
mod file;
mod infeasible;
mod leaf;
pub mod mixed;
mod objective;
mod outcome;
mod pareto;
mod pins;
mod problem;
mod search;
mod sensitivity;
mod space;
mod splits;
mod tally;
mod times;

pub use error::{LayoutError, LayoutShortfall};
pub use exhaustive::exhaustive;
pub use file::{Execution, LAYOUT_FORMAT, LAYOUT_VERSION, LayoutPlan, LayoutQuestion, LayoutSearch, PredictedStep};
pub use objective::Objective;
pub use outcome::{Candidate, LayoutOutcome, label, split_label};
pub use pareto::{ParetoPoint, pareto};
pub use pins::{Pins, RecomputeChoice};
pub use problem::{LayoutBudget, LayoutProblem, LayoutProgress};
pub use search::search;
pub use sensitivity::{Sensitivity, sensitivities};
pub use tally::SearchCounts;
