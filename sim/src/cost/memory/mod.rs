//! What a rank keeps in memory.
//!
//! A rank holds its parameters, their accumulated gradients and the optimizer state all the time; for each micro-batch in
//! flight the values that its operators keep for the backward pass, the segment's inputs (which are the receive buffers)
//! and its outputs (which the vector-Jacobian product starts from), each value once; and, while an operator runs, that
//! operator's workspace.

mod forward;
mod interval;
mod program;

use std::collections::BTreeSet;

use cutplane_graph::{Device, Dtype, ModelGraph, OpId, OpKind, ParamId, ValueId};
use cutplane_plan::{Optimizer, state_bytes};
use cutplane_units::Bytes;

use super::{CostError, Profiled};

pub use interval::IntervalMemory;
pub use program::{predict_memory, predict_peaks};

/// Where the sizes come from that no shape tells: intermediates that an operator keeps, and what it needs while it runs.
#[derive(Clone, Copy, Debug)]
pub enum MemoryModel<'a> {
    /// Kept: [`ModelGraph::saved`]. Workspace: the gradients of the operator's output and of its inputs.
    Framework,
    /// Our runtime on Burn: `kept_bytes` and `workspace_bytes` as measured, per work, interpolated in the operator's
    /// curve. The backward pass starts from the logits, so the loss keeps its input; and it gathers the gradients of a
    /// micro-batch's parameters before they are added up, in the place of activations that it has freed.
    Profiled(&'a Profiled),
}

impl MemoryModel<'_> {
    const fn is_framework(self) -> bool {
        matches!(self, Self::Framework)
    }

    fn keeps_inputs(self, model: &ModelGraph, op: OpId, batch: u64) -> bool {
        let starts_backward = matches!(model.op(op).kind, OpKind::CrossEntropy { .. });
        model.saved(op, batch).inputs || (starts_backward && !self.is_framework())
    }

    /// Whether an operator keeps this value, or the graph declares it as an output: then it stays as long as the
    /// micro-batch.
    fn is_kept(self, model: &ModelGraph, value: ValueId, by: impl Fn(OpId) -> bool, batch: u64) -> bool {
        let node = model.value(value);
        let keeps_output = |op: OpId| by(op) && model.saved(op, batch).output;
        let keeps_input = |op: &OpId| by(*op) && self.keeps_inputs(model, *op, batch);
        model.outputs().contains(&value)
            || node.producer.is_some_and(keeps_output)
            || node.consumers.iter().any(keeps_input)
    }

    fn op(self, model: &ModelGraph, op: OpId, load: Activations, device: &Device) -> Result<OpMemory, CostError> {
        match self {
            // No profile measures an exchange: it holds its input and its output, in buffers of the host.
            Self::Profiled(_) if matches!(model.op(op).kind, OpKind::Exchange(_)) => {
                Ok(OpMemory { internal: Bytes::ZERO, workspace: gradients_of(model, op, load) })
            }
            Self::Framework => Ok(OpMemory {
                internal: Bytes::new(
                    model.saved(op, load.batch).internal_elements.saturating_mul(load.precision.size()),
                ),
                workspace: gradients_of(model, op, load),
            }),
            Self::Profiled(profiled) => {
                let footprint = profiled.footprint(model, op, load.batch, load.precision, device)?;
                Ok(OpMemory { internal: footprint.kept, workspace: footprint.workspace })
            }
        }
    }
}

/// Bytes of one operator that are not values of the graph.
#[derive(Clone, Copy, Debug)]
struct OpMemory {
    internal: Bytes,
    workspace: Bytes,
}

/// What the size of an activation depends on.
#[derive(Clone, Copy, Debug)]
struct Activations {
    batch: u64,
    precision: Dtype,
}

impl Activations {
    /// Size of a value: floats in the element type of the computation, integers in their own.
    fn size(self, model: &ModelGraph, value: ValueId) -> Bytes {
        let ty = &model.value(value).ty;
        let element = if ty.dtype.is_float() { self.precision.size() } else { ty.dtype.size() };
        Bytes::new(ty.elements(self.batch).saturating_mul(element))
    }
}

fn gradients_of(model: &ModelGraph, op: OpId, load: Activations) -> Bytes {
    let node = model.op(op);
    let mut values: Vec<ValueId> = node.inputs.iter().copied().chain([node.output]).collect();
    values.sort_unstable();
    values.dedup();
    let floats = values.into_iter().filter(|value| model.value(*value).ty.dtype.is_float());
    floats.map(|value| load.size(model, value)).sum()
}

/// Everything that decides a stage's memory besides its operators and its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageUse {
    /// Samples in a micro-batch.
    pub batch: u64,
    /// Element type of activations.
    pub precision: Dtype,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Micro-batches whose activations are held at once ([`cutplane_plan::Schedule::in_flight`]).
    pub in_flight: u64,
}

/// Memory of one rank, by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageMemory {
    /// Parameters.
    pub parameters: Bytes,
    /// Accumulated gradients of the parameters.
    pub gradients: Bytes,
    /// Optimizer state.
    pub optimizer: Bytes,
    /// What one micro-batch keeps between its forward and its backward pass.
    pub activations_per_micro_batch: Bytes,
    /// Largest extra need while a pass runs: of one operator, and of parameter gradients that are not yet added up beyond
    /// the activations that their pass has freed ([`MemoryModel::Profiled`]).
    pub workspace: Bytes,
    /// Micro-batches held at once.
    pub in_flight: u64,
    /// The peak: state, activations of all micro-batches in flight, workspace.
    pub total: Bytes,
}

impl StageMemory {
    /// Memory of a stage of any set of operators, in ascending order.
    ///
    /// # Errors
    /// [`CostError`] when the profile does not know an operator.
    pub fn new(
        model: &ModelGraph,
        ops: &[OpId],
        stage: StageUse,
        memory: MemoryModel<'_>,
        device: &Device,
    ) -> Result<Self, CostError> {
        let load = Activations { batch: stage.batch, precision: stage.precision };
        let (mut activations, mut workspace) = (held_values(model, ops, load, memory), Bytes::ZERO);
        for op in ops {
            let own = memory.op(model, *op, load, device)?;
            activations += own.internal;
            workspace = workspace.max(own.workspace);
        }
        let total = Self {
            activations_per_micro_batch: activations,
            workspace,
            in_flight: stage.in_flight,
            ..Self::state(parameters(model, ops), stage.optimizer)
        };
        let total = total.summed(memory.is_framework());
        debug_assert_eq!(
            total.parameters + total.gradients + total.optimizer,
            state_bytes(model, params_of(model, ops), stage.optimizer),
            "the checker and the memory model count state alike"
        );
        Ok(total)
    }

    /// A stage of `elements` parameters and nothing else: f32 parameters and gradients, and `k` f32 numbers of optimizer
    /// state each.
    fn state(elements: u64, optimizer: Optimizer) -> Self {
        let parameters = Bytes::new(elements) * Dtype::F32.size();
        Self {
            parameters,
            gradients: parameters,
            optimizer: parameters * optimizer.state_per_parameter(),
            activations_per_micro_batch: Bytes::ZERO,
            workspace: Bytes::ZERO,
            in_flight: 0,
            total: Bytes::ZERO,
        }
    }

    /// Fills in the total, and before it the room for gradients that are not yet added up, where they are gathered.
    fn summed(mut self, adds_in_place: bool) -> Self {
        if !adds_in_place {
            self.workspace += self.parameters.saturating_sub(self.activations_per_micro_batch);
        }
        let state = self.parameters + self.gradients + self.optimizer;
        self.total = state + self.activations_per_micro_batch * self.in_flight + self.workspace;
        self
    }
}

/// Parameters of a stage, each once.
fn params_of(model: &ModelGraph, ops: &[OpId]) -> BTreeSet<ParamId> {
    ops.iter().flat_map(|op| model.op(*op).params.iter().copied()).collect()
}

/// Numbers in the parameters of a stage.
fn parameters(model: &ModelGraph, ops: &[OpId]) -> u64 {
    params_of(model, ops).into_iter().map(|param| model.param(param).elements()).sum()
}

/// Size of the values that one micro-batch holds: kept ones, inputs from outside, outputs for outside, each once.
fn held_values(model: &ModelGraph, ops: &[OpId], load: Activations, memory: MemoryModel<'_>) -> Bytes {
    let inside = |op: OpId| ops.binary_search(&op).is_ok();
    let touched: BTreeSet<ValueId> =
        ops.iter().flat_map(|op| model.op(*op).inputs.iter().copied().chain([model.op(*op).output])).collect();
    let held = |value: &ValueId| {
        let node = model.value(*value);
        let crosses = !node.producer.is_some_and(inside) || node.consumers.iter().any(|op| !inside(*op));
        crosses || memory.is_kept(model, *value, inside, load.batch)
    };
    touched.into_iter().filter(held).map(|value| load.size(model, value)).sum()
}
