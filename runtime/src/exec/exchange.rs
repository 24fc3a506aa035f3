//! Values that change their layout over the ranks of a tensor axis. They go through the host.

use std::time::Duration;

use cutplane_graph::sharding::Layout;
use cutplane_graph::{Exchange, OpKind, axis_places};
use cutplane_plan::{Direction, Program, Rank, SegmentId};

use super::step::{Fault, RankState};
use crate::comm::Communicator;
use crate::tensor::HostTensor;

/// A layout with the extents of the parts that a split axis is packed of.
#[derive(Clone, Copy)]
struct Lies<'a> {
    layout: Layout,
    parts: &'a [u64],
}

impl<C: Communicator> RankState<C> {
    /// Brings a value, or its gradient, into the layout that its readers take it in.
    pub(super) fn exchange(
        &mut self,
        micro_batch: u64,
        segment: SegmentId,
        direction: Direction,
    ) -> Result<Duration, Fault> {
        let shared = self.shared.clone();
        let facts = shared.program.segment(segment);
        let (input, output) = (facts.inputs[0], facts.outputs[0]);
        let OpKind::Exchange(exchange) = &shared.model.op(facts.ops[0]).kind else {
            return Err(Fault::Program(format!("{segment} is no exchange")));
        };
        let missing = || Fault::Program(format!("{segment} exchanges a value that is not there"));
        let given = match direction {
            Direction::Activation => self.store.inputs(micro_batch, segment, &[input]),
            Direction::Gradient => self.store.gradients(micro_batch, &[output]),
        };
        let (_, tensor) = given.into_iter().next().ok_or_else(missing)?;
        let axis = Axis { ranks: peers(&shared.program, self.rank), rank: self.rank, comm: &self.comm };
        let batched = usize::from(shared.model.value(input).ty.batched);
        let (from, to) = lies(exchange, direction);
        let (tensor, waited) = axis.relayout(tensor, batched, from, to)?;
        let backend = &shared.roads.backends[self.rank.index()];
        let tensor = tensor.arrived(backend);
        match direction {
            Direction::Activation => self.store.put(micro_batch, vec![(output, tensor)]),
            Direction::Gradient => self.store.put_gradients(micro_batch, vec![(input, tensor)], backend),
        }
        Ok(waited)
    }
}

fn lies(exchange: &Exchange, direction: Direction) -> (Lies<'_>, Lies<'_>) {
    let (from, to) = (&exchange.from, &exchange.to);
    match direction {
        Direction::Activation => (
            Lies { layout: from.value, parts: &exchange.from_parts },
            Lies { layout: to.value, parts: &exchange.to_parts },
        ),
        Direction::Gradient => (
            Lies { layout: to.gradient, parts: &exchange.to_parts },
            Lies { layout: from.gradient, parts: &exchange.from_parts },
        ),
    }
}

/// The ranks of the tensor axis that a rank is on.
fn peers(program: &Program, rank: Rank) -> Vec<Rank> {
    let degree = program.tensor_degree() as u32;
    let first = rank.0 / degree * degree;
    (first..first + degree).map(Rank).collect()
}

/// The ranks of a tensor axis, seen from one of them.
struct Axis<'c, C> {
    ranks: Vec<Rank>,
    rank: Rank,
    comm: &'c C,
}

impl<C: Communicator> Axis<'_, C> {
    fn places(&self, extent: usize, parts: &[u64], rank: usize) -> Vec<usize> {
        axis_places(extent as u64, parts, self.ranks.len() as u64, rank as u64)
    }

    /// The tensor in another layout, and for how long its peers were waited for. `batched` is 1 for a tensor with a batch
    /// axis before those that layouts count.
    fn relayout(
        &self,
        tensor: HostTensor,
        batched: usize,
        from: Lies<'_>,
        to: Lies<'_>,
    ) -> Result<(HostTensor, Duration), Fault> {
        if from.layout == to.layout && from.parts == to.parts {
            return Ok((tensor, Duration::ZERO));
        }
        let shape = tensor.shape.clone();
        let numbers = tensor.into_f32().ok_or_else(|| Fault::Program("integers are not exchanged".to_owned()))?;
        let whole = Block { shape, numbers };
        let at = |axis: usize| axis + batched;
        let (block, waited) = match (from.layout, to.layout) {
            (Layout::Replicated, Layout::Replicated) => (whole, Duration::ZERO),
            (Layout::Replicated, Layout::Axis(axis)) => (self.slice(&whole, at(axis), to.parts), Duration::ZERO),
            (Layout::Replicated, Layout::Partial) => (self.summand(whole), Duration::ZERO),
            (Layout::Partial, Layout::Replicated) => self.sum(whole)?,
            (Layout::Partial, Layout::Axis(axis)) => self.sum_slices(&whole, at(axis), to.parts)?,
            (Layout::Axis(axis), Layout::Replicated) => self.gather(&whole, at(axis), from.parts)?,
            (Layout::Axis(axis), Layout::Partial) => (self.pad(&whole, at(axis), from.parts), Duration::ZERO),
            (Layout::Axis(left), Layout::Axis(right)) if left == right => {
                let (all, waited) = self.gather(&whole, at(left), from.parts)?;
                (self.slice(&all, at(right), to.parts), waited)
            }
            (Layout::Axis(left), Layout::Axis(right)) => self.swap(&whole, (at(left), from), (at(right), to))?,
            (from, to) => return Err(Fault::Program(format!("no exchange from {from:?} to {to:?}"))),
        };
        Ok((HostTensor::f32(block.shape, block.numbers), waited))
    }

    fn position(&self) -> usize {
        self.ranks.iter().position(|rank| *rank == self.rank).unwrap_or(0)
    }

    fn slice(&self, whole: &Block, axis: usize, parts: &[u64]) -> Block {
        whole.select(axis, &self.places(whole.shape[axis], parts, self.position()))
    }

    /// One of several equal tensors counts as the sum, the others as zero.
    fn summand(&self, mut whole: Block) -> Block {
        if self.position() > 0 {
            whole.numbers.fill(0.0);
        }
        whole
    }

    fn sum(&self, mut part: Block) -> Result<(Block, Duration), Fault> {
        let waited = self.comm.all_reduce(&self.ranks, &mut part.numbers)?;
        Ok((part, waited))
    }

    /// The slices of all ranks, one after another.
    fn slices(&self, whole: &Block, axis: usize, parts: &[u64]) -> (Vec<usize>, Vec<f32>) {
        let (mut shape, mut numbers) = (whole.shape.clone(), Vec::with_capacity(whole.numbers.len()));
        for rank in 0..self.ranks.len() {
            let places = self.places(whole.shape[axis], parts, rank);
            whole.copy_out(axis, &places, &mut numbers);
            shape[axis] = places.len();
        }
        (shape, numbers)
    }

    fn sum_slices(&self, whole: &Block, axis: usize, parts: &[u64]) -> Result<(Block, Duration), Fault> {
        let (shape, slices) = self.slices(whole, axis, parts);
        let mut numbers = vec![0.0; slices.len() / self.ranks.len()];
        let waited = self.comm.reduce_scatter(&self.ranks, &slices, &mut numbers)?;
        Ok((Block { shape, numbers }, waited))
    }

    fn gather(&self, mine: &Block, axis: usize, parts: &[u64]) -> Result<(Block, Duration), Fault> {
        let mut all = vec![0.0; mine.numbers.len() * self.ranks.len()];
        let waited = self.comm.all_gather(&self.ranks, &mine.numbers, &mut all)?;
        Ok((self.assemble(&mine.shape, &all, axis, parts), waited))
    }

    /// Puts slices of all ranks together along an axis.
    fn assemble(&self, slice: &[usize], all: &[f32], axis: usize, parts: &[u64]) -> Block {
        let mut whole = Block::zeros(slice, axis, self.ranks.len());
        let length = (all.len() / self.ranks.len()).max(1);
        for (rank, numbers) in all.chunks_exact(length).enumerate() {
            whole.insert(axis, &self.places(whole.shape[axis], parts, rank), numbers);
        }
        whole
    }

    fn pad(&self, mine: &Block, axis: usize, parts: &[u64]) -> Block {
        let mut whole = Block::zeros(&mine.shape, axis, self.ranks.len());
        whole.insert(axis, &self.places(whole.shape[axis], parts, self.position()), &mine.numbers);
        whole
    }

    /// Splits along one axis what was split along another: every rank sends every other a slice.
    fn swap(
        &self,
        mine: &Block,
        (left, from): (usize, Lies<'_>),
        (right, to): (usize, Lies<'_>),
    ) -> Result<(Block, Duration), Fault> {
        let (shape, slices) = self.slices(mine, right, to.parts);
        let mut all = vec![0.0; slices.len()];
        let waited = self.comm.all_to_all(&self.ranks, &slices, &mut all)?;
        Ok((self.assemble(&shape, &all, left, from.parts), waited))
    }
}

/// Numbers in row-major order.
struct Block {
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl Block {
    /// Zeros in the shape of `ranks` slices put together along `axis`.
    fn zeros(slice: &[usize], axis: usize, ranks: usize) -> Self {
        let mut shape = slice.to_vec();
        shape[axis] *= ranks;
        Self { numbers: vec![0.0; shape.iter().product()], shape }
    }

    fn inner(&self, axis: usize) -> usize {
        self.shape[axis + 1..].iter().product()
    }

    /// These places of an axis.
    fn select(&self, axis: usize, places: &[usize]) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = places.len();
        let mut numbers = Vec::with_capacity(shape.iter().product());
        self.copy_out(axis, places, &mut numbers);
        Self { shape, numbers }
    }

    /// Appends what is at these places of an axis.
    fn copy_out(&self, axis: usize, places: &[usize], numbers: &mut Vec<f32>) {
        let inner = self.inner(axis);
        for row in self.numbers.chunks_exact((self.shape[axis] * inner).max(1)) {
            for stretch in stretches(places) {
                numbers.extend_from_slice(&row[stretch[0] * inner..][..stretch.len() * inner]);
            }
        }
    }

    /// Writes these places of an axis; there are as many numbers as they have.
    fn insert(&mut self, axis: usize, places: &[usize], mut numbers: &[f32]) {
        let inner = self.inner(axis);
        let row = (self.shape[axis] * inner).max(1);
        for row in self.numbers.chunks_exact_mut(row) {
            for stretch in stretches(places) {
                let (piece, others) = numbers.split_at(stretch.len() * inner);
                row[stretch[0] * inner..][..piece.len()].copy_from_slice(piece);
                numbers = others;
            }
        }
    }
}

/// Places that follow each other, which are copied at once.
fn stretches(places: &[usize]) -> impl Iterator<Item = &[usize]> {
    places.chunk_by(|place, next| place + 1 == *next)
}
