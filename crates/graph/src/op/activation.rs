//! Functions of one number.

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, Operator, View, Work};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::ShardRule;
use crate::tensor::TensorType;

/// Pointwise functions of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActivationKind {
    /// `x Φ(x)` with the error function (BERT, "gelu").
    Gelu,
    /// The tanh approximation of GELU (GPT-2, "gelu_new").
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent (BERT's pooler).
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x sigmoid(x)`, also called swish (Llama).
    Silu,
    /// `min(max(x, 0), 6)` (MobileNet).
    Relu6,
    /// `x` above zero, `x / 100` below (PyTorch's default slope).
    LeakyRelu,
    /// `max(x, 0)^2` (Primer).
    SquaredRelu,
    /// `x sigmoid(1.702 x)` (CLIP).
    QuickGelu,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x relu6(x + 3) / 6` (MobileNetV3).
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// The error function.
    Erf,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `x^2`.
    Square,
    /// `1 / x`.
    Reciprocal,
    /// `|x|`.
    Absolute,
    /// `cos x`.
    Cosine,
    /// `sin x`.
    Sine,
}

impl ActivationKind {
    /// Its name in profiles.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Gelu => "activation.gelu",
            Self::GeluTanh => "activation.gelu-tanh",
            Self::Relu => "activation.relu",
            Self::Tanh => "activation.tanh",
            Self::Sigmoid => "activation.sigmoid",
            Self::Silu => "activation.silu",
            Self::Relu6 => "activation.relu6",
            Self::LeakyRelu => "activation.leaky-relu",
            Self::SquaredRelu => "activation.squared-relu",
            Self::QuickGelu => "activation.quick-gelu",
            Self::Softplus => "activation.softplus",
            Self::HardSwish => "activation.hard-swish",
            Self::HardSigmoid => "activation.hard-sigmoid",
            Self::Erf => "activation.erf",
            Self::Exp => "activation.exp",
            Self::Log => "activation.log",
            Self::Sqrt => "activation.sqrt",
            Self::Square => "activation.square",
            Self::Reciprocal => "activation.reciprocal",
            Self::Absolute => "activation.absolute",
            Self::Cosine => "activation.cosine",
            Self::Sine => "activation.sine",
        }
    }

    /// Its name for people: `gelu`, `leaky-relu`.
    pub fn name(self) -> &'static str {
        self.key().trim_start_matches("activation.")
    }
}

/// Operations counted for one element of any of them: they are bound by memory, never by this.
pub(super) const ACTIVATION_OPS: u128 = 8;

pub(super) struct Activation {
    pub(super) function: ActivationKind,
}

impl Operator for Activation {
    fn label(&self) -> &'static str {
        "activation"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        Ok(inputs[0].clone())
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, ACTIVATION_OPS)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element(self.function.key())
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 0, None)
    }
}
