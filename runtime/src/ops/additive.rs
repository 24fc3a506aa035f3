//! Additive attention.

use burn::tensor::{Tensor, activation::softmax};
use cutplane_graph::AdditiveAttention;

use super::call::{Call, Inputs};
use super::value::Matrix;
use crate::error::RuntimeError;

/// `softmax(g v / |v| . tanh(q + k + bias))` times the values, with the softmax over the keys.
pub(super) fn attention(
    call: &Call<'_>,
    kind: &AdditiveAttention,
    mut inputs: Inputs<'_>,
) -> Result<Matrix, RuntimeError> {
    let backend = call.backend;
    let (queries, keys, values) = (inputs.matrix()?, inputs.matrix()?, inputs.matrix()?);
    let (batch, units) = (call.samples(0, &queries.shape), kind.units as usize);
    let (s, t) = (queries.sequence(), keys.sequence());
    let shape = call.output_shape(&queries.shape);
    let left = backend.full(queries.tensor([batch, s, 1, units]));
    let sum = left + backend.full(keys.tensor([batch, 1, t, units]));
    let bias = kind.bias.then(|| call.weights[call.weights.len() - 1].rows().reshape([1, 1, 1, units]));
    let hidden = bias.map_or(sum.clone(), |bias| sum + bias).tanh();
    let weight = score_weight(call, kind);
    let scores = hidden.reshape([batch * s * t, units]).matmul(weight).reshape([batch, s, t]);
    let shares = backend.low(softmax(scores, 2));
    let width = values.rows.dims()[1];
    Ok(Matrix::shaped(shape, shares.matmul(values.tensor([batch, t, width]))))
}

/// `v`, or `g v / |v|` where it is normed, as a column.
fn score_weight(call: &Call<'_>, kind: &AdditiveAttention) -> Tensor<2> {
    let v = call.weights[0].rows();
    let scaled = if kind.normed {
        let length = v.clone().square().sum_dim(1).sqrt();
        v / length * call.weights[1].rows()
    } else {
        v
    };
    scaled.transpose()
}
