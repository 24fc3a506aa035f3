//! How positions enter an attention.

use serde::{Deserialize, Serialize};

use super::Attention;
use super::operator::View;

/// How positions enter the scores of an attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionScheme {
    /// Not at all: they were added to the input, or the order does not matter.
    #[default]
    None,
    /// Queries and keys are rotated (Su et al. 2021).
    Rotary(Rotary),
    /// A learned bias for each head and bucket of distances (Raffel et al. 2020, section 2.1): `weight [buckets, heads]`.
    RelativeBias {
        /// Buckets of distances.
        buckets: u64,
        /// Distances from here on share the last bucket.
        max_distance: u64,
    },
    /// A fixed bias that grows with the distance (Press, Smith and Lewis 2022): slope `2^(-max_bias k / heads)` of the
    /// `k`-th head.
    Alibi {
        /// Exponent of the last head, 8 in the paper.
        max_bias: f64,
    },
    /// Transformer-XL (Dai et al. 2019, section 3.3): scores of queries and of two learned biases `r_w_bias`, `r_r_bias`
    /// `[heads, head_dim]` against projected sinusoids of the distance, `r_net.weight [heads head_dim, hidden]`.
    RelativeProjection {
        /// Width of the sinusoids.
        hidden: u64,
    },
}

/// Rotation of pairs of features by angles `position base^(-2 i / dims)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotary {
    /// Base of the wavelengths, 10,000 in the paper.
    pub base: f64,
    /// Features of a head that are rotated; an even number.
    pub dims: u64,
    /// Whether features `2 i` and `2 i + 1` form a pair (GPT-J), and not `i` and `i + dims / 2` (GPT-NeoX, Llama).
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub interleaved: bool,
    /// How wavelengths are stretched for longer contexts.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub scaling: RotaryScaling,
}

/// Stretching of the wavelengths of [`Rotary`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotaryScaling {
    /// None.
    #[default]
    None,
    /// All by one factor (Chen et al. 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long wavelengths by a factor, short ones not, those between in part (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_positions / low_frequency` get the whole factor.
        low_frequency: f64,
        /// Wavelengths below `original_positions / high_frequency` get none.
        high_frequency: f64,
        /// Context that the model was trained with first, tokens.
        original_positions: u64,
    },
}

impl PositionScheme {
    pub(super) fn check(self, head_dim: u64) -> Result<(), String> {
        match self {
            Self::Rotary(Rotary { dims, .. }) if dims == 0 || dims % 2 != 0 || dims > head_dim => {
                Err(format!("{dims} rotated features must be even and at most the head's {head_dim}"))
            }
            Self::RelativeBias { buckets, max_distance } if buckets < 2 || max_distance < buckets / 2 => {
                Err(format!("{buckets} buckets cannot tell distances up to {max_distance} apart"))
            }
            _ => Ok(()),
        }
    }

    /// Operations that positions add forward. Rotation: 3 a rotated feature of queries and keys. Biases: one a score.
    /// Transformer-XL: the projection of `t` sinusoids, the second product, and one sum a score.
    pub(super) fn work(self, attention: &Attention, at: &View<'_>, pairs: u128) -> u128 {
        match self {
            Self::None => 0,
            Self::Rotary(Rotary { dims, .. }) => {
                let heads = u128::from(attention.heads) + u128::from(attention.kv_heads());
                3 * u128::from(at.rows()) * heads * u128::from(dims)
            }
            Self::RelativeBias { .. } | Self::Alibi { .. } => pairs,
            Self::RelativeProjection { hidden } => {
                let distances = u128::from(attention.lengths(at).1);
                let projected = 2 * distances * u128::from(hidden) * u128::from(attention.widths().0);
                projected + pairs * (2 * u128::from(attention.head_dim) + 1)
            }
        }
    }
}
