//! Normalisation.

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, Operator, View, Work};
use super::{Init, ParamSpec};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// Operations of a norm for one element.
const NORM_OPS: u128 = 8;
/// Operations of a root-mean-square norm for one element: no mean.
const RMS_OPS: u128 = 5;

fn weight_and_bias(extent: u64, bias: bool) -> Vec<ParamSpec> {
    let weight = ParamSpec::new("weight", &[extent], Init::Ones);
    std::iter::once(weight).chain(bias.then(|| ParamSpec::new("bias", &[extent], Init::Zeros))).collect()
}

pub(super) struct LayerNorm {
    pub(super) dim: u64,
    pub(super) bias: bool,
}

impl Operator for LayerNorm {
    fn label(&self) -> &'static str {
        "layer norm"
    }

    fn params(&self) -> Vec<ParamSpec> {
        weight_and_bias(self.dim, self.bias)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        over_last(inputs[0], self.dim)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, NORM_OPS)
    }

    /// Mean and reciprocal standard deviation of each row.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.rows().saturating_mul(2), ..KEEPS_INPUTS }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("layer_norm")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(1 + usize::from(self.bias), 1, None)
    }
}

fn over_last(x: &TensorType, dim: u64) -> Result<TensorType, String> {
    if x.last() == dim { Ok(x.clone()) } else { Err(format!("takes [.., {dim}], got {x}")) }
}

/// Root-mean-square normalisation over the last axis (Zhang and Sennrich 2019, equation 4): `x / sqrt(mean(x^2) + eps)`
/// times `weight [dim]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsNorm {
    /// Width of the last axis.
    pub dim: u64,
    /// Added to the mean square.
    pub eps: f64,
    /// Whether the factor is `1 + weight`, with weights that start at zero (Gemma).
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub unit_offset: bool,
}

impl Operator for RmsNorm {
    fn label(&self) -> &'static str {
        "rms norm"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("weight", &[self.dim], if self.unit_offset { Init::Zeros } else { Init::Ones })]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        over_last(inputs[0], self.dim)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::pointwise(at, RMS_OPS)
    }

    /// The reciprocal root mean square of each row.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.rows(), ..KEEPS_INPUTS }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("rms_norm")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(1, 1, None)
    }
}

/// Batch normalisation of `[channels, ..]` (Ioffe and Szegedy 2015) with the statistics of the micro-batch, as PyTorch
/// computes them in training; `weight [channels]` and `bias [channels]`. Running averages are no parameters. The result
/// depends on the size of the micro-batch, so partitions with different micro-batches differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Extent of the first axis after the batch.
    pub channels: u64,
    /// Added to the variance.
    pub eps: f64,
}

impl Operator for BatchNorm {
    fn label(&self) -> &'static str {
        "batch norm"
    }

    fn params(&self) -> Vec<ParamSpec> {
        weight_and_bias(self.channels, true)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        over_first(inputs[0], self.channels)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work { kernels: 2, ..Work::pointwise(at, NORM_OPS) }
    }

    /// Mean and reciprocal standard deviation of each channel.
    fn saved(&self, _: &View<'_>) -> Saved {
        Saved { internal_elements: self.channels.saturating_mul(2), ..KEEPS_INPUTS }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        per_channel(at, "batch_norm", self.channels)
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        channel_rules(at, self.channels, 2, self.channels.saturating_mul(2))
    }
}

/// Group normalisation of `[channels, ..]` (Wu and He 2018): each sample's channels in `groups` groups; one group a channel
/// is instance normalisation. `weight [channels]` and `bias [channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNorm {
    /// Number of groups; divides `channels`.
    pub groups: u64,
    /// Extent of the first axis after the batch.
    pub channels: u64,
    /// Added to the variance.
    pub eps: f64,
    /// Whether it has a learned weight and bias.
    pub affine: bool,
}

impl Operator for GroupNorm {
    fn label(&self) -> &'static str {
        "group norm"
    }

    fn params(&self) -> Vec<ParamSpec> {
        if self.affine { weight_and_bias(self.channels, true) } else { Vec::new() }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if self.groups == 0 || !self.channels.is_multiple_of(self.groups) {
            return Err(format!("{} groups do not divide {} channels", self.groups, self.channels));
        }
        over_first(inputs[0], self.channels)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work { kernels: 2, ..Work::pointwise(at, NORM_OPS) }
    }

    /// Mean and reciprocal standard deviation of each group of each sample.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.samples().saturating_mul(2 * self.groups), ..KEEPS_INPUTS }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        per_channel(at, "group_norm", self.channels)
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        channel_rules(at, self.groups, self.params().len(), at.samples().saturating_mul(2 * self.groups))
    }
}

fn over_first(x: &TensorType, channels: u64) -> Result<TensorType, String> {
    if x.dims.first() != Some(&channels) {
        return Err(format!("takes [{channels}, ..], got {x}"));
    }
    Ok(x.clone())
}

fn per_channel(at: &View<'_>, operator: &'static str, channels: u64) -> ProfileKey {
    let elements = at.output().elements(at.batch);
    ProfileKey { operator, axes: vec![channels, elements / channels.max(1)], work: elements as f64 }
}

/// Channels apart from each other; or the image's rows, with the statistics summed.
fn channel_rules(at: &View<'_>, extent: u64, params: usize, statistics: u64) -> Vec<ShardRule> {
    let channel = Sharded::split(Layout::Axis(0));
    let mut rules = vec![ShardRule::new(Split::Channel, extent, &[channel], &vec![channel; params], channel)];
    if let Some(height) = at.output().dims.get(1) {
        let rows = Sharded::split(Layout::Axis(1));
        let spatial = ShardRule::new(Split::Spatial, *height, &[rows], &vec![Sharded::shared(); params], rows);
        rules.push(spatial.with_inside(Collective::AllReduce, Collective::AllReduce, statistics, 1));
    }
    rules
}
