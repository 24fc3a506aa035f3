//! The textbook forms, in seconds: `alpha` the latency of a hop (s), `bandwidth` of a rank in one direction (bytes/s),
//! `bytes` the whole buffer. They hold for a uniform network and a library without overheads; goldens check them.

/// Ring all-reduce (Patarasu and Yuan 2009): `2 (p - 1) a + 2 (p - 1) / p n / B`.
pub fn ring_all_reduce(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    2.0 * ring_half(ranks, bytes, alpha, bandwidth)
}

/// Ring all-gather, ring reduce-scatter and pairwise all-to-all: `(p - 1) a + (p - 1) / p n / B`.
pub fn ring_half(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    let steps = ranks.saturating_sub(1) as f64;
    steps * alpha + steps / ranks.max(1) as f64 * bytes / bandwidth
}

/// Pipelined broadcast or reduce along a chain: `(p - 1) a + n / B`.
pub fn chain_broadcast(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    if ranks < 2 { 0.0 } else { (ranks - 1) as f64 * alpha + bytes / bandwidth }
}

/// Double binary tree all-reduce (Sanders et al. 2009): `2 log2(p) a + 2 n / B`.
pub fn double_tree_all_reduce(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    if ranks < 2 { 0.0 } else { 2.0 * (ranks as f64).log2().ceil() * alpha + 2.0 * bytes / bandwidth }
}

/// Recursive doubling: `ceil(log2 p) (a + n / B)`.
pub fn recursive_doubling(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    (ranks.max(1) as f64).log2().ceil() * (alpha + bytes / bandwidth)
}

/// Halving and doubling (Rabenseifner 2004): `2 ceil(log2 p) a + 2 (p - 1) / p n / B`.
pub fn halving_doubling(ranks: usize, bytes: f64, alpha: f64, bandwidth: f64) -> f64 {
    let volume = 2.0 * ranks.saturating_sub(1) as f64 / ranks.max(1) as f64 * bytes;
    2.0 * (ranks.max(1) as f64).log2().ceil() * alpha + volume / bandwidth
}

/// Hierarchical all-reduce over `nodes` nodes of `each` ranks (Cho et al. 2019): reduce-scatter inside, an all-reduce of
/// `1 / g` of the buffer between the nodes for each rank, all-gather inside. `across` is what a rank has between nodes.
pub fn hierarchical_all_reduce(each: usize, nodes: usize, bytes: f64, alpha: f64, inside: f64, across: f64) -> f64 {
    ring_all_reduce(each, bytes, alpha, inside) + ring_all_reduce(nodes, bytes / each.max(1) as f64, alpha, across)
}

/// Bytes over a card in one direction while all workers push, or pull, at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerTraffic {
    /// Of the busiest worker node.
    pub worker: f64,
    /// Of the busiest server node.
    pub server: f64,
}

/// Traffic of one phase of parameter servers (Li et al. 2014): `nodes` nodes with `each` workers, `servers` shards of
/// `bytes` bytes in even parts. A colocated server's own workers reach it without the network; the servers are spread
/// over the nodes evenly, and a node's card carries what it serves and what it pulls in opposite directions.
pub fn parameter_server_traffic(
    nodes: usize,
    each: usize,
    servers: usize,
    colocated: bool,
    bytes: f64,
) -> ServerTraffic {
    let (nodes, each, servers) = (nodes.max(1) as f64, each as f64, servers.max(1) as f64);
    if !colocated {
        return ServerTraffic { worker: each * bytes, server: nodes * each * bytes / servers };
    }
    let busiest = (servers / nodes).ceil() / servers;
    let idlest = (servers / nodes).floor() / servers;
    ServerTraffic { worker: each * bytes * (1.0 - idlest), server: (nodes - 1.0) * each * bytes * busiest }
}

/// Push and pull one after the other: `2 a + 2 max(n / B_w, p n / (S B_s))`.
pub fn parameter_server(workers: usize, servers: usize, bytes: f64, alpha: f64, worker: f64, server: f64) -> f64 {
    let traffic = parameter_server_traffic(workers, 1, servers, false, bytes);
    2.0 * alpha + 2.0 * (traffic.worker / worker).max(traffic.server / server)
}

/// Latency and bus bandwidth that NCCL 2.12 assumes of a way (`src/graph/tuning.cc`): microseconds of its start, of a hop
/// inside a node and of one between nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NcclHops {
    /// Of its start.
    pub base: f64,
    /// Of a hop inside a node.
    pub inside: f64,
    /// Of a hop between nodes.
    pub between: f64,
}

/// Trees with the protocols LL, LL128 and Simple over NVLink and network, us.
pub const NCCL_2_12_TREES: [NcclHops; 3] = [
    NcclHops { base: 4.4, inside: 0.52, between: 5.0 },
    NcclHops { base: 4.4, inside: 1.25, between: 8.5 },
    NcclHops { base: 0.0, inside: 28.0, between: 28.0 },
];

/// Rings with the protocols LL, LL128 and Simple over NVLink and network, us.
pub const NCCL_2_12_RINGS: [NcclHops; 3] = [
    NcclHops { base: 3.6, inside: 0.47, between: 2.7 },
    NcclHops { base: 10.0, inside: 1.9, between: 4.0 },
    NcclHops { base: 8.4, inside: 3.4, between: 28.0 },
];

/// Share of the tree's bandwidth that NCCL counts on.
const TREE_SHARE: f64 = 0.92;

impl NcclHops {
    /// Seconds of a double binary tree over `nodes` nodes of `each` ranks: `base + 2 ((R / N - 1) l_in + log2(N) l_out)`, and
    /// twice the buffer at 0.92 of the bandwidth.
    pub fn tree_all_reduce(&self, nodes: usize, each: usize, bytes: f64, bandwidth: f64) -> f64 {
        let climb = each.saturating_sub(1) as f64 * self.inside + (nodes.max(1) as f64).log2() * self.between;
        (self.base + 2.0 * climb) * 1e-6 + 2.0 * bytes / (bandwidth * TREE_SHARE)
    }

    /// Seconds of a ring: `2 (R - 1)` steps, of which `2 N` cross nodes, and `2 (R - 1) / R` of the buffer.
    pub fn ring_all_reduce(&self, nodes: usize, each: usize, bytes: f64, bandwidth: f64) -> f64 {
        let ranks = nodes * each;
        let steps = 2 * ranks.saturating_sub(1);
        let crossing = if nodes > 1 { (2 * nodes).min(steps) } else { 0 };
        let hops = (steps - crossing) as f64 * self.inside + crossing as f64 * self.between;
        (self.base + hops) * 1e-6 + steps as f64 / ranks.max(1) as f64 * bytes / bandwidth
    }
}
