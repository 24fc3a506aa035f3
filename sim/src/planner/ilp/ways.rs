//! Least ways into and out of a stage: what bounds the splits that a column can be part of.

use crate::planner::chain::{Classes, NEVER, WaysOut, ends, starts};
use crate::planner::estimate::StepCosts;

/// Least time behind a stage of `class` at `position` that ends at `cut`; [`NEVER`] when there is no way.
pub(super) fn after(out: &WaysOut, costs: &StepCosts, cut: usize, position: usize, class: usize) -> u64 {
    if position + 1 == costs.stages() {
        return if cut == costs.blocks { 0 } else { NEVER };
    }
    let next = out.next[position + 1][cut * costs.classes() + class];
    let rest = out.cost[position + 1][cut * costs.classes() + next];
    rest.saturating_add(costs.wire(cut, position + 1, class, next).both_ways)
}

/// Least time of the way from the first block to each cut, by position of the stage that ends there and its class.
pub(super) struct WaysIn {
    classes: usize,
    cost: Vec<Vec<u64>>,
}

impl WaysIn {
    /// The mirror image of [`WaysOut`], without the limit of the round trip.
    pub(super) fn new(costs: &StepCosts, classes: Classes<'_>) -> Self {
        let (blocks, stages, count) = (costs.blocks, costs.stages(), costs.classes());
        let mut ways = Self { classes: count, cost: vec![vec![NEVER; (blocks + 1) * count]; stages] };
        for position in 0..stages {
            for class in (0..count).filter(|class| classes.allow(costs, position, *class)) {
                for first in starts(position, stages, blocks) {
                    let before = ways.before(costs, first, position, class);
                    if before == NEVER {
                        continue;
                    }
                    for end in ends(first, position, stages, blocks) {
                        if costs.fits(first, end, position, class) {
                            let total = before + costs.time[class].get(first, end);
                            let known = &mut ways.cost[position][end * count + class];
                            *known = total.min(*known);
                        }
                    }
                }
            }
        }
        ways
    }

    /// Least time before a stage that starts at `first`, the wire into it included; `u64::MAX` when there is no way.
    pub(super) fn before(&self, costs: &StepCosts, first: usize, position: usize, class: usize) -> u64 {
        if position == 0 {
            return if first == 0 { 0 } else { NEVER };
        }
        (0..self.classes)
            .map(|upstream| self.before_from(costs, first, position, (upstream, class)))
            .min()
            .unwrap_or(NEVER)
    }

    /// As [`WaysIn::before`], behind a stage of a given class; `pair` is upstream class and class.
    pub(super) fn before_from(&self, costs: &StepCosts, first: usize, position: usize, pair: (usize, usize)) -> u64 {
        let (upstream, class) = pair;
        if position == 0 {
            return if first == 0 { 0 } else { NEVER };
        }
        let way = self.cost[position - 1][first * self.classes + upstream];
        way.saturating_add(costs.wire(first, position, upstream, class).both_ways)
    }
}
