//! Element types and tensor types.

use std::fmt;

use cutplane_units::Bytes;
use serde::{Deserialize, Serialize};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit IEEE floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// bfloat16.
    Bf16,
    /// 32-bit signed integer: token ids and class targets.
    I32,
}

impl Dtype {
    /// Bytes an element.
    pub const fn size(self) -> u64 {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// True for the types that gradients flow through.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::I32)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I32 => "i32",
        })
    }
}

/// Shape and element type of a value. The batch axis is kept apart: a batched value of `dims` `[s, h]` has the shape
/// `[b, s, h]` once a micro-batch of `b` samples runs through it, so one graph serves every micro-batch size.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// True when a leading batch axis is there.
    pub batched: bool,
    /// Extents without the batch axis; empty for one number (per sample, when batched).
    pub dims: Vec<u64>,
    /// Element type.
    pub dtype: Dtype,
}

impl TensorType {
    /// A value of shape `[batch, dims..]`.
    pub fn batched(dims: &[u64], dtype: Dtype) -> Self {
        Self { batched: true, dims: dims.to_vec(), dtype }
    }

    /// A value whose shape does not depend on the batch.
    pub fn unbatched(dims: &[u64], dtype: Dtype) -> Self {
        Self { batched: false, dims: dims.to_vec(), dtype }
    }

    /// Number of elements for a micro-batch of `batch` samples; `None` when it passes 2^64.
    pub fn checked_elements(&self, batch: u64) -> Option<u64> {
        let start = if self.batched { batch } else { 1 };
        self.dims.iter().try_fold(start, |product, dim| product.checked_mul(*dim))
    }

    /// Number of elements for a micro-batch of `batch` samples, saturating.
    pub fn elements(&self, batch: u64) -> u64 {
        self.checked_elements(batch).unwrap_or(u64::MAX)
    }

    /// Size in bytes for a micro-batch of `batch` samples, saturating.
    pub fn bytes(&self, batch: u64) -> Bytes {
        Bytes::new(self.elements(batch).saturating_mul(self.dtype.size()))
    }

    /// Size in bytes when floats are held in `precision`, saturating: what a rank computes with and sends.
    pub fn bytes_in(&self, batch: u64, precision: Dtype) -> Bytes {
        let dtype = if self.dtype.is_float() { precision } else { self.dtype };
        Bytes::new(self.elements(batch).saturating_mul(dtype.size()))
    }

    /// The full shape for a micro-batch of `batch` samples.
    pub fn shape(&self, batch: u64) -> Vec<u64> {
        self.batched.then_some(batch).into_iter().chain(self.dims.iter().copied()).collect()
    }

    /// Product of all extents but the last, batch included: the rows that a per-row operator sees.
    pub fn rows(&self, batch: u64) -> u64 {
        let start = if self.batched { batch } else { 1 };
        self.dims.iter().rev().skip(1).fold(start, |product, dim| product.saturating_mul(*dim))
    }

    /// The last extent, or 1 for a scalar.
    pub fn last(&self) -> u64 {
        self.dims.last().copied().unwrap_or(1)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.batched.then(|| "b".to_owned()).into_iter().chain(self.dims.iter().map(u64::to_string));
        write!(f, "{}[{}]", self.dtype, dims.collect::<Vec<_>>().join(", "))
    }
}
