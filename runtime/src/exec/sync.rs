//! Gradient synchronisation.

use std::time::Duration;

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_plan::{Rank, SyncGroup};

use crate::comm::{CommError, Communicator};
use crate::segment::SegmentRunner;

/// Gradients of fewer numbers than this (16 KiB) travel packed together: meeting costs more than copying them.
const PACKED_BELOW: u64 = 4096;

/// The all-reduce of a group: large gradients in place, one after another; small ones packed.
#[derive(Clone, Debug)]
pub(super) struct GradientSync {
    ranks: Vec<Rank>,
    in_place: Vec<ParamId>,
    packed: Vec<ParamId>,
}

impl GradientSync {
    pub(super) fn new(model: &ModelGraph, group: &SyncGroup) -> Self {
        let small = |param: &ParamId| model.param(*param).elements() < PACKED_BELOW;
        let (packed, in_place) = group.params.iter().partition(|param| small(param));
        Self { ranks: group.ranks.clone(), in_place, packed }
    }

    /// Replaces the gradients of the group's parameters by their sums over the group. Returns the time for which the rank
    /// was blocked before the others had arrived.
    ///
    /// # Errors
    /// [`CommError`].
    pub(super) fn run(&self, comm: &impl Communicator, runner: &mut SegmentRunner) -> Result<Duration, CommError> {
        // Only the first meeting waits for a rank that is late; after it the ranks keep step.
        let waited = comm.barrier(&self.ranks)?;
        for param in &self.in_place {
            // A group names only parameters that all its ranks hold.
            comm.all_reduce(&self.ranks, runner.gradient_mut(*param).unwrap_or_default())?;
        }
        if !self.packed.is_empty() {
            let mut buffer = Vec::new();
            runner.read_gradients(&self.packed, &mut buffer);
            comm.all_reduce(&self.ranks, &mut buffer)?;
            runner.write_gradients(&self.packed, &buffer);
        }
        Ok(waited)
    }
}
