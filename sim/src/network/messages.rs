//! Libraries that work by messages: MPI, Gloo, MLSL, Baidu's ring, and parameter servers over gRPC.

use super::closed_form::parameter_server_traffic;
use super::collective::Collective;
use super::fabric::Level;
use super::group::Group;
use super::library::Messages;
use super::nccl::{Algorithm, Protocol, Way};
use super::path::Path;

/// One call on one group: each message costs `alpha`, each byte its time on the narrowest level.
pub(super) struct ByMessages<'a> {
    pub(super) path: &'a Path<'a>,
    pub(super) group: &'a Group,
    pub(super) costs: Messages,
}

impl ByMessages<'_> {
    /// The cheapest way.
    pub(super) fn best(&self, collective: Collective, bytes: f64) -> Way {
        let volume = collective.bus_factor(self.group.ranks) * bytes;
        let rounds = (self.group.ranks as f64).log2().ceil();
        let ring = self.ring(collective, volume);
        match collective {
            Collective::AllReduce => {
                let halving = self.exchanges(Algorithm::HalvingDoubling, 2.0 * rounds, volume);
                let doubling = self.exchanges(Algorithm::RecursiveDoubling, rounds, rounds * bytes);
                ring.cheaper(halving).cheaper(doubling)
            }
            Collective::Broadcast | Collective::Reduce => {
                ring.cheaper(self.exchanges(Algorithm::RecursiveDoubling, rounds, rounds * bytes))
            }
            Collective::AllToAll | Collective::Gather => {
                self.exchanges(Algorithm::Direct, (self.group.ranks - 1) as f64, volume)
            }
            Collective::SendRecv => {
                let bandwidth = self.path.used().next().map_or(f64::INFINITY, |(_, crossing)| crossing.single);
                self.way(Algorithm::PointToPoint, self.alpha(), bytes, bandwidth)
            }
            _ => ring,
        }
    }

    /// Latency of one message on the slowest level.
    fn alpha(&self) -> f64 {
        let wire = |(level, _): (&Level, _)| level.latency;
        self.costs.message + self.path.used().map(wire).fold(0.0, f64::max)
    }

    fn ring(&self, collective: Collective, volume: f64) -> Way {
        let rounds = if collective == Collective::AllReduce { 2.0 } else { 1.0 };
        let steps = rounds * (self.group.ranks - 1) as f64;
        self.way(Algorithm::Ring, steps * self.alpha(), volume, self.path.ring_bandwidth())
    }

    /// Exchanges of distance 1, 2, 4, ...: all members of a node cross its cards at once.
    fn exchanges(&self, algorithm: Algorithm, steps: f64, volume: f64) -> Way {
        let member = |crossing: &super::path::Crossing, below: usize| crossing.bandwidth / below.max(1) as f64;
        let mut below = 1;
        let mut bandwidth = f64::INFINITY;
        for (_, crossing) in self.path.used() {
            bandwidth = bandwidth.min(member(crossing, below));
            below = crossing.members;
        }
        self.way(algorithm, steps * self.alpha(), volume, bandwidth)
    }

    fn way(&self, algorithm: Algorithm, latency: f64, volume: f64, bandwidth: f64) -> Way {
        let transfer = volume / bandwidth + volume / self.costs.copy;
        Way { algorithm, protocol: Protocol::Messages, latency: self.costs.call + latency, transfer }
    }
}

/// Push and pull through parameter servers; the cards of worker and server nodes are the fabric's.
pub(super) fn parameter_server(
    servers: usize,
    colocated: bool,
    bytes: f64,
    group: &Group,
    path: &Path<'_>,
    costs: Messages,
) -> Way {
    let nodes = group.nodes();
    let traffic = parameter_server_traffic(nodes, group.ranks_per_node, servers, colocated, bytes);
    let crossing =
        path.used().find(|(level, _)| level.interconnect.crosses_nodes()).or_else(|| path.used().next_back());
    let (latency, card) = crossing.map_or((0.0, costs.copy), |(level, crossing)| (level.latency, crossing.bandwidth));
    // A server sums or copies every byte in its memory once, beside the card.
    let slowest = (traffic.worker / card).max(traffic.server / card).max(traffic.server / costs.copy);
    Way {
        algorithm: Algorithm::ParameterServer,
        protocol: Protocol::Messages,
        latency: costs.call + 2.0 * (costs.message + latency),
        transfer: 2.0 * slowest,
    }
}
