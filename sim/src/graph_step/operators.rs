//! From operators to kernels.

use cutplane_graph::{ModelGraph, Op, OpId, OpKind, PoolKind, TensorType, ValueId};

use super::charge::{Charge, OperatorCharge};
use super::error::GraphStepError;
use super::fusion::{Fusion, fusion};
use super::numerics::Numerics;
use super::stack::{Fuses, GraphStack, Images};
use crate::kernel::{
    Attention, AttentionAlgorithm, Convolution, GpuModel, Kernel, Precision, Product, Recurrent, RecurrentCell,
    RowBlocks,
};

/// Whether statistics are computed and gradients follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward and backward pass.
    Training,
    /// A forward pass with fixed statistics that keeps nothing.
    Evaluation,
}

/// Charges of all operators of a graph, in its order, for a micro-batch of `batch` samples. With
/// [`Mode::Evaluation`] backward charges are zero, and so is the loss.
///
/// # Errors
/// [`GraphStepError::Operator`] for an operator without a price: mixtures of experts, convolutions over three axes.
pub fn operator_charges(
    graph: &ModelGraph,
    batch: u64,
    gpu: &GpuModel,
    numerics: Numerics,
    stack: &GraphStack,
    mode: Mode,
) -> Result<Vec<OperatorCharge>, GraphStepError> {
    let pricer = Pricer { graph, batch: batch.max(1), gpu, numerics: numerics.on(gpu), stack, mode };
    graph.op_ids().map(|id| pricer.operator(id)).collect()
}

mod convolution;
mod sequence;

struct Pricer<'a> {
    graph: &'a ModelGraph,
    batch: u64,
    gpu: &'a GpuModel,
    numerics: Numerics,
    stack: &'a GraphStack,
    mode: Mode,
}

/// Elements that kernels read and write: forward `[read, written]`, then backward.
type Moved = [[u64; 2]; 2];

/// Forward, then backward.
type Both = (Charge, Charge);

impl Pricer<'_> {
    fn operator(&self, id: OpId) -> Result<OperatorCharge, GraphStepError> {
        let op = self.graph.op(id);
        if self.mode == Mode::Evaluation && op.kind.is_loss() {
            return Ok(OperatorCharge::default());
        }
        let (forward, backward) = self.kernels(op)?;
        let training = self.mode == Mode::Training;
        let owned = op.params.iter().map(|param| self.graph.param(*param));
        // Of a shared parameter the gradient is whole once the first user has passed, the last in the backward pass.
        let whole: Vec<u64> =
            owned.filter(|param| param.users.first() == Some(&id)).map(cutplane_graph::Param::elements).collect();
        Ok(OperatorCharge {
            forward,
            backward: if training { backward + self.accumulation(op) } else { Charge::default() },
            parameters: whole.iter().sum(),
            tensors: whole.len() as u64,
            output_elements: self.elements(op.output),
        })
    }

    fn ty(&self, value: ValueId) -> &TensorType {
        &self.graph.value(value).ty
    }

    fn elements(&self, value: ValueId) -> u64 {
        self.ty(value).elements(self.batch)
    }

    /// Elements of the first input and of the output.
    fn extents(&self, op: &Op) -> (u64, u64) {
        (op.inputs.first().map_or(0, |input| self.elements(*input)), self.elements(op.output))
    }

    fn compiled(&self) -> bool {
        self.stack.fuses == Fuses::Pointwise
    }

    /// Whether a gradient flows to the first input.
    fn needs_gradient(&self, op: &Op) -> bool {
        op.inputs.first().is_some_and(|input| self.graph.value(*input).producer.is_some())
    }

    fn product(&self, kernel: &Kernel) -> Charge {
        Charge { products: self.gpu.seconds(kernel, self.numerics.products), launches: 1.0, ..Charge::default() }
    }

    /// One kernel that reads and writes so many stored elements.
    fn pass(&self, [read, written]: [u64; 2]) -> Charge {
        if read + written == 0 {
            return Charge::default();
        }
        let bytes = self.numerics.activation_bytes;
        let kernel = Kernel::pointwise(read.saturating_mul(bytes), written.saturating_mul(bytes));
        Charge { passes: self.gpu.seconds(&kernel, Precision::F32), launches: 1.0, ..Charge::default() }
    }

    /// Gradients of a value with several readers are added up.
    fn accumulation(&self, op: &Op) -> Charge {
        let value = self.graph.value(op.output);
        let more = value.consumers.len().saturating_sub(1) as f64;
        let n = value.ty.elements(self.batch);
        if self.compiled() {
            return Charge { launches: 0.0, ..self.pass([n, 0]) } * more;
        }
        self.pass([2 * n, n]) * more
    }

    fn kernels(&self, op: &Op) -> Result<Both, GraphStepError> {
        let (forward, backward) = self.plain_kernels(op)?;
        let marked = |charge: Charge| {
            let rare = if is_rare(&op.kind) { charge.products + charge.passes } else { 0.0 };
            Charge { rare, ..charge }
        };
        Ok((marked(forward), marked(backward)))
    }

    fn plain_kernels(&self, op: &Op) -> Result<Both, GraphStepError> {
        Ok(match &op.kind {
            OpKind::Convolution(kind) => self.convolution(op, kind)?,
            OpKind::Linear { inputs, outputs, bias, .. } => self.linear(op, *inputs, *outputs, *bias),
            OpKind::MatMul(_) => self.matmul(op),
            OpKind::Recurrent(kind) => self.recurrent(op, kind),
            OpKind::Attention(kind) => self.attention(op, kind),
            OpKind::AdditiveAttention(kind) => self.additive(op, kind.units),
            OpKind::Embedding { vocab, dim, .. } => self.embedding(op, *vocab, *dim),
            OpKind::BatchNorm(_) => self.batch_norm(op),
            OpKind::CrossEntropy { .. } => self.cross_entropy(op),
            OpKind::Reshape(_) => (Charge::default(), Charge::default()),
            _ => {
                let moved = self.moved(op).ok_or_else(|| GraphStepError::Operator {
                    op: op.name.clone(),
                    kind: op.kind.label(),
                    remedy: "price the model as a stack of layers, or replace the operator",
                })?;
                (self.pass(moved[0]), self.pass(moved[1]))
            }
        })
    }

    /// Traffic of operators that are bound by memory; `None` for others.
    fn moved(&self, op: &Op) -> Option<Moved> {
        let (x, y) = self.extents(op);
        let inputs: u64 = op.inputs.iter().map(|input| self.elements(*input)).sum();
        if fusion(self.graph, op, self.stack) == Fusion::Merged {
            return Some(merged(op, y));
        }
        Some(match &op.kind {
            OpKind::Activation { .. } | OpKind::Softmax(_) => [[y, y], [2 * y, y]],
            // The gradient of a sum is that of its terms.
            OpKind::Add => [[2 * y, y], [0, 0]],
            OpKind::Binary(_) | OpKind::Gate(_) => [[inputs, y], [inputs + y, inputs]],
            OpKind::Dropout(_) if self.mode == Mode::Evaluation => [[0, 0], [0, 0]],
            // The mask has a byte an element.
            OpKind::Dropout(_) => [[y, y + y / 4], [y + y / 4, y]],
            OpKind::LayerNorm { .. } | OpKind::RmsNorm(_) | OpKind::GroupNorm(_) => [[2 * y, y], [4 * y, y]],
            // cuDNN reads input, output and gradient of a maximum.
            OpKind::Pool(pool) if pool.function == PoolKind::Max => [[x, y], [x + 2 * y, x]],
            OpKind::Pool(_) | OpKind::Upsample(_) | OpKind::Reduce(_) | OpKind::Pad(_) => [[x, y], [y, x]],
            OpKind::Slice(_) | OpKind::SelectToken { .. } | OpKind::Gather(_) => [[y, y], [y, x + y]],
            OpKind::ScaleShift(_)
            | OpKind::Learned(_)
            | OpKind::PositionEmbedding { .. }
            | OpKind::PrependTokens(_)
            | OpKind::Transpose(_)
            | OpKind::Concat(_) => [[y, y], [y, y]],
            OpKind::MeanSquaredError(_) => [[2 * x, 0], [2 * x, x]],
            _ => return None,
        })
    }

    /// Two reads and a write to normalise, twice two reads and a write for the gradients; with fixed statistics one of each.
    fn batch_norm(&self, op: &Op) -> Both {
        let n = self.elements(op.output);
        match self.mode {
            Mode::Evaluation if self.stack.fuses != Fuses::Nothing => Both::default(),
            Mode::Evaluation => (self.pass([n, n]), Charge::default()),
            Mode::Training => (self.pass([2 * n, n]), self.pass([4 * n, n])),
        }
    }

    /// Logits are cast to 32 bits, normalised, picked and smoothed; each pass has its gradient. A compiler merges them.
    fn cross_entropy(&self, op: &Op) -> Both {
        let (logits, _) = self.extents(op);
        let wide = 4 * logits / self.numerics.activation_bytes;
        if self.compiled() {
            return (self.pass([2 * logits, 0]), self.pass([logits, logits]));
        }
        let kernels = |charge: Charge| Charge { launches: 4.0, ..charge };
        (kernels(self.pass([3 * wide, 2 * wide])), kernels(self.pass([5 * wide, 3 * wide])))
    }

    fn bias(&self, present: bool, n: u64) -> Both {
        match (present, self.compiled()) {
            (false, _) => Both::default(),
            (true, true) => (Charge::default(), self.pass([n, 0])),
            (true, false) => (self.pass([n, n]), self.pass([n, 0])),
        }
    }

    fn linear(&self, op: &Op, inputs: u64, outputs: u64, bias: bool) -> Both {
        let n = self.elements(op.output);
        let rows = (n / outputs.max(1)).max(1);
        let (forward_bias, backward_bias) = self.bias(bias, n);
        let weights = self.product(&Kernel::matmul(inputs, outputs, rows));
        let input = if self.needs_gradient(op) {
            self.product(&Kernel::matmul(rows, inputs, outputs))
        } else {
            Charge::default()
        };
        (self.product(&Kernel::matmul(rows, outputs, inputs)) + forward_bias, weights + input + backward_bias)
    }

    fn matmul(&self, op: &Op) -> Both {
        let (x, y) = (self.ty(op.inputs[0]), self.ty(op.output));
        let m = x.dims.iter().rev().nth(1).copied().unwrap_or(1);
        let (k, n) = (x.last(), y.last());
        let batch = (y.elements(self.batch) / (m * n).max(1)).max(1);
        let product = |m, n, k| self.product(&Kernel::Matmul { m, n, k, batch });
        (product(m, n, k), product(m, k, n) + product(k, n, m))
    }

    /// A gather; its gradient is a dense table of zeros that rows are added to.
    fn embedding(&self, op: &Op, vocab: u64, dim: u64) -> Both {
        let n = self.elements(op.output);
        let indices = (n / dim.max(1)).max(1);
        let gather = Kernel::Gather { indices, width: dim };
        let gather =
            Charge { passes: self.gpu.seconds(&gather, self.numerics.products), launches: 1.0, ..Charge::default() };
        (gather, self.pass([0, vocab * dim]) + self.pass([2 * n, n]))
    }
}

/// Pools, and filters of one row or one column.
fn is_rare(kind: &OpKind) -> bool {
    match kind {
        OpKind::Pool(_) => true,
        OpKind::Convolution(convolution) => {
            let filter = &convolution.window.kernel;
            filter.len() == 2 && filter[0] != filter[1] && filter.contains(&1)
        }
        _ => false,
    }
}

/// What an operator moves beside the value that flows through the kernel that it is merged into: other operands, and the
/// mask or sign that its gradient needs.
fn merged(op: &Op, y: u64) -> Moved {
    let others = op.inputs.len().saturating_sub(1) as u64 * y;
    match op.kind {
        OpKind::Add => [[others, 0], [0, others]],
        OpKind::Activation { .. } => [[0, 0], [y / 2, 0]],
        OpKind::Dropout(_) => [[0, y / 4], [y / 4, 0]],
        _ => [[others, 0], [others, others]],
    }
}
