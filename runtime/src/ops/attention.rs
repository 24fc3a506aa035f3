//! Scaled dot-product attention with materialised scores.

use burn::tensor::Tensor;

use super::activation::tangent;
use super::value::Matrix;
use super::{expressions, kernel};
use crate::backend::{Backend, Residence};

/// `softmax(Q K^T / sqrt(head_dim)) V`. The division by the sum of the exponentials is done after the product with `V`,
/// on `[s, head_dim]` in place of `[s, s]` numbers; the exponentials enter the history as their tangent, so the backward
/// pass does not compute them again.
pub(crate) fn attention(inputs: Vec<Matrix>, heads: usize, head_dim: usize, causal: bool, backend: &Backend) -> Matrix {
    let mut shape = inputs[0].shape.clone();
    let (s, rows, width) = (inputs[0].sequence(), inputs[0].rows.dims()[0], heads * head_dim);
    let split = |part: Tensor<2>| part.reshape([rows / s, s, heads, head_dim]).swap_dims(1, 2);
    let parts: Vec<Tensor<2>> = match <[Matrix; 1]>::try_from(inputs) {
        Ok([packed]) => (0..3).map(|i| packed.rows.clone().slice([0..rows, i * width..(i + 1) * width])).collect(),
        Err(separate) => separate.into_iter().map(|part| part.rows).collect(),
    };
    let [q, k, v] = <[Tensor<2>; 3]>::try_from(parts).expect("one packed input or three").map(split);
    let scores = (q * (head_dim as f64).powf(-0.5)).matmul(k.transpose());
    let exponentials = match backend.residence() {
        Residence::Host => tangent(scores, |scores| kernel::exponentials(scores, s, causal)),
        Residence::Device => expressions::exponentials(scores, causal, backend),
    };
    let sums = backend.full(exponentials.clone()).sum_dim(3);
    let output = backend.low(backend.full(exponentials.matmul(v)) / sums);
    let output = output.swap_dims(1, 2).reshape([rows, width]);
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    Matrix { shape, rows: output }
}
