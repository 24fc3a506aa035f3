//! Normalisation, in f32.

use burn::tensor::{Tensor, module};
use cutplane_graph::{BatchNorm, GroupNorm, OpKind, RmsNorm};

use super::call::{Call, Inputs};
use super::value::Matrix;
use crate::error::RuntimeError;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let (x, backend) = (inputs.matrix()?, call.backend);
    Ok(match &call.op.kind {
        OpKind::LayerNorm { eps, .. } => {
            let (weight, bias) = (call.weights[0].vector(), call.weights.get(1).map(|bias| bias.vector()));
            x.map(|x| backend.low(module::layer_norm(backend.full(x), weight, bias, *eps)))
        }
        OpKind::RmsNorm(kind) => x.map(|x| backend.low(rms_norm(kind, backend.full(x), call.weights[0].rows()))),
        OpKind::BatchNorm(kind) => batch_norm(call, kind, &x),
        OpKind::GroupNorm(kind) => group_norm(call, kind, &x),
        _ => return Err(call.unknown()),
    })
}

/// `x / sqrt(mean(x^2) + eps)` times the weight, or one more than it.
fn rms_norm(kind: &RmsNorm, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let weight = if kind.unit_offset { weight + 1.0 } else { weight };
    let root = (x.clone().square().mean_dim(1) + kind.eps).sqrt();
    x / root * weight
}

/// Mean and variance of each channel over the micro-batch and all positions, as in training.
fn batch_norm(call: &Call<'_>, kind: &BatchNorm, x: &Matrix) -> Matrix {
    let backend = call.backend;
    let channels = call.dims(0)[0];
    let samples = call.samples(0, &x.shape);
    let positions = x.rows.shape().num_elements() / (samples * channels).max(1);
    let values = backend.full(x.rows.clone()).reshape([samples, channels, positions]);
    let normed = module::batch_norm_train(values, call.weights[0].vector(), call.weights[1].vector(), kind.eps);
    Matrix::shaped(x.shape.clone(), backend.low(normed.output))
}

/// Mean and variance of each group of channels of each sample.
fn group_norm(call: &Call<'_>, kind: &GroupNorm, x: &Matrix) -> Matrix {
    let backend = call.backend;
    let (samples, groups, channels) = (call.samples(0, &x.shape), kind.groups as usize, kind.channels as usize);
    let elements = x.rows.shape().num_elements();
    let values = backend.full(x.rows.clone()).reshape([samples * groups, elements / (samples * groups).max(1)]);
    let centred = values.clone() - values.mean_dim(1);
    let deviation = (centred.clone().square().mean_dim(1) + kind.eps).sqrt();
    let normed = (centred / deviation).reshape([samples, channels, elements / (samples * channels).max(1)]);
    let normed = match call.weights {
        [weight, bias] => normed * weight.rows().reshape([1, channels, 1]) + bias.rows().reshape([1, channels, 1]),
        _ => normed,
    };
    Matrix::shaped(x.shape.clone(), backend.low(normed))
}
