//! Pointwise functions, as loops over host memory.

use burn::tensor::{Tensor, activation};
use cutplane_graph::ActivationKind;

use super::kernel;
use super::value::{floats, from_floats};

/// Applies `function` to every element, when it is known; [`super::expressions::apply`] is its twin for devices.
pub(crate) fn apply(function: ActivationKind, x: Tensor<2>) -> Option<Tensor<2>> {
    Some(match function {
        ActivationKind::Gelu => tangent(x, kernel::gelu),
        ActivationKind::GeluTanh => tangent(x, kernel::gelu_tanh),
        ActivationKind::Relu => activation::relu(x),
        ActivationKind::Tanh => tangent(x, kernel::tanh),
        _ => return None,
    })
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
