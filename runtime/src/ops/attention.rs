//! Scaled dot-product attention with materialised scores.

use burn::tensor::{Device, Tensor};
use cutplane_graph::{Attention, AttentionInput, PositionScheme};

use super::activation::tangent;
use super::call::Call;
use super::position::{self, Lengths, along_diagonals};
use super::value::Matrix;
use super::{expressions, kernel};
use crate::backend::{Backend, Residence};

/// Queries `[b, heads, s, head_dim]`, keys and values `[b, kv_heads, t, head_dim]`.
struct Parts {
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
}

/// `softmax(scale Q K^T) V`. The division by the sum of the exponentials is done after the product with `V`, on
/// `[s, head_dim]` in place of `[s, t]` numbers; the exponentials enter the history as their tangent, so the backward
/// pass does not compute them again. A fused kernel gives the same numbers, so both kinds run here.
pub(super) fn attention(call: &Call<'_>, kind: &Attention, inputs: Vec<Matrix>) -> Matrix {
    let backend = call.backend;
    let shape = call.output_shape(&inputs[0].shape);
    let mut parts = split(call, kind, inputs);
    let lengths = Lengths { queries: parts.queries.dims()[2], keys: parts.keys.dims()[2], causal: kind.causal };
    if let PositionScheme::Rotary(rotary) = &kind.position {
        let turn = |x, first| backend.low(position::rotate(backend.full(x), rotary, first));
        parts.queries = turn(parts.queries, lengths.offset());
        parts.keys = turn(parts.keys, 0);
    }
    let Parts { queries, keys, values } = parts;
    let scores = match &kind.position {
        PositionScheme::RelativeProjection { hidden } => {
            relative_scores(call, kind, (queries, keys), *hidden as usize, lengths)
        }
        _ => product(queries * kind.scale(), keys.transpose()),
    };
    let simple = kind.window.is_none() && lengths.queries == lengths.keys;
    let device = scores.device().inner();
    let bias = bias(call, kind, lengths, !simple, &device);
    let causal = kind.causal && simple;
    let exponentials = if bias.is_empty() {
        exponentials(scores, lengths.keys, causal, backend)
    } else {
        // What hides a score is too large for 16 bits.
        let biased = bias.into_iter().fold(backend.full(scores), |scores, bias| scores + bias);
        backend.low(exponentials(biased, lengths.keys, causal, &backend.in_full()))
    };
    let sums = backend.full(exponentials.clone()).sum_dim(3);
    let output = backend.low(backend.full(product(exponentials, values)) / sums);
    Matrix::shaped(shape, output.swap_dims(1, 2))
}

/// `e^(score - largest of its row)`.
pub(super) fn exponentials(scores: Tensor<4>, keys: usize, causal: bool, backend: &Backend) -> Tensor<4> {
    match backend.residence() {
        Residence::Host => tangent(scores, |scores| kernel::exponentials(scores, keys, causal)),
        Residence::Device => expressions::exponentials(scores, causal, backend),
    }
}

/// Takes queries, keys and values apart.
fn split(call: &Call<'_>, kind: &Attention, inputs: Vec<Matrix>) -> Parts {
    let (heads, groups, width) = (kind.heads as usize, kind.kv_heads() as usize, kind.head_dim as usize);
    let samples = call.samples(0, &inputs[0].shape);
    let lengths: Vec<usize> = inputs.iter().map(|input| input.rows.dims()[0] / samples.max(1)).collect();
    let apart = |rows: Tensor<2>, s: usize, heads: usize| rows.reshape([samples, s, heads, width]).swap_dims(1, 2);
    let s = lengths[0];
    match kind.input {
        AttentionInput::Packed => {
            let rows = &inputs[0].rows;
            let part = |from: usize, heads: usize| apart(rows.clone().narrow(1, from * width, heads * width), s, heads);
            Parts { queries: part(0, heads), keys: part(heads, groups), values: part(heads + groups, groups) }
        }
        AttentionInput::PackedByGroup => {
            let share = heads / groups;
            let packed = inputs[0].tensor([samples, s, groups, (share + 2) * width]);
            let part = |from: usize, count: usize| {
                let rows = packed.clone().narrow(3, from * width, count * width);
                apart(rows.reshape([samples * s, groups * count * width]), s, groups * count)
            };
            Parts { queries: part(0, share), keys: part(share, 1), values: part(share + 1, 1) }
        }
        AttentionInput::Separate => {
            let t = lengths[1];
            let [q, k, v] = <[Matrix; 3]>::try_from(inputs).expect("the graph checked the arity").map(|x| x.rows);
            Parts { queries: apart(q, s, heads), keys: apart(k, t, groups), values: apart(v, t, groups) }
        }
    }
}

/// Product of `left [b, heads, s, n]` with `right [b, groups, n, m]`, which every `heads / groups` heads share.
fn product(left: Tensor<4>, right: Tensor<4>) -> Tensor<4> {
    let [batch, heads, s, n] = left.dims();
    let [_, groups, _, m] = right.dims();
    if heads == groups {
        return left.matmul(right);
    }
    left.reshape([batch, groups, heads / groups * s, n]).matmul(right).reshape([batch, heads, s, m])
}

/// What is added to the scores: biases of the distance, and where the kernel does not hide keys itself, what hides them.
fn bias(call: &Call<'_>, kind: &Attention, lengths: Lengths, hide: bool, device: &Device) -> Vec<Tensor<4>> {
    let distance = match &kind.position {
        PositionScheme::Alibi { max_bias } => Some(position::alibi(kind.heads as usize, *max_bias, lengths, device)),
        PositionScheme::RelativeBias { max_distance, .. } => {
            Some(position::relative_bias(call.weights[0].matrix(), *max_distance, lengths))
        }
        _ => None,
    };
    let mask = if hide { position::mask(kind, lengths, device) } else { None };
    distance.into_iter().chain(mask).collect()
}

/// Scores of Transformer-XL (Dai et al. 2019, section 3.3): `scale ((q + u) k^T + (q + v) r^T)`, where row `r` belongs to
/// the distance.
fn relative_scores(
    call: &Call<'_>,
    kind: &Attention,
    (queries, keys): (Tensor<4>, Tensor<4>),
    hidden: usize,
    lengths: Lengths,
) -> Tensor<4> {
    let backend = call.backend;
    let (heads, width) = (kind.heads as usize, kind.head_dim as usize);
    let biased = |index: usize| {
        let bias = call.weights[index].matrix().reshape([1, heads, 1, width]);
        backend.low((backend.full(queries.clone()) + bias) * kind.scale())
    };
    let sinusoids = position::sinusoids(lengths, hidden, &queries.device().inner());
    let count = sinusoids.dims()[0];
    let projected = backend.low(sinusoids).matmul(backend.low(call.weights[0].matrix()).transpose());
    let projected = projected.reshape([1, count, heads, width]).permute([0, 2, 3, 1]);
    let by_distance = biased(2).matmul(projected);
    product(biased(1), keys.transpose()) + along_diagonals(by_distance, lengths.keys)
}
