//! The operators of a model graph, interpreted on Burn tensors that record their history for the backward pass.
//!
//! Every float value is held as a matrix `[rows, width]`: all axes but the last are rows. Weights are then never
//! broadcast over the batch, and only operators that mix rows have to know the axes.
//!
//! Where a rank computes in 16 bits ([`Backend::in_precision`](crate::Backend::in_precision)), values are held in it and
//! weights in f32. Each operator casts by hand: products of matrices take both in 16 bits, and embeddings, norms, biases,
//! activations, softmax and loss compute in f32 and round their result. The gradient of a weight passes the cast backwards
//! and is f32.

mod activation;
mod additive;
mod attention;
mod broadcast;
mod call;
mod convolution;
mod deal;
mod dropout;
mod experts;
mod expressions;
pub(crate) mod kernel;
mod linear;
mod loss;
mod norm;
mod pointwise;
mod position;
mod recurrent;
mod route;
mod select;
mod shape;
mod supported;
mod value;
mod vocabulary;

use cutplane_graph::{ModelGraph, Op, OpKind};

use call::{Call, Inputs};
pub(crate) use call::{Manner, Samples, TablePart};
pub(crate) use loss::{Loss, LossGradient};
pub(crate) use supported::check;
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
    manner: Manner<'_>,
) -> Result<Output, RuntimeError> {
    let call = Call { model, op, weights, manner, backend: manner.backend };
    let inputs = Inputs::new(op, inputs);
    if op.kind.is_loss() {
        return loss::run(&call, inputs);
    }
    let value = run(&call, inputs)?;
    Ok(loss::finish(&call, value))
}

/// Runs an operator that is no loss, in its family.
fn run(call: &Call<'_>, inputs: Inputs<'_>) -> Result<Value, RuntimeError> {
    let floats = match &call.op.kind {
        OpKind::Embedding { .. }
        | OpKind::PositionEmbedding { .. }
        | OpKind::PrependTokens(_)
        | OpKind::Linear { .. }
        | OpKind::MatMul(_) => linear::run(call, inputs),
        OpKind::Activation { .. }
        | OpKind::Add
        | OpKind::Binary(_)
        | OpKind::ScaleShift(_)
        | OpKind::Learned(_)
        | OpKind::Fixed(_)
        | OpKind::Gate(_)
        | OpKind::Dropout(_)
        | OpKind::Softmax(_) => pointwise::run(call, inputs),
        OpKind::LayerNorm { .. } | OpKind::RmsNorm(_) | OpKind::BatchNorm(_) | OpKind::GroupNorm(_) => {
            norm::run(call, inputs)
        }
        OpKind::Attention(kind) => Ok(attention::attention(call, kind, inputs.matrices()?)),
        OpKind::AdditiveAttention(kind) => additive::attention(call, kind, inputs),
        OpKind::Recurrent(kind) => recurrent::layer(call, kind, inputs),
        OpKind::Convolution(_) | OpKind::Pool(_) | OpKind::Upsample(_) => convolution::run(call, inputs),
        OpKind::Router(_) | OpKind::Dispatch(_) | OpKind::ExpertLinear(_) | OpKind::Combine(_) => {
            experts::run(call, inputs)
        }
        OpKind::SelectToken { .. } | OpKind::Gather(_) | OpKind::Pad(_) | OpKind::Reduce(_) => {
            select::run(call, inputs)
        }
        OpKind::CrossEntropyShare(kind) => vocabulary::share(call, kind, inputs),
        OpKind::Reshape(_) | OpKind::Transpose(_) | OpKind::Concat(_) | OpKind::Slice(_) => {
            return shape::run(call, inputs);
        }
        _ => Err(call.unknown()),
    };
    floats.map(Value::Float)
}
