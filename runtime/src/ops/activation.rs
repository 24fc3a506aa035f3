//! Pointwise functions: as loops over host memory where a model spends time in them, as Burn's otherwise.

use burn::tensor::{Tensor, activation};
use cutplane_graph::ActivationKind;

use super::value::{floats, from_floats};
use super::{expressions, kernel};
use crate::backend::{Backend, Residence};

/// Applies `function` to every element; `None` when it is not known.
pub(crate) fn apply(function: ActivationKind, x: Tensor<2>, backend: &Backend) -> Option<Tensor<2>> {
    match backend.residence() {
        Residence::Host => host(function, x),
        Residence::Device => expressions::apply(function, x, backend),
    }
}

/// Whether [`apply`] knows the function.
pub(crate) fn is_known(function: ActivationKind) -> bool {
    use ActivationKind as A;
    matches!(
        function,
        A::Gelu | A::GeluTanh | A::Relu | A::Tanh | A::Sigmoid | A::Silu | A::Relu6 | A::LeakyRelu | A::SquaredRelu
    ) || matches!(function, A::QuickGelu | A::Softplus | A::HardSwish | A::HardSigmoid | A::Erf | A::Exp | A::Log)
        || matches!(function, A::Sqrt | A::Square | A::Reciprocal | A::Absolute | A::Cosine | A::Sine)
}

fn host(function: ActivationKind, x: Tensor<2>) -> Option<Tensor<2>> {
    Some(match function {
        ActivationKind::Gelu => tangent(x, kernel::gelu),
        ActivationKind::GeluTanh => tangent(x, kernel::gelu_tanh),
        ActivationKind::Tanh => tangent(x, kernel::tanh),
        ActivationKind::Sigmoid => tangent(x, kernel::sigmoid),
        ActivationKind::Silu => tangent(x, kernel::silu),
        other => return plain(other, x),
    })
}

/// The functions as Burn has them or as short expressions; `None` for one that is not known.
pub(super) fn plain(function: ActivationKind, x: Tensor<2>) -> Option<Tensor<2>> {
    Some(match function {
        ActivationKind::Relu => activation::relu(x),
        ActivationKind::Sigmoid => activation::sigmoid(x),
        ActivationKind::Silu => activation::silu(x),
        ActivationKind::Relu6 => x.clamp(0.0, 6.0),
        ActivationKind::LeakyRelu => activation::leaky_relu(x, 0.01),
        ActivationKind::SquaredRelu => activation::relu(x).square(),
        ActivationKind::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        ActivationKind::Softplus => activation::softplus(x, 1.0),
        ActivationKind::HardSwish => x.clone() * sixth(x),
        ActivationKind::HardSigmoid => sixth(x),
        ActivationKind::Erf => x.erf(),
        ActivationKind::Exp => x.exp(),
        ActivationKind::Log => x.log(),
        ActivationKind::Sqrt => x.sqrt(),
        ActivationKind::Square => x.square(),
        ActivationKind::Reciprocal => x.recip(),
        ActivationKind::Absolute => x.abs(),
        ActivationKind::Cosine => x.cos(),
        ActivationKind::Sine => x.sin(),
        _ => return None,
    })
}

/// `relu6(x + 3) / 6`.
fn sixth(x: Tensor<2>) -> Tensor<2> {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

/// A pointwise function as its tangent: `slope x + offset` has the function's value and derivative at `x`, so Burn's
/// history holds one multiplication in place of a chain, and the backward pass is one multiplication. `kernel` replaces
/// `x` by the slopes and returns the offsets. The value is off by the rounding of `slope x`.
pub(crate) fn tangent<const D: usize>(x: Tensor<D>, kernel: impl FnOnce(&mut [f32]) -> Vec<f32>) -> Tensor<D> {
    let (dims, device) = (x.dims(), x.device().inner());
    let mut slopes = floats(x.clone().inner());
    let offsets = kernel(&mut slopes);
    x * from_floats(slopes, dims, &device) + from_floats(offsets, dims, &device)
}
