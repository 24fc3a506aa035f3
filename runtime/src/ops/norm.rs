//! Layer normalisation.

use burn::tensor::{Tensor, module};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.
pub(crate) fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<2> {
    module::layer_norm(x, weight, bias, eps)
}
