//! NCCL's tuning model: latency of each algorithm and protocol, bandwidth of each, and the choice of the cheapest.
//!
//! `T = base + sum of hops + v / B + 2 sqrt(r v / B)`: `v` is what the busiest rank moves, `B` the bandwidth of the narrowest
//! level. The last term is what a pipeline of chunks costs when the chunk is chosen well: `s` stages with a fixed cost `o`
//! take `(s + v / c) (o + c / B)`, at best `v / B + s o + 2 sqrt(s o v / B)`, with `r = s o` kept as one constant a link
//! family. Base and hop latencies are those of NCCL (`src/graph/tuning.cc`, 2.18).

use super::collective::Collective;
use super::fabric::Interconnect;
use super::group::Group;
use super::path::Path;

/// How a collective is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// A ring through all ranks (Patarasu and Yuan 2009).
    Ring,
    /// Two binary trees over the nodes, each the other's leaves, chains inside the nodes (Sanders et al. 2009).
    DoubleBinaryTree,
    /// Reduction and multicast inside NVSwitch (NVLink SHARP); across nodes a tree between the switches.
    NvlinkSharp,
    /// Halving the distance and the message: `log2 p` exchanges of the whole buffer.
    RecursiveDoubling,
    /// Reduce-scatter by halving, all-gather by doubling (Rabenseifner 2004).
    HalvingDoubling,
    /// Every rank sends to every other directly.
    Direct,
    /// One message.
    PointToPoint,
    /// Push to servers, pull from servers.
    ParameterServer,
}

/// How a message is synchronised between two ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Four bytes of data with four of flag: least latency, half the bandwidth.
    Ll,
    /// 120 bytes of data in a line of 128: needs NVLink or a network card that keeps stores in order.
    Ll128,
    /// Chunks with a flag after each: most latency, all the bandwidth.
    Simple,
    /// The library has no choice of protocols.
    Messages,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Ll, Protocol::Ll128, Protocol::Simple];

/// What one way of carrying out a collective costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Way {
    pub(super) algorithm: Algorithm,
    pub(super) protocol: Protocol,
    /// Part that does not grow with the message, s.
    pub(super) latency: f64,
    /// Part that does, s.
    pub(super) transfer: f64,
}

impl Way {
    pub(super) fn seconds(&self) -> f64 {
        self.latency + self.transfer
    }

    pub(super) fn cheaper(self, other: Self) -> Self {
        if other.seconds() < self.seconds() { other } else { self }
    }
}

/// One value for each of [`PROTOCOLS`].
type ByProtocol = [f64; 3];

/// Base latency of a ring, us.
const RING_BASE: ByProtocol = [6.6, 14.0, 8.4];
/// Base latency of a tree, us.
const TREE_BASE: ByProtocol = [6.8, 14.0, 8.4];
/// Base latency of a multicast through NVSwitch, us; fitted as [`ramp`].
const NVLINK_SHARP_BASE: f64 = 21.0;
/// Share of NVLink 4's line rate that NVLink SHARP's bus bandwidth reaches: the switch adds, so a rank sends and receives
/// less than a ring's share.
const NVLINK_SHARP_SHARE: f64 = 1.06;
/// Chunk overhead of NVLink SHARP's pipeline, us; fitted as [`ramp`].
const NVLINK_SHARP_RAMP: f64 = 6.3;
/// Base latency of a point-to-point message, us; fitted as [`ramp`].
const POINT_TO_POINT_BASE: f64 = 7.7;

fn ring_hop(interconnect: Interconnect) -> ByProtocol {
    use Interconnect as On;
    match interconnect {
        On::NvLink(_) | On::NvSwitch(_) | On::InfinityFabric => [0.6, 1.9, 3.4],
        On::Pcie(_) | On::SharedMemory | On::HostBridge => [1.0, 2.5, 5.7],
        On::InfiniBand | On::OmniPath | On::Roce => [2.7, 4.0, 14.0],
        On::Ethernet => [30.0, 30.0, 45.0],
    }
}

fn tree_hop(interconnect: Interconnect) -> ByProtocol {
    use Interconnect as On;
    match interconnect {
        On::NvLink(_) | On::NvSwitch(_) | On::InfinityFabric => [0.6, 1.25, 4.0],
        On::Pcie(_) | On::SharedMemory | On::HostBridge => [1.0, 1.9, 4.0],
        On::InfiniBand | On::OmniPath | On::Roce => [5.0, 8.5, 14.0],
        On::Ethernet => [30.0, 30.0, 45.0],
    }
}

/// Chunk overhead `r` of the pipeline, us, by link family.
///
/// These, and the constants that refer to this one, were fitted with priors on 24 rows of 200 kB and more out of 74 rows of
/// Vidur's 884 collectives that a seeded draw of a tenth of each sweep chose (`crates/score/data/fabrics.toml` lists
/// them); PCIe and networks keep their priors. On the rows of 1 MB and more that were not drawn the median error is 4.6%.
fn ramp(interconnect: Interconnect) -> f64 {
    use Interconnect as On;
    match interconnect {
        On::NvSwitch(..=3) => 7.4,
        On::NvSwitch(_) => 2.9,
        On::NvLink(..=3) | On::InfinityFabric => 1.8,
        On::NvLink(_) => 0.4,
        On::Pcie(_) | On::SharedMemory | On::HostBridge => 0.1,
        On::InfiniBand | On::OmniPath | On::Roce | On::Ethernet => 1.0,
    }
}

/// Most bus bandwidth that the LL protocol reaches, bytes/s, within a node, between two, and between more: its flags keep
/// the devices' own stores and polls busy (NCCL, `llMaxBws` of Volta, Ampere and Hopper).
fn ll_ceiling(inner: Interconnect, nodes: usize) -> f64 {
    use Interconnect as On;
    let by_nodes = match inner {
        On::NvLink(4..) | On::NvSwitch(4..) | On::Pcie(5..) => [141e9, 45e9, 35e9],
        On::NvLink(3) | On::NvSwitch(3) | On::Pcie(4) => [87.7e9, 22.5e9, 19e9],
        _ => [39e9, 39e9, 20.4e9],
    };
    by_nodes[nodes.clamp(1, 3) - 1]
}

/// Whether 128-byte lines arrive whole: between devices over NVLink, or through cards that reach the device directly.
fn orders_stores(interconnect: Interconnect) -> bool {
    use Interconnect as On;
    matches!(interconnect, On::NvLink(_) | On::NvSwitch(_) | On::InfiniBand | On::Roce)
}

/// One call on one group.
pub(super) struct Nccl<'a> {
    pub(super) path: &'a Path<'a>,
    pub(super) group: &'a Group,
    pub(super) version: (u8, u8),
}

impl Nccl<'_> {
    /// The cheapest way.
    pub(super) fn best(&self, collective: Collective, bytes: f64) -> Way {
        match collective {
            Collective::SendRecv => self.point_to_point(bytes),
            Collective::AllToAll => self.direct(bytes),
            Collective::Gather => self.gather(bytes),
            _ => self.rings_and_trees(collective, bytes),
        }
    }

    fn rings_and_trees(&self, collective: Collective, bytes: f64) -> Way {
        let has_trees = collective == Collective::AllReduce && self.version >= (2, 4);
        let mut best = self.ring(collective, bytes, 2);
        for (index, protocol) in PROTOCOLS.iter().enumerate() {
            if !self.has(*protocol) {
                continue;
            }
            best = best.cheaper(self.ring(collective, bytes, index));
            if has_trees {
                best = best.cheaper(self.tree(bytes, index));
            }
        }
        match self.nvlink_sharp(collective, bytes) {
            Some(way) => best.cheaper(way),
            None => best,
        }
    }

    fn has(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Ll => self.version >= (2, 1),
            Protocol::Ll128 => {
                self.version >= (2, 5) && self.path.used().all(|(level, _)| orders_stores(level.interconnect))
            }
            Protocol::Simple | Protocol::Messages => true,
        }
    }

    /// Bandwidth that a protocol leaves of the narrowest level's, bytes/s: shares in the order of [`PROTOCOLS`].
    fn kept(&self, protocol: usize, shares: ByProtocol) -> f64 {
        let bandwidth = self.path.ring_bandwidth() * shares[protocol];
        match (PROTOCOLS[protocol], self.path.levels.first()) {
            (Protocol::Ll, Some(inner)) => bandwidth.min(ll_ceiling(inner.interconnect, self.group.nodes())),
            _ => bandwidth,
        }
    }

    /// `v / B + 2 sqrt(r v / B)`, s.
    fn pipelined(&self, volume: f64, bandwidth: f64) -> f64 {
        let alone = volume / bandwidth;
        let overhead = self.path.narrowest().map_or(0.0, |level| ramp(level.interconnect)) * 1e-6;
        alone + 2.0 * (overhead * alone).sqrt()
    }

    fn ring(&self, collective: Collective, bytes: f64, protocol: usize) -> Way {
        let ranks = self.group.ranks;
        let rounds = if collective == Collective::AllReduce { 2.0 } else { 1.0 };
        let around = self.path.ring_edges(ranks, |level| ring_hop(level.interconnect)[protocol] * 1e-6 + level.latency);
        let steps = rounds * (ranks - 1) as f64 / ranks as f64;
        Way {
            algorithm: Algorithm::Ring,
            protocol: PROTOCOLS[protocol],
            latency: RING_BASE[protocol] * 1e-6 + steps * around,
            transfer: self.pipelined(collective.bus_factor(ranks) * bytes, self.kept(protocol, [0.5, 0.92, 1.0])),
        }
    }

    /// NCCL's `2 ((R / N - 1) a_intra + log2(N) a_inter)`; every node sends the buffer once up and once down.
    fn tree(&self, bytes: f64, protocol: usize) -> Way {
        let hop = |interconnect, latency| tree_hop(interconnect)[protocol] * 1e-6 + latency;
        let climb: f64 = self
            .path
            .used()
            .map(|(level, crossing)| {
                let stages = if level.interconnect.crosses_nodes() {
                    (crossing.children as f64).log2().ceil()
                } else {
                    // A chain through the node: one such stretch for every domain of the level in it.
                    let domains = (self.group.ranks_per_node / crossing.members.max(1)).max(1);
                    (domains * (crossing.children - 1)) as f64
                };
                stages * hop(level.interconnect, level.latency)
            })
            .sum();
        let crosses = self.path.used().any(|(level, _)| level.interconnect.crosses_nodes());
        let shares = [1.0 / 3.8, if crosses { 0.92 * 120.0 / 128.0 } else { 0.92 * 7.0 / 9.0 }, 0.92];
        Way {
            algorithm: Algorithm::DoubleBinaryTree,
            protocol: PROTOCOLS[protocol],
            latency: TREE_BASE[protocol] * 1e-6 + 2.0 * climb,
            transfer: self.pipelined(2.0 * bytes, self.kept(protocol, shares)),
        }
    }

    /// All-reduce through NVSwitch of the fourth generation and later, for three ranks and more a node.
    fn nvlink_sharp(&self, collective: Collective, bytes: f64) -> Option<Way> {
        let (inner, crossing) = self.path.used().next()?;
        let switched = matches!(inner.interconnect, Interconnect::NvSwitch(4..));
        if !switched || collective != Collective::AllReduce || self.version < (2, 17) || crossing.members < 3 {
            return None;
        }
        let inside =
            Collective::AllReduce.bus_factor(crossing.members) * bytes / (inner.bandwidth * NVLINK_SHARP_SHARE);
        let mut latency = NVLINK_SHARP_BASE * 1e-6 + inner.latency;
        let mut slowest = inside;
        for (level, crossing) in self.path.used().skip(1) {
            let hop = tree_hop(level.interconnect)[2] * 1e-6 + level.latency;
            latency += 2.0 * (crossing.children as f64).log2().ceil() * hop;
            slowest = slowest.max(2.0 * bytes / (crossing.bandwidth * 0.92));
        }
        let transfer = slowest + 2.0 * (NVLINK_SHARP_RAMP * 1e-6 * slowest).sqrt();
        Some(Way { algorithm: Algorithm::NvlinkSharp, protocol: Protocol::Simple, latency, transfer })
    }

    fn point_to_point(&self, bytes: f64) -> Way {
        let Some((level, crossing)) = self.path.used().next() else {
            return nothing(Algorithm::PointToPoint);
        };
        let hop = ring_hop(level.interconnect)[2] - ring_hop(Interconnect::NvSwitch(3))[2];
        Way {
            algorithm: Algorithm::PointToPoint,
            protocol: Protocol::Simple,
            latency: (POINT_TO_POINT_BASE + hop) * 1e-6 + level.latency,
            transfer: bytes / crossing.single,
        }
    }

    /// Each level carries what leaves its children for one another; the levels work side by side.
    fn direct(&self, bytes: f64) -> Way {
        let ranks = self.group.ranks as f64;
        let (mut below, mut transfer, mut latency) = (1.0, 0.0_f64, 0.0);
        for (level, crossing) in self.path.used() {
            let members = crossing.members as f64;
            transfer = transfer.max(below * bytes * (members - below) / ranks / crossing.bandwidth);
            latency = level.latency + (ring_hop(level.interconnect)[2] + 0.3 * (members - below)) * 1e-6;
            below = members;
        }
        let latency = POINT_TO_POINT_BASE * 1e-6 + latency;
        Way { algorithm: Algorithm::Direct, protocol: Protocol::Simple, latency, transfer }
    }

    /// All shards come in over the root's own ports.
    fn gather(&self, bytes: f64) -> Way {
        let ranks = self.group.ranks as f64;
        let (mut below, mut transfer, mut latency) = (1.0, 0.0_f64, 0.0);
        for (level, crossing) in self.path.used() {
            let members = crossing.members as f64;
            transfer = transfer.max(bytes * (ranks - below) / ranks / crossing.single);
            latency = level.latency + ring_hop(level.interconnect)[2] * 1e-6;
            below = members;
        }
        let latency = POINT_TO_POINT_BASE * 1e-6 + latency;
        Way { algorithm: Algorithm::Direct, protocol: Protocol::Simple, latency, transfer }
    }
}

/// What costs nothing.
pub(super) fn nothing(algorithm: Algorithm) -> Way {
    Way { algorithm, protocol: Protocol::Messages, latency: 0.0, transfer: 0.0 }
}
