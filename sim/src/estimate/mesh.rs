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

    /// Tokens, `copies` of each and `bytes` in all, on their way between the ranks of the experts.
    ///
    /// Where tokens are forwarded, one crosses the network once for each node that it goes to: of `n` nodes an even spread
    /// meets `n (1 - (1 - 1/n)^copies)`. All copies move inside the nodes meanwhile.
    pub(super) fn expert_all_to_all(&self, bytes: f64, copies: f64) -> f64 {
        let group = &self.expert;
        let (inside, nodes) = (group.ranks_per_node, group.nodes());
        if nodes < 2 || !self.stack.has(Trait::ForwardsTokens) {
            return self.seconds(Collective::AllToAll, bytes, group);
        }
        let met = nodes as f64 * (1.0 - (1.0 - 1.0 / nodes as f64).powf(copies));
        let peers = Group { ranks: nodes, ranks_per_node: 1, simultaneous: group.simultaneous * inside, ..*group };
        let wire = self.seconds(Collective::AllToAll, bytes * (met / copies).min(1.0), &peers);
        let node = Group { ranks: inside, ..*group };
        if inside < 2 { wire } else { wire.max(self.seconds(Collective::AllToAll, bytes, &node)) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Interconnect, Level};

    #[test]
    fn forwarding_saves_copies_between_nodes_only() {
        let levels = vec![
            Level::new(Interconnect::NvSwitch(4), 8, 450e9),
            Level::new(Interconnect::InfiniBand, 64, 50e9).ports(8),
        ];
        let fabric = Fabric::new("eight nodes of eight", levels).expect("a valid fabric");
        let plain = Stack { traits: Vec::new(), ..Stack::named("megatron-core", None).expect("known").clone() };
        let forwarding = Stack { traits: vec![Trait::ForwardsTokens], ..plain.clone() };
        let seconds = |stack: &Stack, ep: u64, copies: f64| {
            let layout = Layout { dp: 64, ep, whole_experts: true, ..Layout::default() };
            Mesh::new(&layout, &fabric, stack).expert_all_to_all(1e9, copies)
        };
        let same = |left: f64, right: f64| (left / right - 1.0).abs() < 1e-9;
        assert!(same(seconds(&forwarding, 8, 8.0), seconds(&plain, 8, 8.0)));
        let saved = seconds(&forwarding, 32, 8.0) / seconds(&plain, 32, 8.0);
        // Of eight copies to four nodes 4 (1 - 0.75^8) = 3.6 cross the network; latencies are small beside a gigabyte.
        assert!((0.40..0.50).contains(&saved), "{saved}");
        assert!(seconds(&forwarding, 32, 8.0) < seconds(&forwarding, 32, 2.0));
    }
}
