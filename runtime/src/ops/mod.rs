//! The operators of a model graph, interpreted on Burn tensors that record their history for the backward pass.
//!
//! Every float value is held as a matrix `[rows, width]`: all axes but the last are rows. Weights are then never
//! broadcast over the batch, and no operator but attention has to know the batch axis.
//!
//! Where a rank computes in 16 bits ([`Backend::in_precision`]), values are held in it and weights in f32. Each operator
//! casts by hand: products of matrices take both in 16 bits, and embeddings, norms, biases, activations, softmax and loss
//! compute in f32 and round their result. The gradient of a weight passes the cast backwards and is f32.

mod activation;
mod attention;
mod expressions;
pub(crate) mod kernel;
mod loss;
mod norm;
mod supported;
mod value;

use burn::tensor::{Tensor, TensorData, module};
use cutplane_graph::{Dtype, ModelGraph, Op, OpKind, ValueId, WeightLayout};

pub(crate) use loss::{Loss, LossGradient};
pub(crate) use supported::check;
pub(crate) use value::{Matrix, Tokens, Value, Weight, floats, from_floats};

use crate::backend::{Backend, Residence};
use crate::error::RuntimeError;

/// How a rank computes: where, in which numbers, and by what the gradient of its loss is multiplied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner<'a> {
    pub(crate) backend: &'a Backend,
    /// Against the underflow of f16 gradients; 1 in other precisions.
    pub(crate) loss_scale: f32,
}

/// What an operator gives: a value, or for a loss where its backward pass starts.
#[expect(clippy::large_enum_variant)]
pub(crate) enum Output {
    /// An ordinary value.
    Value(Value),
    /// The loss: its value, and its gradient with respect to the logits.
    Loss(LossGradient),
}

/// Runs one operator forward. `inputs` and `weights` are in the operator's order; an input that is handed over with its
/// last reference is overwritten where Burn can.
pub(crate) fn forward(
    model: &ModelGraph,
    op: &Op,
    inputs: Vec<Value>,
    weights: &[&Weight],
    manner: Manner<'_>,
) -> Result<Output, RuntimeError> {
    let backend = manner.backend;
    let mut inputs = inputs.into_iter();
    let mut next = || inputs.next().expect("the graph checked the arity");
    let output = match &op.kind {
        OpKind::Embedding { vocab, dim, .. } => {
            embedding(op, &next().tokens(op)?, weights[0].matrix(), *vocab as usize, *dim as usize)?
                .map(|rows| backend.low(rows))
        }
        OpKind::PositionEmbedding { offset, .. } => {
            position_embedding(next().matrix(op)?, weights[0].matrix(), *offset as usize, backend)
        }
        OpKind::LayerNorm { eps, .. } => {
            let (weight, bias) = (weights[0].vector(), weights.get(1).map(|bias| bias.vector()));
            next().matrix(op)?.map(|x| backend.low(norm::layer_norm(backend.full(x), weight, bias, *eps)))
        }
        OpKind::Linear { outputs, layout, .. } => {
            let bias = weights.get(1).map(|bias| bias.vector());
            linear(next().matrix(op)?, weights[0].matrix(), bias, *layout, *outputs as usize, backend)
        }
        OpKind::Attention(kind) if kind.is_plain() && of_one_length(model, op) => {
            let inputs = op.inputs.iter().map(|_| next().matrix(op)).collect::<Result<Vec<_>, _>>()?;
            attention::attention(inputs, kind.heads as usize, kind.head_dim as usize, kind.causal, backend)
        }
        OpKind::Activation { function } => {
            let input = next().matrix(op)?;
            let rows = match backend.residence() {
                Residence::Host => activation::apply(*function, input.rows),
                Residence::Device => expressions::apply(*function, input.rows, backend),
            };
            Matrix { shape: input.shape, rows: rows.ok_or_else(|| unknown(op, &format!("{function:?}")))? }
        }
        OpKind::Add => {
            let (left, right) = (next().matrix(op)?, next().matrix(op)?);
            left.map(|left| left + right.rows)
        }
        OpKind::SelectToken { index } => select_token(next().matrix(op)?, *index as usize),
        OpKind::CrossEntropy { counted, .. } => {
            let (logits, targets) = (next().matrix(op)?, next().tokens(op)?);
            let samples = logits.rows.dims()[0] as u64 / model.value(op.inputs[0]).ty.rows(1);
            return cross_entropy(op, logits.rows, &targets, samples * counted, manner).map(Output::Loss);
        }
        other => return Err(unknown(op, other.label())),
    };
    Ok(Output::Value(Value::Float(output)))
}

/// Whether queries and keys are equally many.
fn of_one_length(model: &ModelGraph, op: &Op) -> bool {
    let length = |id: &ValueId| model.value(*id).ty.dims[0];
    op.inputs.iter().all(|id| length(id) == length(&op.inputs[0]))
}

fn unknown(op: &Op, what: &str) -> RuntimeError {
    let problem = format!("this runtime has no operator '{what}' of this kind: it can be planned, but not run");
    RuntimeError::Value { value: op.name.clone(), problem }
}

/// Refuses an id outside `0..limit`, with the first offender.
fn check_ids(op: &Op, ids: &[i32], limit: usize, ignored: Option<i32>) -> Result<(), RuntimeError> {
    let fits = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < limit) || Some(*id) == ignored;
    match ids.iter().find(|id| !fits(id)) {
        None => Ok(()),
        Some(id) => {
            let problem = format!("the id {id} is not below {limit}; does the data fit the model's vocabulary?");
            Err(RuntimeError::Value { value: op.name.clone(), problem })
        }
    }
}

fn embedding(op: &Op, ids: &Tokens, weight: Tensor<2>, vocab: usize, dim: usize) -> Result<Matrix, RuntimeError> {
    check_ids(op, &ids.ids, vocab, None)?;
    let count = ids.ids.len();
    let indices = Tensor::from_data(TensorData::new(ids.ids.to_vec(), [1, count]), &weight.device());
    let rows = module::embedding(weight, indices).reshape([count, dim]);
    Ok(Matrix { shape: ids.shape.iter().copied().chain([dim]).collect(), rows })
}

fn cross_entropy(
    op: &Op,
    logits: Tensor<2>,
    targets: &Tokens,
    divisor: u64,
    manner: Manner<'_>,
) -> Result<LossGradient, RuntimeError> {
    match manner.backend.residence() {
        Residence::Host => loss::cross_entropy(op, logits, targets, divisor),
        Residence::Device => {
            expressions::cross_entropy(op, logits, targets, divisor, manner.loss_scale, manner.backend)
        }
    }
}

fn position_embedding(x: Matrix, weight: Tensor<2>, offset: usize, backend: &Backend) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let positions = if weight.dims()[0] == s { weight } else { weight.slice([offset..offset + s, 0..width]) };
    let sum = backend.full(x.rows).reshape([rows / s, s, width]) + positions.reshape([1, s, width]);
    Matrix { shape: x.shape, rows: backend.low(sum.reshape([rows, width])) }
}

fn linear(
    x: Matrix,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    layout: WeightLayout,
    outputs: usize,
    backend: &Backend,
) -> Matrix {
    let weight = match layout {
        WeightLayout::InOut => backend.low(weight),
        WeightLayout::OutIn => backend.low(weight).transpose(),
    };
    let mut shape = x.shape;
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let rows = if backend.precision() == Dtype::F32 {
        module::linear(x.rows, weight, bias)
    } else {
        // The bias is added in f32, so that its gradient is summed in f32.
        let product = module::linear(x.rows, weight, None);
        bias.map_or(product.clone(), |bias| backend.low(backend.full(product) + bias.unsqueeze()))
    };
    Matrix { shape, rows }
}

fn select_token(x: Matrix, index: usize) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let picked = x.rows.reshape([rows / s, s, width]).slice([0..rows / s, index..index + 1, 0..width]);
    let mut shape = x.shape;
    shape.remove(shape.len() - 2);
    Matrix { shape, rows: picked.reshape([rows / s, width]) }
}
