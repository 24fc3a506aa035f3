//! What moves: a tensor from layout to layout, exchanges inside an operator, gradients and shards of parameters.

use cutplane_graph::sharding::{Collective as Exchange, Inside, Layout};

use super::mesh::{AXES, Axes, Mesh};
use super::strategy::{Spread, Strategy, Treated};
use crate::estimate::ZeroStage;
use crate::network::Collective;

/// Share of a tensor that a rank holds.
pub(super) fn share(layout: Spread, mesh: &Mesh<'_>) -> f64 {
    let along = |axis: usize| part(layout[axis], mesh.sizes()[axis]);
    along(0) * along(1)
}

/// Share along one axis.
fn part(layout: Layout, size: usize) -> f64 {
    match layout {
        Layout::Replicated | Layout::Partial => 1.0,
        Layout::Batch | Layout::Owned | Layout::Axis(_) => 1.0 / size as f64,
    }
}

pub(super) const fn along(axis: usize) -> Axes {
    [axis == 0, axis == 1]
}

/// One exchange along one axis of a tensor of which the other axes leave `bytes`, s.
fn step(exchange: Exchange, bytes: f64, axis: usize, mesh: &Mesh<'_>) -> f64 {
    let (collective, bytes) = match exchange {
        Exchange::None => return 0.0,
        Exchange::AllReduce => (Collective::AllReduce, bytes),
        Exchange::AllGather => (Collective::AllGather, bytes),
        Exchange::ReduceScatter => (Collective::ReduceScatter, bytes),
        // A rank sends what it holds.
        Exchange::AllToAll => (Collective::AllToAll, bytes / mesh.sizes()[axis] as f64),
        // Both neighbours at once: links carry both directions.
        Exchange::Halo => (Collective::SendRecv, bytes),
    };
    mesh.seconds(collective, bytes, along(axis))
}

/// Time to turn a tensor of `bytes` bytes from one layout to another, s: the collectives of [`Exchange::between`], one axis
/// after the other in the cheaper order; or one collective along both axes where both ask for the same.
pub(super) fn reshard(bytes: f64, from: Spread, to: Spread, mesh: &Mesh<'_>) -> f64 {
    let wanted: [Exchange; AXES] = std::array::from_fn(|axis| Exchange::between(from[axis], to[axis]));
    let size = mesh.sizes();
    let outer_first = step(wanted[0], bytes * part(from[1], size[1]), 0, mesh)
        + step(wanted[1], bytes * part(to[0], size[0]), 1, mesh);
    let inner_first = step(wanted[1], bytes * part(from[0], size[0]), 1, mesh)
        + step(wanted[0], bytes * part(to[1], size[1]), 0, mesh);
    let joint = match wanted {
        [Exchange::AllReduce, Exchange::AllReduce] => Some(Collective::AllReduce),
        [Exchange::AllGather, Exchange::AllGather] => Some(Collective::AllGather),
        [Exchange::ReduceScatter, Exchange::ReduceScatter] => Some(Collective::ReduceScatter),
        _ => None,
    };
    let joint = joint.map_or(f64::INFINITY, |collective| mesh.seconds(collective, bytes, [true; AXES]));
    outer_first.min(inner_first).min(joint)
}

/// Time of the exchanges inside an operator along one axis, both passes of one micro-batch, s; `bytes` are those of an
/// element.
pub(super) fn inside(treated: &Treated<'_>, axis: usize, bytes: f64, mesh: &Mesh<'_>) -> f64 {
    let Some(rule) = treated.rule(axis) else { return 0.0 };
    let other = treated.rule(1 - axis);
    let split = |exchange| {
        let is_same = other.is_some_and(|other| other.split == rule.split);
        // Of one dimension split twice, the inner axis gathers what the outer one has gathered; a sum over both is whole.
        let whole = is_same && (exchange == Exchange::AllReduce || (exchange != Exchange::AllToAll && axis == 1));
        if other.is_none() || whole { 1.0 } else { mesh.sizes()[1 - axis] as f64 }
    };
    let one = |inside: &Inside| {
        let calls = inside.calls.max(1) as f64;
        let moved = inside.elements as f64 * bytes / split(inside.collective) / calls;
        calls * step(inside.collective, moved, axis, mesh)
    };
    rule.inside.iter().map(one).sum()
}

/// Bytes of a number in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StateBytes {
    pub(super) weight: f64,
    pub(super) gradient: f64,
    pub(super) optimizer: f64,
}

/// What a strategy does to a parameter of which a rank holds `local` numbers before sharding of state.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) local: f64,
    /// Axes along which gradients are summed.
    pub(super) summed: Axes,
    pub(super) zero: ZeroStage,
    /// Axes that share the state: some of the summed ones.
    pub(super) over: Axes,
}

impl State {
    pub(super) fn new(local: f64, summed: Axes, strategy: &Strategy) -> Self {
        let over: Axes = std::array::from_fn(|axis| strategy.over[axis] && summed[axis]);
        let zero = if over == [false; AXES] { ZeroStage::None } else { strategy.zero };
        Self { local, summed, zero, over }
    }

    fn shares(&self, mesh: &Mesh<'_>) -> f64 {
        mesh.ranks(self.over) as f64
    }

    /// Bytes of parameters, gradients and optimizer state (Rajbhandari et al. 2020, figure 1).
    pub(super) fn bytes(&self, of: StateBytes, mesh: &Mesh<'_>) -> [f64; 3] {
        let shared = |from: ZeroStage| if reaches(self.zero, from) { self.shares(mesh) } else { 1.0 };
        [
            self.local * of.weight / shared(ZeroStage::Three),
            self.local * of.gradient / shared(ZeroStage::Two),
            self.local * of.optimizer / shared(ZeroStage::One),
        ]
    }

    /// Bytes that one use needs beside: gathered parameters, and gradients before they are scattered.
    pub(super) fn workspace(&self, of: StateBytes) -> f64 {
        let needs = |from, bytes: f64| if reaches(self.zero, from) { self.local * bytes } else { 0.0 };
        needs(ZeroStage::Three, of.weight) + needs(ZeroStage::Two, of.gradient)
    }

    /// Numbers that a rank updates.
    pub(super) fn updated(&self, mesh: &Mesh<'_>) -> f64 {
        if self.zero == ZeroStage::None { self.local } else { self.local / self.shares(mesh) }
    }

    /// Time to gather parameters for both passes of one micro-batch, s.
    pub(super) fn gathered(&self, of: StateBytes, mesh: &Mesh<'_>) -> f64 {
        if self.zero != ZeroStage::Three {
            return 0.0;
        }
        2.0 * mesh.seconds(Collective::AllGather, self.local * of.weight, self.over)
    }

    /// Time to sum gradients, and to hand out updated parameters, in a step of so many micro-batches, s: an all-reduce; with
    /// sharded state its two halves, the first of them in every micro-batch where gradients are sharded.
    pub(super) fn synchronised(&self, of: StateBytes, micro_batches: f64, mesh: &Mesh<'_>) -> f64 {
        let gradient = self.local * of.gradient;
        if self.zero == ZeroStage::None {
            return mesh.seconds(Collective::AllReduce, gradient, self.summed);
        }
        let rest: Axes = std::array::from_fn(|axis| self.summed[axis] && !self.over[axis]);
        let scatter = mesh.seconds(Collective::ReduceScatter, gradient, self.over);
        let times = if reaches(self.zero, ZeroStage::Two) { micro_batches } else { 1.0 };
        let between = mesh.seconds(Collective::AllReduce, gradient / self.shares(mesh), rest);
        let handed = match self.zero {
            ZeroStage::Three => 0.0,
            _ => mesh.seconds(Collective::AllGather, self.local * of.weight, self.over),
        };
        times * scatter + between + handed
    }
}

/// Whether a stage shards what `from` is the first to shard.
const fn reaches(stage: ZeroStage, from: ZeroStage) -> bool {
    stage as u8 >= from as u8
}
