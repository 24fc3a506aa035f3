//! How communication fails. No call waits for ever: each of these is an answer within the timeout.

use std::time::Duration;

use cutplane_plan::Rank;
use thiserror::Error;

/// A message or a collective that could not be completed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommError {
    /// A peer did not come in time.
    #[error("{rank} waited {} s for {what} from {}; a rank is stuck, or the timeout is too short for this model", after.as_secs_f64(), names(peers))]
    Timeout {
        /// Who waited.
        rank: Rank,
        /// For what: a message or a collective.
        what: String,
        /// Who did not come.
        peers: Vec<Rank>,
        /// How long.
        after: Duration,
    },
    /// Another rank has reported a failure; this one stops too.
    #[error("{rank} stopped because {failed} failed: {reason}")]
    PeerFailed {
        /// Who stops.
        rank: Rank,
        /// Who failed.
        failed: Rank,
        /// Its reason.
        reason: String,
    },
    /// A peer has left the world and will never answer.
    #[error("{rank} needs {peer} for {what}, but {peer} has left")]
    PeerGone {
        /// Who needs it.
        rank: Rank,
        /// Who has left.
        peer: Rank,
        /// For what.
        what: String,
    },
    /// The ranks of a group called different collectives, or the same one with different sizes.
    #[error("{rank}: the ranks of a group disagree: {}", calls.join("; "))]
    Mismatch {
        /// Who reports it; every rank of the group does.
        rank: Rank,
        /// What each rank called.
        calls: Vec<String>,
    },
    /// A group that is empty, not ascending, beyond the world, or without the calling rank.
    #[error(
        "{rank} called a collective on the group [{}], which must be ascending, within {size} ranks, and hold {rank}",
        names(group)
    )]
    Group {
        /// The caller.
        rank: Rank,
        /// The group.
        group: Vec<Rank>,
        /// Ranks in the world.
        size: usize,
    },
    /// A rank beyond the world.
    #[error("{rank} addressed {peer}, but the world has {size} ranks")]
    UnknownRank {
        /// The caller.
        rank: Rank,
        /// The address.
        peer: Rank,
        /// Ranks in the world.
        size: usize,
    },
    /// Buffers of one call whose sizes do not fit each other.
    #[error("{rank}: {what} with {input} numbers in and {output} out over {group} ranks, which do not fit each other")]
    BufferSize {
        /// The caller.
        rank: Rank,
        /// The collective.
        what: &'static str,
        /// Length of the input.
        input: usize,
        /// Length of the output.
        output: usize,
        /// Ranks in the group.
        group: usize,
    },
    /// The library that carries messages between processes has failed.
    #[error("{rank}: {what} failed: {problem}")]
    Transport {
        /// The caller.
        rank: Rank,
        /// What was being done.
        what: String,
        /// What the library says.
        problem: String,
    },
}

fn names(ranks: &[Rank]) -> String {
    ranks.iter().map(Rank::to_string).collect::<Vec<_>>().join(", ")
}
