//! Arithmetic with numbers that no training changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, KEEPS_NOTHING, Operator, View, Work, with_dims};
use super::pointwise::{Arithmetic, broadcast_dims};
use crate::facts::{ProfileKey, Saved};
use crate::tensor::TensorType;

/// Most numbers of a constant.
const MAX_NUMBERS: usize = 1 << 20;

/// Arithmetic with a constant of the extents `dims`, broadcast to the value: a mask, a table of positions, whatever an
/// imported graph computes from its shapes alone. It is the same for every sample and is no parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fixed {
    /// The function; the value is its first argument.
    pub function: Arithmetic,
    /// Extents of the constant.
    pub dims: Vec<u64>,
    /// Its numbers in row-major order, finite, at most 2^20.
    pub numbers: Arc<[f32]>,
}

impl Operator for Fixed {
    fn label(&self) -> &'static str {
        "constant arithmetic"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (x, count) = (inputs[0], self.numbers.len());
        let product = self.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        if count > MAX_NUMBERS || product != Some(count as u64) || self.numbers.iter().any(|number| !number.is_finite())
        {
            return Err(format!(
                "holds a constant of {count} numbers for {:?}: at most {MAX_NUMBERS}, all finite",
                self.dims
            ));
        }
        match broadcast_dims(&x.dims, &self.dims) {
            Some(dims) => Ok(with_dims(x, dims)),
            None => Err(format!("takes a value that {:?} broadcasts to, got {x}", self.dims)),
        }
    }

    fn work(&self, at: &View<'_>) -> Work {
        let constant = self.numbers.len() as u128 * u128::from(at.output().dtype.size());
        Work::pointwise(at, 1).with_bytes(at.moved() + constant)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        match self.function {
            Arithmetic::Maximum | Arithmetic::Minimum | Arithmetic::Power => KEEPS_INPUTS,
            _ => KEEPS_NOTHING,
        }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("arithmetic")
    }
}
