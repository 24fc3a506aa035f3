//! The planner: a ladder of searchers over one space, with one closed form of the step time.
//!
//! The space: a data-parallel degree, contiguous pipeline stages, micro-batches and a schedule, under every device's
//! memory limit. The objective: the closed form of [`estimate`]. The ladder, simplest first:
//!
//! | searcher | splits | proves |
//! |---|---|---|
//! | [`EvenSplit`] | equal numbers of blocks | nothing |
//! | [`Greedy`] | fair shares of the work, front to back | nothing |
//! | [`ChainDp`] | exact where the class of each position is given | optimality with one device class |
//! | `Ilp` (feature `ilp`) | all | a bound over the whole space, with any device classes |
//! | [`Exhaustive`] | all, one by one | optimality; refuses large problems |
//!
//! [`layouts`] searches plans of every parallel axis for clusters of any size.
//!
//! [`named_plan`] builds the plan that a name such as `pp2-1f1b-m8` or `tp2xdp2-zero1` describes. Every answer should go through
//! [`cutplane_plan::verify`], which shares no code with this module.

mod blocks;
mod chain;
mod chain_dp;
mod configuration;
mod error;
pub mod estimate;
mod exhaustive;
mod fleet;
#[cfg(feature = "ilp")]
mod ilp;
mod infeasible;
pub mod layouts;
pub mod mapping;
mod named;
mod outcome;
mod prices;
mod problem;
mod search;
pub mod sharding;
mod split;
mod sums;
mod tables;
mod window;
mod windows;

use crate::cost::CostModel;

pub use blocks::{Blocks, ENOUGH_CUTS, MAX_BLOCKS};
pub use chain_dp::ChainDp;
pub use configuration::{Configuration, Placement, ScheduleKey};
pub use error::{PlanError, Shortfall};
pub use exhaustive::{Exhaustive, MOST_SPLITS};
#[cfg(feature = "ilp")]
pub use ilp::Ilp;
pub use named::{PLAN_NAME_PARTS, named_plan};
pub use problem::{LayerPin, MAX_MICRO_BATCHES, PlanOutcome, Problem, SearchBudget, SearchProgress, SearchSpace};
pub use split::{EvenSplit, Greedy};

/// A searcher.
pub trait Planner {
    /// Its name in plans and on the command line.
    fn name(&self) -> &'static str;

    /// Looks for the plan with the least step time.
    ///
    /// # Errors
    /// [`PlanError`]; that nothing fits, that nothing was found in time, and that something cannot be priced are told
    /// apart.
    fn plan(
        &self,
        problem: &Problem<'_>,
        cost: &dyn CostModel,
        budget: &SearchBudget<'_>,
    ) -> Result<PlanOutcome, PlanError>;
}
