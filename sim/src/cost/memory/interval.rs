//! Memory of contiguous stages from tables, for searchers that ask about every interval.

use std::collections::BTreeSet;

use cutplane_graph::{Device, Dtype, ModelGraph, ParamId, ValueId};
use cutplane_plan::Optimizer;
use cutplane_units::Bytes;

use super::{Activations, CostError, MemoryModel, StageMemory};

/// Memory of every contiguous stage of a model on one device. A query costs a handful of look-ups and a walk over the
/// values that cross the two ends, and equals [`StageMemory::new`] exactly.
#[derive(Clone, Debug)]
pub struct IntervalMemory {
    /// Prefix sums over operators: kept intermediates, and outputs that some operator keeps or the graph declares. An
    /// output whose keeper lies beyond the interval crosses its end, and is held for that.
    held: Vec<Bytes>,
    /// Prefix sums of parameters with one user.
    own_params: Vec<u64>,
    /// Parameters with several users: elements and users, ascending.
    shared_params: Vec<(u64, Vec<usize>)>,
    values: Vec<Flow>,
    /// For each cut, the values written before it and read after it; graph inputs are written before everything.
    crossing: Vec<Vec<usize>>,
    workspace: RangeMax,
    adds_in_place: bool,
}

/// A value as it matters at the ends of an interval.
#[derive(Clone, Debug)]
struct Flow {
    size: Bytes,
    producer: Option<usize>,
    consumers: Vec<usize>,
    /// Counted with its producer.
    in_prefix: bool,
}

impl IntervalMemory {
    /// Prepares the tables for micro-batches of `batch` samples.
    ///
    /// # Errors
    /// [`CostError`] when the profile does not know an operator.
    pub fn new(
        model: &ModelGraph,
        batch: u64,
        precision: Dtype,
        memory: MemoryModel<'_>,
        device: &Device,
    ) -> Result<Self, CostError> {
        let load = Activations { batch, precision };
        let values: Vec<Flow> =
            (0..model.values().len()).map(|id| flow(model, ValueId::new(id), load, memory)).collect();
        let mut held = vec![Bytes::ZERO];
        let mut workspace = Vec::with_capacity(model.ops().len());
        for op in model.op_ids() {
            let own = memory.op(model, op, load, device)?;
            let output = &values[model.op(op).output.index()];
            let kept = if output.in_prefix { output.size } else { Bytes::ZERO };
            held.push(held[op.index()] + own.internal + kept);
            workspace.push(own.workspace);
        }
        let (own_params, shared_params) = params(model);
        let crossing = crossing(&values, model.ops().len());
        Ok(Self {
            held,
            own_params,
            shared_params,
            values,
            crossing,
            workspace: RangeMax::new(workspace),
            adds_in_place: memory.is_framework(),
        })
    }

    /// Memory of the operators `first..end` (not empty).
    pub fn interval(&self, first: usize, end: usize, optimizer: Optimizer, in_flight: u64) -> StageMemory {
        let activations = self.held[end] - self.held[first] + self.inputs(first, end) + self.outputs(first, end);
        let shared = self.shared_params.iter().filter(|(_, users)| any_within(users, first, end));
        let elements =
            self.own_params[end] - self.own_params[first] + shared.map(|(elements, _)| elements).sum::<u64>();
        let memory = StageMemory {
            activations_per_micro_batch: activations,
            workspace: self.workspace.of(first, end),
            in_flight,
            ..StageMemory::state(elements, optimizer)
        };
        memory.summed(self.adds_in_place)
    }

    fn inputs(&self, first: usize, end: usize) -> Bytes {
        let crossing = self.crossing[first].iter().map(|value| &self.values[*value]);
        crossing.filter(|value| any_within(&value.consumers, first, end)).map(|value| value.size).sum()
    }

    fn outputs(&self, first: usize, end: usize) -> Bytes {
        let crossing = self.crossing[end].iter().map(|value| &self.values[*value]);
        let counts = |value: &&Flow| !value.in_prefix && value.producer.is_some_and(|producer| producer >= first);
        crossing.filter(counts).map(|value| value.size).sum()
    }
}

fn flow(model: &ModelGraph, id: ValueId, load: Activations, memory: MemoryModel<'_>) -> Flow {
    let value = model.value(id);
    Flow {
        size: load.size(model, id),
        producer: value.producer.map(cutplane_graph::OpId::index),
        consumers: value.consumers.iter().map(|op| op.index()).collect(),
        in_prefix: memory.is_kept(model, id, |_| true, load.batch),
    }
}

fn params(model: &ModelGraph) -> (Vec<u64>, Vec<(u64, Vec<usize>)>) {
    let is_shared = |id: &ParamId| {
        let users = &model.param(*id).users;
        users.iter().any(|user| *user != users[0])
    };
    let mut own = vec![0];
    for op in model.ops() {
        let mine: BTreeSet<&ParamId> = op.params.iter().filter(|id| !is_shared(id)).collect();
        let elements: u64 = mine.into_iter().map(|id| model.param(*id).elements()).sum();
        own.push(own[own.len() - 1] + elements);
    }
    let shared = (0..model.params().len()).map(ParamId::new).filter(is_shared).map(|id| model.param(id));
    let entry =
        |param: &cutplane_graph::Param| (param.elements(), param.users.iter().map(|op| op.index()).collect::<Vec<_>>());
    (own, shared.map(entry).collect())
}

fn crossing(values: &[Flow], ops: usize) -> Vec<Vec<usize>> {
    let mut crossing = vec![Vec::new(); ops + 1];
    for (index, value) in values.iter().enumerate() {
        let opened = value.producer.map_or(0, |producer| producer + 1);
        let closed = value.consumers.last().map_or(0, |last| last + 1);
        crossing[opened.min(closed)..closed].iter_mut().for_each(|cut| cut.push(index));
    }
    crossing
}

/// Whether a sorted list has an entry in `first..end`.
fn any_within(sorted: &[usize], first: usize, end: usize) -> bool {
    sorted.get(sorted.partition_point(|entry| *entry < first)).is_some_and(|entry| *entry < end)
}

/// Largest of any interval in constant time: level `k` holds the largest of each `2^k` neighbours.
#[derive(Clone, Debug)]
struct RangeMax {
    levels: Vec<Vec<Bytes>>,
}

impl RangeMax {
    fn new(values: Vec<Bytes>) -> Self {
        let mut levels = vec![values];
        let mut width = 1;
        while levels[levels.len() - 1].len() > width {
            let last = &levels[levels.len() - 1];
            let next = last.iter().zip(&last[width..]).map(|(a, b)| *a.max(b)).collect();
            levels.push(next);
            width *= 2;
        }
        Self { levels }
    }

    fn of(&self, first: usize, end: usize) -> Bytes {
        let level = (end - first).ilog2() as usize;
        let table = &self.levels[level];
        table[first].max(table[end - (1 << level)])
    }
}
