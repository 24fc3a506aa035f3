//! What a collective moves.

/// A collective operation. `bytes` of a call are always those of the *whole* buffer: what each rank holds before an
/// all-reduce, reduce-scatter, broadcast, reduce or all-to-all, and what each rank holds after an all-gather or gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Collective {
    /// Every rank gets the sum of all buffers.
    AllReduce,
    /// Every rank gets the shards of all ranks.
    AllGather,
    /// Every rank gets its shard of the sum.
    ReduceScatter,
    /// Every rank gets the root's buffer.
    Broadcast,
    /// The root gets the sum of all buffers.
    Reduce,
    /// Every rank sends `1 / p` of its buffer to every rank.
    AllToAll,
    /// One rank sends its buffer to one other: the two are neighbours of the group (the next rank of its node, or with one
    /// rank a node the same rank of the next node).
    SendRecv,
    /// The root gets the shards of all ranks.
    Gather,
    /// Every rank pushes its gradients to parameter servers and pulls the parameters back (Li et al. 2014).
    ParameterServer {
        /// Servers that the parameters are sharded over.
        servers: usize,
        /// Whether the servers sit on the workers' nodes and share their network cards.
        colocated: bool,
    },
}

impl Collective {
    /// Bytes that the busiest rank moves in each direction, over the bytes of the buffer: the factor between algorithm and
    /// bus bandwidth (nccl-tests, `doc/PERFORMANCE.md`). A parameter server's is that of one worker.
    pub fn bus_factor(self, ranks: usize) -> f64 {
        let p = ranks.max(1) as f64;
        match self {
            Self::AllReduce => 2.0 * (p - 1.0) / p,
            Self::AllGather | Self::ReduceScatter | Self::AllToAll | Self::Gather => (p - 1.0) / p,
            Self::Broadcast | Self::Reduce | Self::SendRecv => f64::from(u8::from(ranks > 1)),
            Self::ParameterServer { .. } => 2.0,
        }
    }
}
