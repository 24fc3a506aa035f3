//! Sequence parallelism and the attention kernel.

use serde::Serialize;

use super::words::{is_unstated, says};
use crate::prediction::Skip;

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionChoice {
    /// Scores are written to memory.
    Materialised,
    /// One fused kernel, of a version where the row says.
    Fused {
        /// FlashAttention 1, 2 or 3.
        version: Option<u8>,
    },
}

/// Reads the column `flash_attention`; `None` when the row does not say.
///
/// # Errors
/// [`Skip`] `unknown-attention`.
pub fn attention(text: &str) -> Result<Option<AttentionChoice>, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) || lower == "auto" {
        return Ok(None);
    }
    let version = [("3", 3), ("2", 2), ("1", 1)].into_iter().find(|(digit, _)| lower.contains(digit));
    let version = version.map(|(_, version)| version);
    match lower.as_str() {
        "false" | "no" | "none" | "off" | "unfused" | "local" | "naive" | "eager" | "math" | "core" => {
            Ok(Some(AttentionChoice::Materialised))
        }
        "true" | "yes" | "on" | "flash" | "fused" | "triton" | "sdpa" | "cudnn" | "v1" | "v2" | "v3" | "fa" | "fa1"
        | "fa2" | "fa3" => Ok(Some(AttentionChoice::Fused { version })),
        _ if says(
            &lower,
            &[
                "flash",
                "fused",
                "xformers",
                "memory-efficient",
                "memory efficient",
                "mem_efficient",
                "fa2",
                "fa3",
                "sdpa",
            ],
        ) =>
        {
            Ok(Some(AttentionChoice::Fused { version }))
        }
        _ => Err(Skip::new("unknown-attention", format!("'{text}'"))),
    }
}

/// Sequence parallelism (Korthikanti et al. 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SequenceParallel {
    /// Whether norms and residuals are sharded along the sequence.
    pub on: bool,
    /// Whether the collectives of tensor parallelism run beside its products, where the row says.
    pub overlapped: Option<bool>,
}

/// Reads the column `sequence_parallel`; `None` when the row does not say.
///
/// # Errors
/// [`Skip`] `unknown-sequence-parallel`.
pub fn sequence_parallel(text: &str) -> Result<Option<SequenceParallel>, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) {
        return Ok(None);
    }
    let on = match lower.split([' ', '(']).next().unwrap_or_default() {
        "true" | "yes" | "on" | "1" => true,
        "false" | "no" | "off" | "0" | "none" => false,
        _ => return Err(Skip::new("unknown-sequence-parallel", format!("'{text}'"))),
    };
    Ok(Some(SequenceParallel { on, overlapped: says(&lower, &["overlap"]).then_some(!says(&lower, &["no overlap"])) }))
}
