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

#[cfg(test)]
mod tests {
    use cutplane_graph::sharding::Layout::{Axis, Batch, Partial, Replicated};

    use super::*;
    use crate::network::{Fabric, Interconnect, Level, Library};

    fn fabric(nodes: usize) -> Fabric {
        let inside = Level::new(Interconnect::NvSwitch(3), 8, 300e9);
        Fabric::new("test", vec![inside, Level::new(Interconnect::InfiniBand, 8 * nodes, 25e9).ports(8)]).unwrap()
    }

    /// Figure 1 of Rajbhandari et al. 2020: 7.5 billion parameters on 64 devices.
    #[test]
    fn state_takes_what_zero_says() {
        let fabric = fabric(8);
        let mesh = Mesh::new(&[8, 8], &fabric, Library::NCCL).unwrap();
        let of = StateBytes { weight: 2.0, gradient: 2.0, optimizer: 12.0 };
        let gigabytes = |zero| {
            let both = [true; AXES];
            let strategy = Strategy { rules: [None; 2], splits: [None; 2], zero, over: both, stash: [false; 2] };
            State::new(7.5e9, both, &strategy).bytes(of, &mesh).iter().sum::<f64>() / 1e9
        };
        let stages = [ZeroStage::None, ZeroStage::One, ZeroStage::Two, ZeroStage::Three].map(gigabytes);
        for (found, published) in stages.into_iter().zip([120.0, 31.4, 16.6, 1.9]) {
            assert!((found - published).abs() < 0.05, "{found} {published}");
        }
    }

    #[test]
    fn each_axis_moves_what_the_other_leaves() {
        let fabric = fabric(4);
        let mesh = Mesh::new(&[4, 8], &fabric, Library::NCCL).unwrap();
        let (outer, inner, bytes) = (along(0), along(1), 64e6);
        let one = |collective, bytes, axes| mesh.seconds(collective, bytes, axes);
        // The sum of a row split, of samples that are split over the other axis already.
        let summed = reshard(bytes, [Batch, Partial], [Batch, Replicated], &mesh);
        assert_eq!(summed.to_bits(), one(Collective::AllReduce, bytes / 4.0, inner).to_bits());
        let gathered = reshard(bytes, [Batch, Axis(0)], [Batch, Replicated], &mesh);
        assert_eq!(gathered.to_bits(), one(Collective::AllGather, bytes / 4.0, inner).to_bits());
        let turned = reshard(bytes, [Replicated, Axis(0)], [Replicated, Axis(1)], &mesh);
        assert_eq!(turned.to_bits(), one(Collective::AllToAll, bytes / 8.0, inner).to_bits());
        // Scattered before it is gathered: the gather moves a part.
        let mixed = reshard(bytes, [Batch, Partial], [Replicated, Axis(0)], &mesh);
        let ways = [
            one(Collective::ReduceScatter, bytes / 4.0, inner) + one(Collective::AllGather, bytes / 8.0, outer),
            one(Collective::AllGather, bytes, outer) + one(Collective::ReduceScatter, bytes, inner),
        ];
        assert!(ways[0] < ways[1] && (mixed - ways[0]).abs() < 1e-12, "{mixed} {ways:?}");
        assert!(reshard(bytes, [Batch, Replicated], [Batch, Axis(1)], &mesh) == 0.0, "slicing is free");
    }

    #[test]
    fn halves_of_an_all_reduce_come_apart() {
        let fabric = fabric(2);
        let mesh = Mesh::new(&[2, 8], &fabric, Library::NCCL).unwrap();
        let of = StateBytes { weight: 2.0, gradient: 2.0, optimizer: 12.0 };
        let state = |zero, over| State { local: 1e9, summed: [true; AXES], zero, over };
        let time = |zero, over, micro_batches| state(zero, over).synchronised(of, micro_batches, &mesh);
        let both = [true; AXES];
        let scatter = mesh.seconds(Collective::ReduceScatter, 2e9, both);
        let more = time(ZeroStage::Two, both, 5.0) - time(ZeroStage::One, both, 5.0);
        assert!((more - 4.0 * scatter).abs() < 1e-9);
        assert!(time(ZeroStage::Three, both, 1.0) < time(ZeroStage::One, both, 1.0));
        // Shards inside the node only: their sums still cross nodes.
        assert!(time(ZeroStage::Three, along(1), 1.0) > mesh.seconds(Collective::ReduceScatter, 2e9, along(1)));
        let gathers = |zero| state(zero, both).gathered(of, &mesh);
        assert!(gathers(ZeroStage::Two) == 0.0 && gathers(ZeroStage::Three) > scatter);
    }
}
