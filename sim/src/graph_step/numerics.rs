//! Number formats of a step.

use crate::kernel::{GpuModel, Precision};

/// What is multiplied, what is stored, and what is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numerics {
    /// Operands of products and convolutions.
    pub products: Precision,
    /// Bytes of a stored activation.
    pub activation_bytes: u64,
    /// Bytes of a gradient on the wire.
    pub gradient_bytes: u64,
    /// Whether parameters are 32-bit and cast for every step.
    pub casts_weights: bool,
    /// Bytes that the update moves a parameter, casts aside: 20 for SGD with momentum in 32 bits (three reads, two writes),
    /// 28 for Adam (four and three).
    pub update_bytes: u64,
}

/// Update of SGD with momentum.
const MOMENTUM_BYTES: u64 = 20;

impl Numerics {
    /// Everything in 32 bits; on tensor cores where `tf32` says so and the device has them.
    pub const fn single(tf32: bool) -> Self {
        let products = if tf32 { Precision::Tf32 } else { Precision::F32 };
        Self { products, activation_bytes: 4, gradient_bytes: 4, casts_weights: false, update_bytes: MOMENTUM_BYTES }
    }

    /// 16-bit activations and products over 32-bit parameters (Micikevicius et al. 2018).
    pub const fn mixed(products: Precision) -> Self {
        Self { products, activation_bytes: 2, gradient_bytes: 2, casts_weights: true, update_bytes: MOMENTUM_BYTES }
    }

    /// The same on a device: 16-bit numbers are only stored where no unit multiplies them faster, and TF32 is f32 where no
    /// tensor core rounds it.
    #[must_use]
    pub fn on(self, gpu: &GpuModel) -> Self {
        let products = match self.products {
            Precision::F16 | Precision::Bf16 if !gpu.facts.matrix_units => Precision::HalfStorage,
            Precision::Tf32 if !gpu.facts.peak(Precision::Tf32).tensor => Precision::F32,
            other => other,
        };
        Self { products, ..self }
    }
}
