//! Branch and bound over windows of the period and the tail of a pipeline.
//!
//! The step time of a split is a sum (the way through the stages) and two maxima (the period, counted many times, and the
//! tail). A program that minimises the sum under limits of the maxima is enough to minimise the whole.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Windows after which the search gives up on exactness; the bound says what is left open.
const MOST_WINDOWS: usize = 4000;

/// The split of the least sum under limits of period and tail; ns.
#[derive(Clone, Debug)]
pub(in crate::planner) struct Least<S> {
    /// The sum.
    pub(in crate::planner) traverse: u64,
    /// The split's own period.
    pub(in crate::planner) period: u64,
    /// The split's own tail.
    pub(in crate::planner) tail: u64,
    /// The split.
    pub(in crate::planner) split: S,
}

/// What [`minimise`] found.
#[derive(Clone, Debug)]
pub(in crate::planner) struct Minimum<S> {
    /// The best split below the given limit.
    pub(in crate::planner) split: Option<S>,
    /// No split is below this.
    pub(in crate::planner) bound: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    bound: u64,
    least: (u64, u64),
    caps: (u64, u64),
    traverse: u64,
    found: (u64, u64),
}

/// Minimises `total(sum, period, tail)`, which grows with each of them, below `limit`. `solve` minimises the sum with period
/// and tail at most what it is given; `floor` holds for the period and the tail of every split.
///
/// A window holds the splits with period and tail in two ranges. The least sum under the upper limits, with the lower
/// limits, bounds the window from below, and with its own period and tail it is a candidate. The range that contributes more
/// to the difference is halved.
pub(in crate::planner) fn minimise<S>(
    floor: (u64, u64),
    limit: u64,
    total: &dyn Fn(u64, u64, u64) -> u64,
    solve: &mut dyn FnMut((u64, u64)) -> Option<Least<S>>,
    stop: &dyn Fn() -> bool,
) -> Minimum<S> {
    let mut search = Search { limit, total, solve, split: None, open: BinaryHeap::new() };
    search.look(floor, (u64::MAX, u64::MAX));
    for _ in 0..MOST_WINDOWS {
        if search.open.peek().is_none_or(|window| window.0.bound >= search.limit) || stop() {
            break;
        }
        if let Some(Reverse(window)) = search.open.pop() {
            search.branch(&window);
        }
    }
    let open = search.open.peek().map_or(u64::MAX, |window| window.0.bound);
    Minimum { split: search.split, bound: open.min(search.limit) }
}

struct Search<'f, S> {
    limit: u64,
    total: &'f dyn Fn(u64, u64, u64) -> u64,
    solve: &'f mut dyn FnMut((u64, u64)) -> Option<Least<S>>,
    split: Option<S>,
    open: BinaryHeap<Reverse<Window>>,
}

impl<S> Search<'_, S> {
    fn look(&mut self, least: (u64, u64), caps: (u64, u64)) {
        let Some(Least { traverse, period, tail, split }) = (self.solve)(caps) else { return };
        let total = (self.total)(traverse, period, tail);
        if total < self.limit {
            self.limit = total;
            self.split = Some(split);
        }
        self.push(Window { bound: 0, least, caps, traverse, found: (period, tail) });
    }

    fn push(&mut self, mut window: Window) {
        window.bound = (self.total)(window.traverse, window.least.0, window.least.1);
        if window.bound < self.limit {
            self.open.push(Reverse(window));
        }
    }

    fn branch(&mut self, window: &Window) {
        let Window { least, caps, traverse, found, .. } = *window;
        let nothing = (self.total)(0, 0, 0);
        let period_share = (self.total)(0, found.0.saturating_sub(least.0), 0) - nothing;
        let tail_share = found.1.saturating_sub(least.1);
        if period_share >= tail_share {
            let middle = least.0.midpoint(found.0.max(least.0));
            self.look(least, (middle, caps.1));
            self.push(Window { bound: 0, least: (middle + 1, least.1), caps, traverse, found });
        } else {
            let middle = least.1.midpoint(found.1);
            self.look(least, (caps.0, middle));
            self.push(Window { bound: 0, least: (least.0, middle + 1), caps, traverse, found });
        }
    }
}
