//! What the ranks of a process know of their world.

use std::sync::{Arc, OnceLock};

use cutplane_plan::Rank;

use super::launch::MpiProcesses;
use super::raw::Channel;
use crate::comm::CommOptions;

/// What the ranks of this process share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) processes: Arc<MpiProcesses>,
    pub(super) channel: Channel,
    pub(super) options: CommOptions,
    pub(super) size: usize,
    /// Ranks of a process.
    pub(super) share: usize,
    pub(super) failure: OnceLock<(Rank, String)>,
}

impl World {
    /// The process of a rank.
    pub(super) fn process(&self, rank: Rank) -> usize {
        rank.index() / self.share
    }

    /// The number of a rank in its process.
    pub(super) fn local(&self, rank: Rank) -> i32 {
        (rank.index() % self.share) as i32
    }
}
