//! The exact split of one configuration with a given class at each position: branch and bound over windows of the period
//! and the tail, with a dynamic program in every window.

use super::chain::{Caps, Classes, WaysOut, min_period, min_tail};
use super::estimate::{StageCut, StepCosts, StepEstimate};
use super::windows::{Least, Minimum, minimise};

/// Bounds on the parts of a step time, and the step time that follows; ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    /// Least sum of stage times and wires.
    pub(super) traverse: u64,
    /// Least period.
    pub(super) period: u64,
    /// Least tail.
    pub(super) tail: u64,
}

impl Floor {
    /// The three parts minimised one by one; `None` when no split fits the memory.
    pub(super) fn new(costs: &StepCosts, classes: Classes<'_>) -> Option<Self> {
        let (traverse, _) = WaysOut::new(costs, classes, Caps::NONE).best()?;
        Some(Self { traverse, period: min_period(costs, classes)?, tail: min_tail(costs, classes)? })
    }

    /// No split is faster than this.
    pub(super) fn step(&self, costs: &StepCosts) -> u64 {
        costs.total(self.traverse, self.period, self.tail)
    }
}

/// A split with its step time.
pub(super) type Split = (Vec<StageCut>, StepEstimate);

/// What [`best_split`] found.
#[derive(Clone, Debug)]
pub(super) struct Exact {
    /// The best split faster than the given limit.
    pub(super) split: Option<Split>,
    /// No split with these classes is faster than this.
    pub(super) bound: u64,
}

/// The fastest split with the classes of `sequence`, if it takes less than `limit` (ns): by [`windows`](super::windows) over
/// the dynamic program under limits.
pub(super) fn best_split(costs: &StepCosts, sequence: &[usize], limit: u64, stop: &dyn Fn() -> bool) -> Exact {
    let classes = Classes::Sequence(sequence);
    let Some(floor) = Floor::new(costs, classes) else { return Exact { split: None, bound: u64::MAX } };
    let mut solve = |(period, tail)| {
        let (traverse, cuts) = WaysOut::new(costs, classes, Caps { period, tail }).best()?;
        let estimate = costs.estimate(&cuts)?;
        Some(Least { traverse, period: estimate.period, tail: estimate.tail, split: (cuts, estimate) })
    };
    let total = |traverse, period, tail| costs.total(traverse, period, tail);
    let Minimum { split, bound } = minimise((floor.period, floor.tail), limit, &total, &mut solve, stop);
    Exact { split, bound }
}
