//! Gradient synchronisation.

use std::time::Duration;

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_plan::{GroupId, Rank, SyncGroup};

use super::transfer::{Roads, hand_over, take};
use crate::backend::{Backend, Residence};
use crate::comm::{CommError, Communicator, Payload};
use crate::segment::SegmentRunner;

/// Gradients of fewer numbers than this (16 KiB) travel packed together: meeting costs more than copying them.
const PACKED_BELOW: u64 = 4096;
/// Numbers of messages from here on belong to sums on a device; those of programs have 32 bits.
const SUMS: u64 = 1 << 32;

/// The all-reduce of a group: large gradients in place, one after another; small ones packed.
#[derive(Clone, Debug)]
pub(super) struct GradientSync {
    ranks: Vec<Rank>,
    in_place: Vec<ParamId>,
    packed: Vec<ParamId>,
    message: u64,
}

impl GradientSync {
    pub(super) fn new(model: &ModelGraph, id: GroupId, group: &SyncGroup) -> Self {
        let small = |param: &ParamId| model.param(*param).elements() < PACKED_BELOW;
        let (packed, in_place) = group.params.iter().partition(|param| small(param));
        Self { ranks: group.ranks.clone(), in_place, packed, message: SUMS + u64::from(id.0) }
    }

    /// Replaces the gradients of the group's parameters by their sums over the group. Returns the time for which the rank
    /// was blocked before the others had arrived.
    ///
    /// # Errors
    /// [`CommError`].
    pub(super) fn run(
        &self,
        comm: &impl Communicator,
        roads: &Roads,
        runner: &mut SegmentRunner,
    ) -> Result<Duration, CommError> {
        // Only the first meeting waits for a rank that is late; after it the ranks keep step.
        let waited = comm.barrier(&self.ranks)?;
        let backend = &roads.backends[comm.rank().index()];
        if roads.on_device(comm, &self.ranks) {
            self.sum_on_device(comm, roads, backend, runner)?;
        } else {
            self.sum_on_host(comm, runner, backend)?;
        }
        Ok(waited)
    }

    fn sum_on_host(
        &self,
        comm: &impl Communicator,
        runner: &mut SegmentRunner,
        backend: &Backend,
    ) -> Result<(), CommError> {
        for param in &self.in_place {
            match backend.residence() {
                // A group names only parameters that all its ranks hold.
                Residence::Host => {
                    comm.all_reduce(&self.ranks, runner.gradient_mut(*param).unwrap_or_default())?;
                }
                Residence::Device => self.sum_staged(comm, runner, &[*param])?,
            }
        }
        if self.packed.is_empty() { Ok(()) } else { self.sum_staged(comm, runner, &self.packed) }
    }

    fn sum_staged(
        &self,
        comm: &impl Communicator,
        runner: &mut SegmentRunner,
        params: &[ParamId],
    ) -> Result<(), CommError> {
        let mut buffer = Vec::new();
        runner.read_gradients(params, &mut buffer);
        comm.all_reduce(&self.ranks, &mut buffer)?;
        runner.write_gradients(params, &buffer);
        Ok(())
    }

    /// The first rank of the group sums all gradients, in rank order and in its own stream, and hands every rank the same
    /// sums: on one card the work is done once. Streams wait for each other where a tensor passes from one to the other.
    fn sum_on_device(
        &self,
        comm: &impl Communicator,
        roads: &Roads,
        backend: &Backend,
        runner: &mut SegmentRunner,
    ) -> Result<(), CommError> {
        let params: Vec<ParamId> = self.in_place.iter().chain(&self.packed).copied().collect();
        let full = backend.in_full();
        let mut sums: Payload = runner.take_device_gradients(&params);
        let root = self.ranks[0];
        if comm.rank() == root {
            for rank in &self.ranks[1..] {
                let theirs = take(comm, *rank, self.message)?.value;
                sums.iter_mut().zip(theirs).for_each(|(sum, gradient)| sum.add(gradient, &full));
            }
            for rank in &self.ranks[1..] {
                hand_over(comm, roads, *rank, self.message, sums.clone())?;
            }
        } else {
            hand_over(comm, roads, root, self.message, sums)?;
            sums = take(comm, root, self.message)?.value;
        }
        runner.put_device_gradients(&params, sums);
        Ok(())
    }
}
