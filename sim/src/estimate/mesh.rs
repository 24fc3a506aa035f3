//! Where the ranks of each parallel axis lie: tensor innermost, then context, data, pipeline (Megatron's order).

use super::layout::Layout;
use super::stack::{Stack, Trait};
use crate::network::{Collective, Fabric, Group, time};

/// The groups of a layout on a fabric, and what their collectives cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mesh<'a> {
    fabric: &'a Fabric,
    stack: &'a Stack,
    tensor: Group,
    context: Group,
    /// Ranks that hold equal parameters.
    replicas: Group,
    expert: Group,
    expert_replicas: Group,
    /// A rank and the same rank of the next stage.
    neighbour: Group,
    tp: usize,
    expert_stride: usize,
}

/// Whose parameters a collective is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holders {
    /// Those that every replica holds.
    All,
    /// An expert's, which only some replicas hold.
    Experts,
}

impl<'a> Mesh<'a> {
    pub(super) fn new(layout: &Layout, fabric: &'a Fabric, stack: &'a Stack) -> Self {
        let size = |degree: u64| degree as usize;
        let (tp, cp, dp, ep) = (size(layout.tp), size(layout.cp), size(layout.dp), size(layout.ep));
        let (expert_tp, node) = (size(layout.expert_tp()), fabric.node());
        Self {
            fabric,
            stack,
            tensor: strided(tp, 1, node),
            context: strided(cp, tp, node),
            replicas: strided(cp * dp, tp, node),
            expert: strided(ep, expert_tp, node),
            expert_replicas: strided(size(layout.expert_replicas()), expert_tp * ep, node),
            neighbour: strided(2, tp * cp * dp, node),
            tp,
            expert_stride: expert_tp * ep,
        }
    }

    fn seconds(&self, collective: Collective, bytes: f64, group: &Group) -> f64 {
        time(collective, bytes, group, self.fabric, &self.stack.library()).seconds
    }

    pub(super) fn tensor(&self, collective: Collective, bytes: f64) -> f64 {
        self.seconds(collective, bytes, &self.tensor)
    }

    /// One step of a ring over the context-parallel ranks.
    pub(super) fn context_hop(&self, bytes: f64) -> f64 {
        self.seconds(Collective::SendRecv, bytes, &self.context)
    }

    pub(super) fn expert_all_to_all(&self, bytes: f64) -> f64 {
        self.seconds(Collective::AllToAll, bytes, &self.expert)
    }

    /// A collective among all ranks that hold equal parameters.
    pub(super) fn replicas(&self, holders: Holders, collective: Collective, bytes: f64) -> f64 {
        self.seconds(collective, bytes, self.group(holders))
    }

    /// A collective among shard groups of `ranks` replicas, the innermost ones.
    pub(super) fn shards(&self, holders: Holders, collective: Collective, bytes: f64, ranks: u64) -> f64 {
        self.seconds(collective, bytes, &strided(ranks as usize, self.stride(holders), self.fabric.node()))
    }

    /// A collective among the ranks that hold the same shard of different shard groups.
    pub(super) fn between_shards(&self, holders: Holders, collective: Collective, bytes: f64, ranks: u64) -> f64 {
        let copies = self.group(holders).ranks / (ranks as usize).max(1);
        self.seconds(collective, bytes, &strided(copies, self.stride(holders) * ranks as usize, self.fabric.node()))
    }

    fn group(&self, holders: Holders) -> &Group {
        match holders {
            Holders::All => &self.replicas,
            Holders::Experts => &self.expert_replicas,
        }
    }

    /// Ranks from one holder to the next.
    fn stride(&self, holders: Holders) -> usize {
        match holders {
            Holders::All => self.tp,
            Holders::Experts => self.expert_stride,
        }
    }

    /// All-reduce of a tied parameter between the first and the last stage.
    pub(super) fn tied(&self, bytes: f64) -> f64 {
        self.seconds(Collective::AllReduce, bytes, &self.neighbour)
    }

    /// A message of `bytes` from every rank of a stage to its peer in the next, all at once; cut over the tensor-parallel
    /// ranks and gathered behind the wire where the stack does so.
    pub(super) fn hand_over(&self, bytes: f64, already_cut: bool) -> f64 {
        let cut = if already_cut { 1.0 } else { self.tp as f64 };
        if !already_cut && self.stack.has(Trait::ScatterGather) && self.tp > 1 {
            let wire = self.seconds(Collective::SendRecv, bytes / cut, &self.neighbour);
            return wire + self.tensor(Collective::AllGather, bytes);
        }
        self.seconds(Collective::SendRecv, bytes, &self.neighbour)
    }
}

/// `ranks` ranks `stride` apart. Where nodes do not divide the axis evenly, as many ranks share a node as divide it.
fn strided(ranks: usize, stride: usize, node: usize) -> Group {
    let (ranks, stride) = (ranks.max(1), stride.max(1));
    if let Ok(group) = Group::strided(ranks, stride, node) {
        return group;
    }
    let room = (node / stride).max(1);
    let each = (1..=room.min(ranks)).rev().find(|each| ranks.is_multiple_of(*each)).unwrap_or(1);
    let simultaneous = stride.min(node).max(1);
    Group { ranks, ranks_per_node: each, stride: stride.min(node), node_stride: (stride / node).max(1), simultaneous }
}
