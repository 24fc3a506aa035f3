//! The operators of a model graph, interpreted on Burn tensors that record their history for the backward pass.
//!
//! Every float value is held as a matrix `[rows, width]`: all axes but the last are rows. Weights are then never
//! broadcast over the batch, and no operator but attention has to know the batch axis.

mod activation;
mod attention;
pub(crate) mod kernel;
mod loss;
mod norm;
mod value;

use burn::tensor::{Tensor, TensorData, module};
use cutplane_graph::{ModelGraph, Op, OpKind, WeightLayout};

pub(crate) use loss::LossGradient;
pub(crate) use value::{Matrix, Tokens, Value, Weight, floats, from_floats};

use crate::error::RuntimeError;

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
) -> Result<Output, RuntimeError> {
    let mut inputs = inputs.into_iter();
    let mut next = || inputs.next().expect("the graph checked the arity");
    let output = match &op.kind {
        OpKind::Embedding { vocab, dim, .. } => {
            embedding(op, &next().tokens(op)?, weights[0].matrix(), *vocab as usize, *dim as usize)?
        }
        OpKind::PositionEmbedding { .. } => position_embedding(next().matrix(op)?, weights[0].matrix()),
        OpKind::LayerNorm { eps, .. } => {
            let (weight, bias) = (weights[0].vector(), weights[1].vector());
            next().matrix(op)?.map(|x| norm::layer_norm(x, weight, bias, *eps))
        }
        OpKind::Linear { outputs, layout, .. } => {
            let bias = weights.get(1).map(|bias| bias.vector());
            linear(next().matrix(op)?, weights[0].matrix(), bias, *layout, *outputs as usize)
        }
        OpKind::Attention { heads, head_dim, causal, .. } => {
            let inputs = op.inputs.iter().map(|_| next().matrix(op)).collect::<Result<Vec<_>, _>>()?;
            attention::attention(inputs, *heads as usize, *head_dim as usize, *causal)
        }
        OpKind::Activation { function } => next().matrix(op)?.map(|x| activation::apply(*function, x)),
        OpKind::Add => {
            let (left, right) = (next().matrix(op)?, next().matrix(op)?);
            left.map(|left| left + right.rows)
        }
        OpKind::SelectToken { index } => select_token(next().matrix(op)?, *index as usize),
        OpKind::CrossEntropy { counted, .. } => {
            let (logits, targets) = (next().matrix(op)?, next().tokens(op)?);
            let samples = logits.rows.dims()[0] as u64 / model.value(op.inputs[0]).ty.rows(1);
            return loss::cross_entropy(op, logits.rows, &targets, samples * counted).map(Output::Loss);
        }
        other => {
            let problem = format!("this runtime has no operator '{}'", other.label());
            return Err(RuntimeError::Value { value: op.name.clone(), problem });
        }
    };
    Ok(Output::Value(Value::Float(output)))
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

fn position_embedding(x: Matrix, weight: Tensor<2>) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let positions = if weight.dims()[0] == s { weight } else { weight.slice([0..s, 0..width]) };
    let sum = x.rows.reshape([rows / s, s, width]) + positions.reshape([1, s, width]);
    Matrix { shape: x.shape, rows: sum.reshape([rows, width]) }
}

fn linear(x: Matrix, weight: Tensor<2>, bias: Option<Tensor<1>>, layout: WeightLayout, outputs: usize) -> Matrix {
    let weight = match layout {
        WeightLayout::InOut => weight,
        WeightLayout::OutIn => weight.transpose(),
    };
    let mut shape = x.shape;
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    Matrix { shape, rows: module::linear(x.rows, weight, bias) }
}

fn select_token(x: Matrix, index: usize) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let picked = x.rows.reshape([rows / s, s, width]).slice([0..rows / s, index..index + 1, 0..width]);
    let mut shape = x.shape;
    shape.remove(shape.len() - 2);
    Matrix { shape, rows: picked.reshape([rows / s, width]) }
}
