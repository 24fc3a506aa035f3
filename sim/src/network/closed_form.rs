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
