//! The answer of a searcher, and the ladder's common trait.

use cutplane_plan::StopReason;

use super::error::ShardError;
use super::problem::ShardBudget;
use super::table::{Evaluation, ShardTable};

/// An assignment, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardOutcome {
    /// The choice of each node.
    pub choice: Vec<usize>,
    /// Its time and memory by [`ShardTable::evaluate`].
    pub evaluation: Evaluation,
    /// No assignment of the table that fits is faster, s. A table treats all copies of an operator in equal blocks alike, so
    /// this ranges over the plans that do so.
    pub bound: f64,
    /// No plan that fits is faster, s, be the copies treated alike or not; `None` where no linear program was solved.
    pub bound_of_unequal: Option<f64>,
    /// Why the search ended.
    pub stop: StopReason,
    /// Name of the searcher that found the assignment.
    pub searcher: &'static str,
    /// Columns of the integer program; 0 where none was solved.
    pub variables: usize,
    /// Wall time, s.
    pub search_seconds: f64,
}

impl ShardOutcome {
    /// How far above the best the assignment can be at most: `(objective - bound) / objective`.
    pub fn gap(&self) -> f64 {
        gap(self.evaluation.seconds, self.bound)
    }

    /// The same over plans that treat copies differently.
    pub fn gap_of_unequal(&self) -> Option<f64> {
        self.bound_of_unequal.map(|bound| gap(self.evaluation.seconds, bound))
    }
}

/// A gap below this is the solver's tolerance.
pub(super) const NO_GAP: f64 = 1e-5;

/// `(objective - bound) / objective`, 0 for an objective of zero.
pub(super) fn gap(objective: f64, bound: f64) -> f64 {
    if objective > 0.0 { ((objective - bound) / objective).max(0.0) } else { 0.0 }
}

/// A searcher of the ladder.
pub trait Sharder {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Looks for the fastest assignment that fits.
    ///
    /// # Errors
    /// [`ShardError`]: that nothing fits, that nothing was found in time and that the table is broken are told apart.
    fn shard(&self, table: &ShardTable, budget: &ShardBudget<'_>) -> Result<ShardOutcome, ShardError>;
}
