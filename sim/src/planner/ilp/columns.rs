//! Columns of the ILP: one for every stage that could be part of a split faster than a target.

use super::ways::{WaysIn, after};
use crate::planner::chain::{Caps, Classes, NEVER, WaysOut, ends, starts};
use crate::planner::estimate::{StageCut, StepCosts, Wire};
use crate::planner::window::Floor;

/// A stage at a position, on a class, behind a stage on another or the same class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) position: usize,
    pub(super) first: usize,
    pub(super) end: usize,
    /// Class of the stage before; the stage's own class at position 0.
    pub(super) upstream: usize,
    pub(super) class: usize,
    /// `t`, ns.
    pub(super) time: u64,
    /// `w` of the wire into the stage, ns.
    pub(super) wire: u64,
    /// `x` of the wire into the stage, ns.
    pub(super) transfer: u64,
    /// `g`, ns.
    pub(super) tail: u64,
}

/// All columns whose best split by the relaxations (any class at any position, parts minimised one by one) is faster than
/// `target`, and the columns of `keep`; none at all when no path of them is left.
pub(super) fn columns(costs: &StepCosts, floor: &Floor, target: u64, keep: Option<&[StageCut]>) -> Vec<Column> {
    let into = WaysIn::new(costs, Classes::Any);
    let out = WaysOut::new(costs, Classes::Any, Caps::NONE);
    let kept: Vec<Column> = keep.map(|cuts| path(costs, cuts)).unwrap_or_default();
    let mut found = Vec::new();
    for position in 0..costs.stages() {
        for (upstream, class) in class_pairs(costs, position) {
            for first in starts(position, costs.stages(), costs.blocks) {
                let before = into.before_from(costs, first, position, (upstream, class));
                if before == NEVER {
                    continue;
                }
                for end in ends(first, position, costs.stages(), costs.blocks) {
                    if !costs.fits(first, end, position, class) {
                        continue;
                    }
                    let column = column(costs, position, (first, end), (upstream, class));
                    let onward = column.time.saturating_add(after(&out, costs, end, position, class));
                    let round_trip = costs.round_trip_limit(position).map_or(0, |ahead| onward.div_ceil(ahead));
                    let period = floor.period.max(column.time).max(column.transfer).max(round_trip);
                    let bound = costs.total(before.saturating_add(onward), period, floor.tail.max(column.tail));
                    if bound < target || kept.contains(&column) {
                        found.push(column);
                    }
                }
            }
        }
    }
    // A position without columns has no path through it.
    let complete = (0..costs.stages()).all(|position| found.iter().any(|column| column.position == position));
    if complete { found } else { Vec::new() }
}

/// Upstream class and class, where both have devices.
fn class_pairs(costs: &StepCosts, position: usize) -> Vec<(usize, usize)> {
    let usable: Vec<usize> = (0..costs.classes()).filter(|class| costs.capacities[*class] > 0).collect();
    let pairs = usable.iter().flat_map(|upstream| usable.iter().map(move |class| (*upstream, *class)));
    pairs.filter(|(upstream, class)| position > 0 || upstream == class).collect()
}

fn column(
    costs: &StepCosts,
    position: usize,
    (first, end): (usize, usize),
    (upstream, class): (usize, usize),
) -> Column {
    let wire = if position == 0 { Wire::default() } else { costs.wire(first, position, upstream, class) };
    Column {
        position,
        first,
        end,
        upstream,
        class,
        time: costs.time[class].get(first, end),
        wire: wire.both_ways,
        transfer: wire.transfer,
        tail: costs.tail[position][class].get(first, end),
    }
}

/// The columns of a split.
pub(super) fn path(costs: &StepCosts, cuts: &[StageCut]) -> Vec<Column> {
    let stage = |position: usize| {
        let cut = cuts[position];
        let (first, upstream) = position.checked_sub(1).map_or((0, cut.class), |p| (cuts[p].end, cuts[p].class));
        column(costs, position, (first, cut.end), (upstream, cut.class))
    };
    (0..cuts.len()).map(stage).collect()
}
