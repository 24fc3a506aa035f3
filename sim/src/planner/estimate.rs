//! The closed form of the step time that every searcher minimises.
//!
//! For `p` stages and `m` micro-batches, with
//! - `t_s` the forward and backward time of one micro-batch on stage `s`: operators, segment overhead, loading of inputs,
//!   and, on devices that do not communicate beside computing, sending and receiving; stretched by the contention of the
//!   ranks that work on the host at the same time,
//! - `w_s` the time of the activation into stage `s` and of its gradient back, latency included,
//! - `x_s` the longer of the two transfers, without latency; their sum under fill-drain, where all activations come before
//!   all gradients, and where activations from one neighbour and gradients from the other share a link,
//! - `g_s` the all-reduce of the stage's gradients over its replicas, that of tied parameters over all their holders, and
//!   the optimizer step,
//!
//! the step takes
//!
//! ```text
//! T = sum_s t_s + sum_s w_s + (m - 1) B + max_s g_s
//! B = max( max_s t_s, max_s x_s, max_{s: p - s < m} (sum_{k >= s} t_k + sum_{k > s} w_k) / (p - s)  [1F1B only] )
//! ```
//!
//! The first two sums are the way of the first micro-batch through the pipeline and back. Every further one follows a
//! period `B` later: at the pace of the slowest stage (Narayanan et al. 2021, section 2.2: the bubble is `p - 1` of
//! `m + p - 1` periods when stages are equal) or of the slowest link, or, under 1F1B, at the pace at which a stage gets
//! its gradients back, because stage `s` has at most `p - s` micro-batches under way. Fill-drain has no such limit.
//!
//! Not in it, and known to the engine: overlap of the all-reduce of one stage with the drain of another; fill-drain's
//! two paces where forward and backward are slowest on different stages (`B` takes them together and is too short);
//! values that skip a stage, which are priced as if they were handed from stage to stage.

use std::rc::Rc;

use cutplane_plan::Schedule;
use cutplane_units::Nanos;

use super::configuration::Configuration;
use super::tables::Table;

/// Where a stage ends, and on which class of devices it is. It starts where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StageCut {
    /// The first block that is not in the stage.
    pub(super) end: usize,
    /// Index of its device class.
    pub(super) class: usize,
}

/// Cost of a message down the pipeline and its gradient back up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wire {
    /// `w`: both messages from start to end, ns.
    pub(super) both_ways: u64,
    /// `x`: how long the link is busy at least for each micro-batch, ns.
    pub(super) transfer: u64,
}

/// Everything that the closed form needs of one configuration; times in ns.
#[derive(Clone, Debug)]
pub(super) struct StepCosts {
    /// The configuration.
    pub(super) configuration: Configuration,
    /// Number of blocks.
    pub(super) blocks: usize,
    /// Stages that each class has room for.
    pub(super) capacities: Vec<usize>,
    /// `t` of every interval, by class.
    pub(super) time: Vec<Rc<Table<u64>>>,
    /// Micro-batches that fit in memory at once, by class.
    pub(super) room: Vec<Rc<Table<u64>>>,
    /// `g` of every interval, by position and class.
    pub(super) tail: Vec<Vec<Rc<Table<u64>>>>,
    /// Wire into a position from the one before, by position, upstream class, class; then by cut. Empty for position 0.
    pub(super) wires: Vec<Vec<Vec<Rc<Vec<Wire>>>>>,
    /// Micro-batches that each position holds at once.
    pub(super) in_flight: Vec<u64>,
    /// Blocks whose place is fixed.
    pub(super) pins: Vec<BlockPin>,
}

/// Blocks whose place is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockPin {
    /// The blocks.
    pub(super) blocks: std::ops::Range<usize>,
    /// The class that their stage is on.
    pub(super) class: usize,
    /// The position of their stage, where the class's devices have places: there is one class.
    pub(super) position: Option<usize>,
}

impl BlockPin {
    fn allows(&self, first: usize, end: usize, position: usize, class: usize) -> bool {
        let apart = end <= self.blocks.start || self.blocks.end <= first;
        apart || (class == self.class && self.position.is_none_or(|pinned| pinned == position))
    }
}

/// What sets the period of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The slowest stage.
    Stage(usize),
    /// The link into this stage.
    Link(usize),
    /// The way from this stage to the end and back, under 1F1B.
    RoundTrip(usize),
}

/// A step time and its parts, ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepEstimate {
    /// `T`.
    pub(super) total: u64,
    /// The first micro-batch's way through and back.
    pub(super) traverse: u64,
    /// `B`.
    pub(super) period: u64,
    /// What sets `B`.
    pub(super) binding: Binding,
    /// `max g`.
    pub(super) tail: u64,
    /// `t` of each stage.
    pub(super) stage_times: Vec<u64>,
}

impl StepEstimate {
    /// `T` as a duration.
    pub(super) fn step(&self) -> Nanos {
        Nanos::new(self.total)
    }
}

impl StepCosts {
    /// The same where every device has room for everything.
    pub(super) fn without_memory_limits(mut self) -> Self {
        let ample = Rc::new(Table::filled(self.blocks, u64::MAX));
        self.room.iter_mut().for_each(|room| *room = Rc::clone(&ample));
        self
    }

    /// Number of stages.
    pub(super) fn stages(&self) -> usize {
        self.configuration.stages
    }

    /// Number of device classes.
    pub(super) fn classes(&self) -> usize {
        self.capacities.len()
    }

    /// The step time of given parts.
    pub(super) fn total(&self, traverse: u64, period: u64, tail: u64) -> u64 {
        let steady = (self.configuration.micro_batches - 1).saturating_mul(period);
        traverse.saturating_add(steady).saturating_add(tail)
    }

    /// How many micro-batches the stage at `position` may have under way before it must wait for a gradient, if that
    /// limits the period.
    pub(super) fn round_trip_limit(&self, position: usize) -> Option<u64> {
        let ahead = (self.stages() - position) as u64;
        let limits = Schedule::from(self.configuration.schedule) == Schedule::OneFOneB && ahead > 1;
        (limits && ahead < self.configuration.micro_batches).then_some(ahead)
    }

    /// Whether blocks `first..end` fit the memory of a device of `class` as the stage at `position`, and may lie there.
    pub(super) fn fits(&self, first: usize, end: usize, position: usize, class: usize) -> bool {
        self.room[class].get(first, end) >= self.in_flight[position] && self.may_lie(first, end, position, class)
    }

    /// Whether no pin keeps blocks `first..end` from the stage at `position` on `class`.
    pub(super) fn may_lie(&self, first: usize, end: usize, position: usize, class: usize) -> bool {
        self.pins.iter().all(|pin| pin.allows(first, end, position, class))
    }

    /// Wire into the stage at `position`, cut before block `cut`.
    pub(super) fn wire(&self, cut: usize, position: usize, upstream: usize, class: usize) -> Wire {
        self.wires[position][upstream][class][cut]
    }

    /// Evaluates the closed form; `None` when a stage does not fit its device's memory or a class has too few devices.
    pub(super) fn estimate(&self, cuts: &[StageCut]) -> Option<StepEstimate> {
        let mut used = vec![0; self.classes()];
        let (mut first, mut tail) = (0, 0);
        let mut stage_times = Vec::with_capacity(cuts.len());
        for (position, cut) in cuts.iter().enumerate() {
            used[cut.class] += 1;
            if !self.fits(first, cut.end, position, cut.class) || used[cut.class] > self.capacities[cut.class] {
                return None;
            }
            stage_times.push(self.time[cut.class].get(first, cut.end));
            tail = tail.max(self.tail[position][cut.class].get(first, cut.end));
            first = cut.end;
        }
        let wires: Vec<Wire> = (1..cuts.len())
            .map(|position| self.wire(cuts[position - 1].end, position, cuts[position - 1].class, cuts[position].class))
            .collect();
        let (period, binding) = self.period(&stage_times, &wires);
        let traverse = stage_times.iter().sum::<u64>() + wires.iter().map(|wire| wire.both_ways).sum::<u64>();
        let total = self.total(traverse, period, tail);
        Some(StepEstimate { total, traverse, period, binding, tail, stage_times })
    }

    fn period(&self, times: &[u64], wires: &[Wire]) -> (u64, Binding) {
        let stages = times.iter().enumerate().map(|(position, time)| (*time, Binding::Stage(position)));
        let links = wires.iter().enumerate().map(|(index, wire)| (wire.transfer, Binding::Link(index + 1)));
        let mut best = (0, Binding::Stage(0));
        let mut offer = |candidate: (u64, Binding)| {
            if candidate.0 > best.0 {
                best = candidate;
            }
        };
        stages.chain(links).for_each(&mut offer);
        let mut way = 0;
        for position in (0..times.len()).rev() {
            way += times[position] + wires.get(position).map_or(0, |wire| wire.both_ways);
            if let Some(ahead) = self.round_trip_limit(position) {
                offer((way.div_ceil(ahead), Binding::RoundTrip(position)));
            }
        }
        best
    }
}
