//! The exact split of one configuration with a given class at each position: branch and bound over windows of the period
//! and the tail, with a dynamic program in every window.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::chain::{Caps, Classes, WaysOut, min_period, min_tail};
use super::estimate::{StageCut, StepCosts, StepEstimate};

/// Windows after which the search gives up on exactness; the bound says what is left open.
const MOST_WINDOWS: usize = 4000;

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

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    bound: u64,
    least: (u64, u64),
    caps: (u64, u64),
    traverse: u64,
    found: (u64, u64),
}

/// The fastest split with the classes of `sequence`, if it takes less than `limit` (ns).
///
/// A window holds the splits with period and tail in two ranges. The dynamic program under the upper limits gives the
/// least sum of stage times in it; that sum with the lower limits bounds the window from below, and with the period and
/// tail of the split found it is a candidate. The range that contributes more to the difference is halved.
pub(super) fn best_split(costs: &StepCosts, sequence: &[usize], limit: u64, stop: &dyn Fn() -> bool) -> Exact {
    let classes = Classes::Sequence(sequence);
    let Some(floor) = Floor::new(costs, classes) else { return Exact { split: None, bound: u64::MAX } };
    let mut search = Search { costs, classes, limit, split: None, open: BinaryHeap::new() };
    search.solve((floor.period, floor.tail), (u64::MAX, u64::MAX));
    for _ in 0..MOST_WINDOWS {
        if search.open.peek().is_none_or(|window| window.0.bound >= search.limit) || stop() {
            break;
        }
        if let Some(Reverse(window)) = search.open.pop() {
            search.branch(&window);
        }
    }
    let open = search.open.peek().map_or(u64::MAX, |window| window.0.bound);
    Exact { split: search.split, bound: open.min(search.limit) }
}

struct Search<'c> {
    costs: &'c StepCosts,
    classes: Classes<'c>,
    limit: u64,
    split: Option<Split>,
    open: BinaryHeap<Reverse<Window>>,
}

impl Search<'_> {
    fn solve(&mut self, least: (u64, u64), caps: (u64, u64)) {
        let program = WaysOut::new(self.costs, self.classes, Caps { period: caps.0, tail: caps.1 });
        let Some((traverse, cuts)) = program.best() else { return };
        let Some(estimate) = self.costs.estimate(&cuts) else { return };
        let found = (estimate.period, estimate.tail);
        if estimate.total < self.limit {
            self.limit = estimate.total;
            self.split = Some((cuts, estimate));
        }
        self.push(Window { bound: 0, least, caps, traverse, found });
    }

    fn push(&mut self, mut window: Window) {
        window.bound = self.costs.total(window.traverse, window.least.0, window.least.1);
        if window.bound < self.limit {
            self.open.push(Reverse(window));
        }
    }

    fn branch(&mut self, window: &Window) {
        let Window { least, caps, traverse, found, .. } = *window;
        let period_share = self.costs.total(0, found.0.saturating_sub(least.0), 0);
        let tail_share = found.1.saturating_sub(least.1);
        if period_share >= tail_share {
            let middle = least.0.midpoint(found.0.max(least.0));
            self.solve(least, (middle, caps.1));
            self.push(Window { bound: 0, least: (middle + 1, least.1), caps, traverse, found });
        } else {
            let middle = least.1.midpoint(found.1);
            self.solve(least, (caps.0, middle));
            self.push(Window { bound: 0, least: (least.0, middle + 1), caps, traverse, found });
        }
    }
}
