//! What every communicator refuses before it does anything.

use cutplane_plan::Rank;

use super::error::CommError;

pub(super) fn peer(rank: Rank, peer: Rank, size: usize) -> Result<(), CommError> {
    if peer.index() < size { Ok(()) } else { Err(CommError::UnknownRank { rank, peer, size }) }
}

/// A group is ascending, within the world, and holds the caller.
pub(super) fn group(rank: Rank, group: &[Rank], size: usize) -> Result<(), CommError> {
    let ascending = group.windows(2).all(|pair| pair[0] < pair[1]);
    let known = group.last().is_some_and(|last| last.index() < size);
    let fits = ascending && known && group.contains(&rank);
    if fits { Ok(()) } else { Err(CommError::Group { rank, group: group.to_vec(), size }) }
}

/// The place of the root in the group.
pub(super) fn root(rank: Rank, group: &[Rank], root: Rank, size: usize) -> Result<usize, CommError> {
    let unknown = CommError::UnknownRank { rank, peer: root, size };
    group.iter().position(|member| *member == root).ok_or(unknown)
}

/// One of two buffers has one part for each rank of the group, the other one part.
pub(super) fn sizes(
    rank: Rank,
    what: &'static str,
    (input, output): (usize, usize),
    group: &[Rank],
) -> Result<(), CommError> {
    let group = group.len();
    let fits = match what {
        "all-gather" => input * group == output,
        "all-to-all" => input == output && input.is_multiple_of(group.max(1)),
        _ => output * group == input,
    };
    if fits { Ok(()) } else { Err(CommError::BufferSize { rank, what, input, output, group }) }
}
