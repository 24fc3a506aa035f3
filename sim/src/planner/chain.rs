//! Dynamic programs over the chain of blocks.

use super::estimate::{StageCut, StepCosts};

pub(super) const NEVER: u64 = u64::MAX;

/// Which classes may take which position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Classes<'s> {
    /// Any class at any position, also beyond its capacity: a relaxation when there are several classes.
    Any,
    /// This class at each position.
    Sequence(&'s [usize]),
}

impl Classes<'_> {
    pub(super) fn allow(self, costs: &StepCosts, position: usize, class: usize) -> bool {
        match self {
            Self::Any => costs.capacities[class] > 0,
            Self::Sequence(classes) => classes[position] == class,
        }
    }
}

/// Upper limits of the parts of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    /// Of the period `B`, ns.
    pub(super) period: u64,
    /// Of the tail `max g`, ns.
    pub(super) tail: u64,
}

impl Caps {
    /// No limit.
    pub(super) const NONE: Self = Self { period: NEVER, tail: NEVER };
}

/// The blocks at which a stage at `position` may start when `stages` stages share `blocks` blocks.
pub(super) fn starts(position: usize, stages: usize, blocks: usize) -> std::ops::RangeInclusive<usize> {
    if position == 0 { 0..=0 } else { position..=blocks - (stages - position) }
}

/// The blocks at which a stage at `position` that starts at `first` may end.
pub(super) fn ends(first: usize, position: usize, stages: usize, blocks: usize) -> std::ops::RangeInclusive<usize> {
    if position + 1 == stages { blocks..=blocks } else { first + 1..=blocks - (stages - position - 1) }
}

/// Least time for the way from each start to the end of the pipeline, without the wire into the start.
pub(super) struct WaysOut {
    classes: usize,
    /// By position, start and class.
    pub(super) cost: Vec<Vec<u64>>,
    /// The end of the stage on the best way.
    end: Vec<Vec<usize>>,
    /// By position, cut and class before the cut: the best class behind it.
    pub(super) next: Vec<Vec<usize>>,
}

impl WaysOut {
    /// Runs the dynamic program from the last position to the first: `O(classes blocks^2 stages)`.
    ///
    /// The round trip of 1F1B limits the way out of a stage, and the least way is also the one that keeps the limit, so
    /// the program stays exact with it.
    pub(super) fn new(costs: &StepCosts, classes: Classes<'_>, caps: Caps) -> Self {
        let (blocks, stages, count) = (costs.blocks, costs.stages(), costs.classes());
        let width = (blocks + 1) * count;
        let mut ways = Self { classes: count, cost: vec![], end: vec![], next: vec![] };
        for _ in 0..stages {
            ways.cost.push(vec![NEVER; width]);
            ways.end.push(vec![0; width]);
            ways.next.push(vec![0; width]);
        }
        for position in (0..stages).rev() {
            let onward = ways.onward(costs, classes, caps, position);
            let limit = costs.round_trip_limit(position).map_or(NEVER, |ahead| caps.period.saturating_mul(ahead));
            for class in (0..count).filter(|class| classes.allow(costs, position, *class)) {
                let onward = &onward[class * (blocks + 1)..(class + 1) * (blocks + 1)];
                for first in starts(position, stages, blocks) {
                    let (cost, end) = best_end(costs, caps, (first, position, class), onward);
                    if cost <= limit {
                        ways.cost[position][first * count + class] = cost;
                        ways.end[position][first * count + class] = end;
                    }
                }
            }
        }
        ways
    }

    /// By class and cut: least time from the cut behind `position` on, the wire over the cut included.
    fn onward(&mut self, costs: &StepCosts, classes: Classes<'_>, caps: Caps, position: usize) -> Vec<u64> {
        let (blocks, stages, count) = (costs.blocks, costs.stages(), costs.classes());
        let mut onward = vec![NEVER; count * (blocks + 1)];
        if position + 1 == stages {
            (0..count).for_each(|class| onward[class * (blocks + 1) + blocks] = 0);
            return onward;
        }
        for class in (0..count).filter(|class| classes.allow(costs, position, *class)) {
            for next in 0..count {
                let wires = &costs.wires[position + 1][class][next];
                for cut in starts(position + 1, stages, blocks) {
                    let rest = self.cost[position + 1][cut * count + next];
                    let wire = wires[cut];
                    let total = rest.saturating_add(wire.both_ways);
                    if wire.transfer <= caps.period && total < onward[class * (blocks + 1) + cut] {
                        onward[class * (blocks + 1) + cut] = total;
                        self.next[position + 1][cut * count + class] = next;
                    }
                }
            }
        }
        onward
    }

    /// Least time of the whole way, and its stages.
    pub(super) fn best(&self) -> Option<(u64, Vec<StageCut>)> {
        let (mut class, cost) = (0..self.classes).map(|class| (class, self.cost[0][class])).min_by_key(|(_, c)| *c)?;
        if cost == NEVER {
            return None;
        }
        let (mut cuts, mut first) = (Vec::with_capacity(self.cost.len()), 0);
        for position in 0..self.cost.len() {
            let end = self.end[position][first * self.classes + class];
            cuts.push(StageCut { end, class });
            if position + 1 < self.cost.len() {
                class = self.next[position + 1][end * self.classes + class];
            }
            first = end;
        }
        Some((cost, cuts))
    }
}

fn best_end(costs: &StepCosts, caps: Caps, at: (usize, usize, usize), onward: &[u64]) -> (u64, usize) {
    let (first, position, class) = at;
    let (time, tail) = (costs.time[class].row(first), costs.tail[position][class].row(first));
    let (room, in_flight) = (costs.room[class].row(first), costs.in_flight[position]);
    let mut best = (NEVER, 0);
    for end in ends(first, position, costs.stages(), costs.blocks) {
        let fits = room[end] >= in_flight && time[end] <= caps.period && tail[end] <= caps.tail;
        let total = time[end].saturating_add(onward[end]);
        if fits && total < best.0 && costs.may_lie(first, end, position, class) {
            best = (total, end);
        }
    }
    best
}

/// The least possible largest value of `of(first, end, position, class)` over the stages of a split; `None` when no split
/// fits the memory.
pub(super) fn min_max(
    costs: &StepCosts,
    classes: Classes<'_>,
    of: impl Fn(usize, usize, usize, usize) -> Option<u64>,
) -> Option<u64> {
    let (blocks, stages, count) = (costs.blocks, costs.stages(), costs.classes());
    let mut rest: Vec<u64> = (0..=blocks).map(|cut| if cut == blocks { 0 } else { NEVER }).collect();
    for position in (0..stages).rev() {
        let mut here = vec![NEVER; blocks + 1];
        for class in (0..count).filter(|class| classes.allow(costs, position, *class)) {
            for first in starts(position, stages, blocks) {
                let mut best = here[first];
                for end in ends(first, position, stages, blocks) {
                    if rest[end] < best
                        && let Some(value) = of(first, end, position, class)
                    {
                        best = best.min(value.max(rest[end]));
                    }
                }
                here[first] = best;
            }
        }
        rest = here;
    }
    (rest[0] != NEVER).then_some(rest[0])
}

/// Least largest stage time.
pub(super) fn min_period(costs: &StepCosts, classes: Classes<'_>) -> Option<u64> {
    min_max(costs, classes, |first, end, position, class| {
        costs.fits(first, end, position, class).then(|| costs.time[class].get(first, end))
    })
}

/// Least largest tail.
pub(super) fn min_tail(costs: &StepCosts, classes: Classes<'_>) -> Option<u64> {
    min_max(costs, classes, |first, end, position, class| {
        costs.fits(first, end, position, class).then(|| costs.tail[position][class].get(first, end))
    })
}
