//! Operators that treat every element alone, and softmax.

use serde::{Deserialize, Serialize};

use super::activation::ACTIVATION_OPS;
use super::operator::{KEEPS_INPUTS, KEEPS_NOTHING, KEEPS_OUTPUT, Operator, View, Work, with_dims};
use super::{ActivationKind, Init, ParamSpec};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// Operations of a softmax for one element: subtract, exponentiate, add, divide, and the maximum.
pub(super) const SOFTMAX_OPS: u128 = 5;

pub(super) struct Add;

impl Operator for Add {
    fn label(&self) -> &'static str {
        "add"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if inputs[0] != inputs[1] {
            return Err(format!("adds values of one shape, got {} and {}", inputs[0], inputs[1]));
        }
        Ok(inputs[0].clone())
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(at.elements(), at.elements(), 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("add")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let mut rules = at.free_axes(0, 0, None);
        // Summands of two sums are summands of the sum: one reduction serves both, and none the gradient, which is the sum's.
        let part = Sharded::partial();
        rules.push(ShardRule::new(Split::Row, u64::MAX, &[part, part], &[], part));
        rules
    }
}

/// Arithmetic on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// `a + b`.
    Add,
    /// `a - b`.
    Subtract,
    /// `a b`.
    Multiply,
    /// `a / b`.
    Divide,
    /// The larger one.
    Maximum,
    /// The smaller one.
    Minimum,
    /// `a^b`.
    Power,
}

/// Arithmetic on two values, broadcast as in NumPy over the axes that follow the batch: extents are equal or one of them
/// is 1, and missing leading axes count as 1. An unbatched value is the same for every sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binary {
    /// The function.
    pub function: Arithmetic,
}

impl Operator for Binary {
    fn label(&self) -> &'static str {
        "arithmetic"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (a, b) = (inputs[0], inputs[1]);
        let broadcast = || format!("takes values that broadcast to one shape, got {a} and {b}");
        if a.dtype != b.dtype {
            return Err(broadcast());
        }
        let dims = broadcast_dims(&a.dims, &b.dims).ok_or_else(broadcast)?;
        Ok(TensorType { batched: a.batched || b.batched, dims, dtype: a.dtype })
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        match self.function {
            Arithmetic::Add | Arithmetic::Subtract => KEEPS_NOTHING,
            _ => KEEPS_INPUTS,
        }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("arithmetic")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        if at.input(0).dims == at.input(1).dims { at.free_axes(0, 0, None) } else { Vec::new() }
    }
}

/// The common shape of two lists of extents.
pub(super) fn broadcast_dims(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[u64], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    let joined = |axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y || y == 1 => Some(x),
        (1, y) => Some(y),
        _ => None,
    };
    (0..rank).map(joined).collect()
}

/// `x scale + shift` with two constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleShift {
    /// Factor.
    pub scale: f64,
    /// Summand.
    pub shift: f64,
}

impl Operator for ScaleShift {
    fn label(&self) -> &'static str {
        "scale"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        Ok(inputs[0].clone())
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(2 * at.elements(), at.elements(), 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("scale")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 0, None)
    }
}

/// Arithmetic with a learned tensor `weight` of the extents `dims`, broadcast to the value: a bias, a layer's scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The function; the value is its first argument.
    pub function: Arithmetic,
    /// Extents of the parameter.
    pub dims: Vec<u64>,
    /// Initial value of the parameter.
    pub init: Init,
}

impl Operator for Learned {
    fn label(&self) -> &'static str {
        "learned arithmetic"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("weight", &self.dims, self.init)]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        match broadcast_dims(&x.dims, &self.dims) {
            Some(dims) => Ok(with_dims(x, dims)),
            None => Err(format!("takes a value that {:?} broadcasts to, got {x}", self.dims)),
        }
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        match self.function {
            Arithmetic::Add | Arithmetic::Subtract => KEEPS_NOTHING,
            _ => KEEPS_INPUTS,
        }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("arithmetic")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let plain = self.dims.len() == 1 && at.input(0).dims == at.output().dims;
        if plain { at.free_axes(1, 0, Some(Layout::Axis(0))) } else { Vec::new() }
    }
}

/// The gate of a gated MLP (Shazeer 2020): `function(gate) up`, from two values `[.., width]`, or from one packed
/// `[.., 2 width]` that holds the gate first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Applied to the gate: SiLU in SwiGLU, GELU in GeGLU, sigmoid in GLU.
    pub function: ActivationKind,
    /// Whether gate and up come packed.
    pub packed: bool,
}

impl Operator for Gate {
    fn label(&self) -> &'static str {
        "gate"
    }

    fn arity(&self) -> usize {
        if self.packed { 1 } else { 2 }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        if !self.packed {
            let same = x == inputs[1];
            return if same {
                Ok(x.clone())
            } else {
                Err(format!("takes two equal shapes, got {x} and {}", inputs[1]))
            };
        }
        let mut y = x.clone();
        match y.dims.last_mut().filter(|last| **last % 2 == 0) {
            Some(last) => *last /= 2,
            None => return Err(format!("takes [.., 2 width], got {x}")),
        }
        Ok(y)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, ACTIVATION_OPS + 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("gate")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 0, None)
    }
}

/// Sets elements to zero with a probability and scales the others up (Srivastava et al. 2014). The mask, one byte an
/// element, is a quarter of an f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// Share of the elements that are set to zero.
    pub probability: f64,
}

impl Operator for Dropout {
    fn label(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if (0.0..1.0).contains(&self.probability) {
            return Ok(inputs[0].clone());
        }
        Err(format!("a probability is from 0 up to, not including, 1, got {}", self.probability))
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, 2)
    }

    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.output().elements(at.batch).div_ceil(4), ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("dropout")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 0, None)
    }
}

/// Softmax over the last axis, or its logarithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softmax {
    /// Whether the logarithm is given.
    pub log: bool,
}

impl Operator for Softmax {
    fn label(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if inputs[0].dims.is_empty() {
            return Err(format!("takes [.., classes], got {}", inputs[0]));
        }
        Ok(inputs[0].clone())
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, SOFTMAX_OPS)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_OUTPUT
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("softmax")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 1, None)
    }
}
