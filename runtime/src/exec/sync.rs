//! Gradient synchronisation.

use std::time::Duration;

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_plan::{Action, GroupId, Ownership, Rank, SyncGroup};

use super::transfer::{Roads, hand_over, take};
use crate::backend::{Backend, Residence};
use crate::comm::{CommError, Communicator, Payload};
use crate::segment::SegmentRunner;

/// Gradients of fewer numbers than this (16 KiB) travel packed together: meeting costs more than copying them.
const PACKED_BELOW: u64 = 4096;
/// Numbers of messages from here on belong to sums on a device; those of programs have 32 bits.
const SUMS: u64 = 1 << 32;

/// The exchanges of a group. An all-reduce sums large gradients in place, one after another, and small ones packed; the
/// others move all parameters or gradients of the group end to end, through the host.
#[derive(Clone, Debug)]
pub(super) struct GradientSync {
    group: SyncGroup,
    server: Rank,
    /// Elements of the parameters, in the group's order.
    elements: Vec<usize>,
    in_place: Vec<ParamId>,
    packed: Vec<ParamId>,
    message: u64,
}

impl GradientSync {
    pub(super) fn new(model: &ModelGraph, id: GroupId, group: &SyncGroup) -> Self {
        let small = |param: &ParamId| model.param(*param).elements() < PACKED_BELOW;
        let (packed, in_place) = group.params.iter().partition(|param| small(param));
        let elements = group.params.iter().map(|param| model.param(*param).elements() as usize).collect();
        let (server, message) = (group.server(id), SUMS + u64::from(id.0));
        Self { group: group.clone(), server, elements, in_place, packed, message }
    }

    /// Tells the runner of `rank` which numbers of the group's parameters it updates.
    pub(super) fn divide(&self, rank: Rank, runner: &mut SegmentRunner) {
        let Some(position) = self.group.ranks.iter().position(|member| *member == rank) else { return };
        match self.group.ownership {
            Ownership::Everybody => {}
            Ownership::Shares => {
                for (param, numbers) in self.shares(position) {
                    runner.own(param, numbers);
                }
            }
            Ownership::Server => {
                let owned = |elements: usize| if self.server == rank { 0..elements } else { 0..0 };
                self.group.params.iter().zip(&self.elements).for_each(|(id, n)| runner.own(*id, owned(*n)));
            }
        }
    }

    /// Forgets the group's parameters but for the rank's share.
    pub(super) fn release(&self, runner: &mut SegmentRunner) {
        self.group.params.iter().for_each(|param| runner.release(*param));
    }

    /// Executes a collective of the group. Returns the time for which the rank was blocked before the others had arrived.
    ///
    /// # Errors
    /// [`CommError`].
    pub(super) fn run(
        &self,
        action: Action,
        comm: &impl Communicator,
        roads: &Roads,
        runner: &mut SegmentRunner,
    ) -> Result<Duration, CommError> {
        match action {
            Action::ReduceScatter { .. } => self.reduce_scatter(comm, runner),
            Action::AllGather { .. } => self.all_gather(comm, runner),
            Action::Reduce { .. } => self.reduce(comm, runner),
            Action::Broadcast { .. } => self.broadcast(comm, runner),
            _ => self.all_reduce(comm, roads, runner),
        }
    }

    /// The part of each parameter that the rank at `position` owns, by the part of the group that it owns.
    fn shares(&self, position: usize) -> Vec<(ParamId, std::ops::Range<usize>)> {
        let share = self.group.share(position, self.elements.iter().sum());
        let mut first = 0;
        let part = |(param, elements): (&ParamId, &usize)| {
            let clamp = |x: usize| x.clamp(first, first + elements) - first;
            let numbers = clamp(share.start)..clamp(share.end);
            first += elements;
            (*param, numbers)
        };
        self.group.params.iter().zip(&self.elements).map(part).collect()
    }

    /// Length of the equal parts that a collective moves; the last ones are padded with zeros.
    fn part(&self) -> usize {
        self.group.share(0, self.elements.iter().sum()).len()
    }

    fn position(&self, comm: &impl Communicator) -> usize {
        self.group.ranks.iter().position(|rank| *rank == comm.rank()).unwrap_or(0)
    }

    /// Sums gradients and leaves each rank the sum of its share.
    fn reduce_scatter(&self, comm: &impl Communicator, runner: &mut SegmentRunner) -> Result<Duration, CommError> {
        let (mut all, mut own) = (Vec::new(), vec![0.0; self.part()]);
        runner.read_gradients(&self.group.params, &mut all);
        all.resize(own.len() * self.group.ranks.len(), 0.0);
        let waited = comm.reduce_scatter(&self.group.ranks, &all, &mut own)?;
        let mut rest = own.as_slice();
        for (param, numbers) in self.shares(self.position(comm)) {
            let (mine, others) = rest.split_at(numbers.len());
            rest = others;
            runner.set_owned_gradient(param, mine);
        }
        Ok(waited)
    }

    /// Puts the parameters together from the shares of all ranks.
    fn all_gather(&self, comm: &impl Communicator, runner: &mut SegmentRunner) -> Result<Duration, CommError> {
        let part = self.part();
        let (mut own, mut all) = (Vec::with_capacity(part), vec![0.0; part * self.group.ranks.len()]);
        self.group.params.iter().for_each(|param| runner.read_owned(*param, &mut own));
        own.resize(part, 0.0);
        let waited = comm.all_gather(&self.group.ranks, &own, &mut all)?;
        self.set_parameters(runner, &all);
        Ok(waited)
    }

    /// Sums gradients on the server.
    fn reduce(&self, comm: &impl Communicator, runner: &mut SegmentRunner) -> Result<Duration, CommError> {
        let mut all = Vec::new();
        runner.read_gradients(&self.group.params, &mut all);
        let waited = comm.reduce(&self.group.ranks, self.server, &mut all)?;
        if comm.rank() == self.server {
            runner.write_gradients(&self.group.params, &all);
        }
        Ok(waited)
    }

    /// Gives everybody the parameters of the server.
    fn broadcast(&self, comm: &impl Communicator, runner: &mut SegmentRunner) -> Result<Duration, CommError> {
        let mut all = Vec::new();
        if comm.rank() == self.server {
            self.group.params.iter().for_each(|param| runner.read_owned(*param, &mut all));
        }
        all.resize(self.elements.iter().sum(), 0.0);
        let waited = comm.broadcast(&self.group.ranks, self.server, &mut all)?;
        self.set_parameters(runner, &all);
        Ok(waited)
    }

    pub(super) fn set_parameters(&self, runner: &mut SegmentRunner, all: &[f32]) {
        let mut rest = all;
        for (param, elements) in self.group.params.iter().zip(&self.elements) {
            let (own, others) = rest.split_at(*elements);
            rest = others;
            runner.set_parameter(*param, own.to_vec());
        }
    }

    /// Replaces the gradients of the group's parameters by their sums over the group.
    pub(super) fn all_reduce(
        &self,
        comm: &impl Communicator,
        roads: &Roads,
        runner: &mut SegmentRunner,
    ) -> Result<Duration, CommError> {
        // Only the first meeting waits for a rank that is late; after it the ranks keep step.
        let waited = comm.barrier(&self.group.ranks)?;
        let backend = &roads.backends[comm.rank().index()];
        if roads.on_device(comm, &self.group.ranks) {
            self.sum_on_device(comm, roads, backend, runner)?;
        } else if !self.sum_between_cards(comm, runner, backend)? {
            self.sum_on_host(comm, runner, backend)?;
        }
        Ok(waited)
    }

    /// Sums where the gradients are, on a card of each rank; false, with nothing done, where the communicator cannot.
    fn sum_between_cards(
        &self,
        comm: &impl Communicator,
        runner: &mut SegmentRunner,
        backend: &Backend,
    ) -> Result<bool, CommError> {
        if backend.card().is_none() {
            return Ok(false);
        }
        let params: Vec<ParamId> = self.in_place.iter().chain(&self.packed).copied().collect();
        let mut sums: Payload = runner.take_device_gradients(&params);
        let done = comm.all_reduce_on_device(&self.group.ranks, &mut sums)?;
        runner.put_device_gradients(&params, sums);
        Ok(done)
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
                    comm.all_reduce(&self.group.ranks, runner.gradient_mut(*param).unwrap_or_default())?;
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
        comm.all_reduce(&self.group.ranks, &mut buffer)?;
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
        let root = self.group.ranks[0];
        if comm.rank() == root {
            for rank in &self.group.ranks[1..] {
                let theirs = take(comm, *rank, self.message)?.value;
                sums.iter_mut().zip(theirs).for_each(|(sum, gradient)| sum.add(gradient, &full));
            }
            for rank in &self.group.ranks[1..] {
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
