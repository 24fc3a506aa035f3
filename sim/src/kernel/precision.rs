//! What numbers a kernel reads, multiplies and writes.

use cutplane_graph::Dtype;
use serde::{Deserialize, Serialize};

/// Storage and arithmetic of a kernel; sums are kept in 32 bits throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats on vector units.
    F32,
    /// 32-bit floats, rounded to 19 bits by tensor cores.
    Tf32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 16-bit floats in memory, 32-bit arithmetic on vector units (Pascal's "pseudo half").
    HalfStorage,
    /// 8-bit floats.
    Fp8,
    /// 8-bit integers.
    Int8,
}

impl Precision {
    /// Bytes of an operand in memory.
    pub const fn storage_bytes(self) -> u64 {
        match self {
            Self::F32 | Self::Tf32 => 4,
            Self::F16 | Self::Bf16 | Self::HalfStorage => 2,
            Self::Fp8 | Self::Int8 => 1,
        }
    }

    /// Bytes of a result in memory: 8-bit products are written in 16 bits.
    pub const fn output_bytes(self) -> u64 {
        match self {
            Self::Fp8 | Self::Int8 => 2,
            other => other.storage_bytes(),
        }
    }

    /// The arithmetic of a model in this element type.
    pub const fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 | Dtype::I32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}
