//! The operators without a fused operator in Burn as tensor expressions, for devices whose numbers stay there. What they
//! share with the loops of [`super::kernel`] is the idea of [`super::activation`]: a function enters the history as its
//! tangent, so that its backward pass is one multiplication.
//!
//! Elementwise chains and reductions are in f32 whatever the precision; what is kept for the backward pass is in the
//! precision. On a card each chain is one kernel that Burn fuses.

use burn::tensor::{Device, Int, Tensor, TensorData};
use cutplane_graph::{ActivationKind, IGNORED_TARGET};

use super::activation;
use super::call::Call;
use super::loss::{Loss, LossGradient};
use super::position::HIDDEN;
use super::value::Tokens;
use crate::backend::Backend;
use crate::error::RuntimeError;

/// A function with this `value` and this `slope` at `x`. The difference of `x` from itself is zero and its derivative
/// one, so the value is exact in any precision.
fn tangent<const D: usize>(x: Tensor<D>, value: Tensor<D>, slope: Tensor<D>) -> Tensor<D> {
    let here = x.clone().inner();
    (x - here) * slope + value
}

/// Applies a pointwise function, when it is known.
pub(crate) fn apply(function: ActivationKind, x: Tensor<2>, backend: &Backend) -> Option<Tensor<2>> {
    let at = backend.full(x.clone().inner());
    let (value, slope) = match function {
        ActivationKind::Relu => return activation::plain(function, x),
        ActivationKind::Gelu => gelu(at),
        ActivationKind::GeluTanh => gelu_tanh(at),
        ActivationKind::Tanh => {
            let value = at.tanh();
            (value.clone(), one_minus_square(value))
        }
        other => return activation::plain(other, backend.full(x)).map(|y| backend.low(y)),
    };
    Some(tangent(x, backend.low(value), backend.low(slope)))
}

fn one_minus_square(x: Tensor<2>) -> Tensor<2> {
    (x.clone() * x).neg() + 1.0
}

/// `x Φ(x)`; the slope is `Φ(x) + x φ(x)`.
fn gelu(x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let below = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    let bell = (x.clone() * x.clone() * -0.5).exp() * (0.5 / std::f64::consts::PI).sqrt();
    (x.clone() * below.clone(), x * bell + below)
}

/// `x / 2 (1 + t)` with `t = tanh u`, `u = c (x + 0.044715 x^3)`, `c = sqrt(2/pi)`; the slope is
/// `(1 + t) / 2 + x / 2 (1 - t^2) c (1 + 3 * 0.044715 x^2)`.
fn gelu_tanh(x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let (c, cubic) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
    let square = x.clone() * x.clone();
    let t = (x.clone() * (square.clone() * cubic + 1.0) * c).tanh();
    let half = (t.clone() + 1.0) * 0.5;
    let inner = (square * (3.0 * cubic) + 1.0) * c;
    (x.clone() * half.clone(), half + x * 0.5 * one_minus_square(t) * inner)
}

/// `e^(score - largest of its row)` of scores `[samples, heads, s, s]`; where `causal`, a row sees only the columns up to
/// its own number, and the others are zero.
pub(crate) fn exponentials(scores: Tensor<4>, causal: bool, backend: &Backend) -> Tensor<4> {
    let plain = backend.full(scores.clone().inner());
    let seen = if causal { plain.clone() + hidden(plain.dims()[3], &plain.device()) } else { plain };
    let largest = seen.clone().max_dim(3);
    let exponentials = backend.low((seen - largest).exp());
    tangent(scores, exponentials.clone(), exponentials)
}

/// [`HIDDEN`] above the diagonal, zero elsewhere: `[1, 1, s, s]`.
fn hidden(s: usize, device: &Device) -> Tensor<4> {
    let numbers = Tensor::<1, Int>::arange(0..s as i64, device);
    let (rows, columns) = (numbers.clone().reshape([1, 1, s, 1]), numbers.reshape([1, 1, 1, s]));
    columns.greater(rows).float() * HIDDEN
}

/// Sum of the cross-entropies of all rows with a target, divided by `divisor`; the gradient is multiplied by `scale`
/// before it is rounded to the precision of the backend.
pub(crate) fn cross_entropy(
    call: &Call<'_>,
    logits: Tensor<2>,
    targets: &Tokens,
    divisor: u64,
    scale: f32,
    backend: &Backend,
) -> Result<LossGradient, RuntimeError> {
    let [rows, classes] = logits.dims();
    call.check_ids(&targets.ids, classes, Some(IGNORED_TARGET))?;
    let own = logits.clone().inner();
    let plain = backend.full(own.clone());
    let (index, weight) = targets_on_device(targets, 1.0 / divisor as f32, &plain.device());
    let largest = plain.clone().max_dim(1);
    let exponentials = (plain.clone() - largest.clone()).exp();
    let sum = exponentials.clone().sum_dim(1);
    // Taken from the logits as they are, so that their f32 copy need not be written out.
    let own = backend.full(own.gather(1, index.clone()));
    let value = ((sum.clone().log() + largest - own) * weight.clone()).sum();
    let columns = Tensor::<1, Int>::arange(0..classes as i64, &value.device()).reshape([1, classes]);
    let hot = columns.expand([rows, classes]).equal(index.expand([rows, classes])).float();
    let gradient = (exponentials / sum - hot) * (weight * scale);
    Ok(LossGradient { value: Loss::Device(value), logits, gradient: backend.low(gradient) })
}

/// Targets and weights as columns: the ignored rows have weight zero and some target.
fn targets_on_device(targets: &Tokens, weight: f32, device: &Device) -> (Tensor<2, Int>, Tensor<2>) {
    let counted = |id: &i32| if *id == IGNORED_TARGET { 0.0 } else { weight };
    let weights: Vec<f32> = targets.ids.iter().map(counted).collect();
    let ids: Vec<i32> = targets.ids.iter().map(|id| (*id).max(0)).collect();
    let column = [ids.len(), 1];
    (
        Tensor::from_data(TensorData::new(ids, column), device),
        Tensor::from_data(TensorData::new(weights, column), device),
    )
}
