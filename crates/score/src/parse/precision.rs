//! Number formats.

use serde::Serialize;

use super::words::{is_unstated, says};
use crate::prediction::Skip;

/// What matrix products multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Products {
    /// 32-bit floats on vector units.
    F32,
    /// 32-bit floats rounded to 19 bits by tensor cores.
    Tf32,
    /// TF32 where the device has it, 32-bit floats elsewhere.
    F32OrTf32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit floats, one scale a tensor or a block.
    Fp8,
    /// 8-bit floats with a shared exponent for 32 values (OCP MX).
    MxFp8,
    /// 4-bit floats with a scale for 16 values.
    NvFp4,
    /// 8-bit integers.
    Int8,
    /// 4-bit integers as weights, products in 16 bits.
    Int4Weights,
}

impl Products {
    /// Whether the numbers are stored in 16 bits or fewer.
    pub const fn is_low(self) -> bool {
        !matches!(self, Self::F32 | Self::Tf32 | Self::F32OrTf32)
    }
}

/// Number formats of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Precision {
    /// What matrix products multiply.
    pub products: Products,
    /// Whether weights and residuals are 32-bit and cast for each product (automatic mixed precision).
    pub autocast: bool,
    /// Whether nothing is kept or reduced in 32 bits (FSDP's `PURE`).
    pub pure: bool,
    /// Whether a compiler fuses operators (XLA, `torch.compile`).
    pub compiled: bool,
}

/// Reads the column `precision`; `None` when the row does not say.
///
/// # Errors
/// [`Skip`] `unknown-precision` or `ambiguous-precision`.
pub fn precision(text: &str) -> Result<Option<Precision>, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) {
        return Ok(None);
    }
    let products = products(&lower)
        .or_else(|| is_mixed(&lower).then_some(Products::F16))
        .ok_or_else(|| Skip::new("unknown-precision", format!("'{text}'")))?;
    Ok(Some(Precision {
        products,
        autocast: products.is_low()
            && says(&lower, &["amp", "mixed fp16", "autocast", "16-mixed", "o1"])
            && !lower.contains("o2"),
        pure: says(&lower, &["pure"]),
        compiled: says(&lower, &["xla", "compile"]),
    }))
}

/// Mixed precision without a format: 16 bits, whichever 16; both run at one speed where a device has both.
fn is_mixed(lower: &str) -> bool {
    let words = ["mixed", "amp", "autocast", "apex"];
    says(lower, &words) || ["o1", "o2", "o3", "16-bit", "16bit", "16 bit", "16", "low"].contains(&lower)
}

/// The lowest format that a text names.
fn products(lower: &str) -> Option<Products> {
    let formats: [(&[&str], Products); 11] = [
        (&["nvfp4", "mxfp4", "fp4"], Products::NvFp4),
        (&["w4a16", "awq", "gptq", "int4", "4bit", "4-bit", "nf4", "q4_"], Products::Int4Weights),
        (&["int8", "w8a8", "w8a16", "smoothquant", "8-bit", "8bit"], Products::Int8),
        (&["mxfp8", "fp8-mx", "fp8 mx"], Products::MxFp8),
        (&["fp8", "float8", "e4m3"], Products::Fp8),
        (&["fp32/tf32", "tf32/fp32"], Products::F32OrTf32),
        (&["bf16", "bfloat16"], Products::Bf16),
        (&["fp16", "float16", "half", "f16"], Products::F16),
        (&["tf32"], Products::Tf32),
        (&["fp32", "float32", "f32", "single", "32-bit", "32bit", "full precision"], Products::F32),
        (&["fp64", "float64"], Products::F32),
    ];
    // 'FP8-CS (FP8-MX)' names the format of two releases: the first counts.
    let head = lower.split(" (").next().unwrap_or(lower);
    let named = |text: &str| formats.iter().find(|(names, _)| says(text, names)).map(|(_, format)| *format);
    if says(lower, &["fp64", "float64"]) {
        return None;
    }
    named(head).or_else(|| named(lower))
}
