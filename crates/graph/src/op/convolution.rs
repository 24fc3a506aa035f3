//! Convolution, pooling and resizing of `[channels, length]` and `[channels, height, width]`.

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, KEEPS_NOTHING, Operator, View, Work, with_dims};
use super::{Init, ParamSpec};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// Largest kernel, stride, padding and dilation.
const MAX_EXTENT: u64 = 1 << 32;

/// A window that slides over the axes after the channels: one entry an axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Extents.
    pub kernel: Vec<u64>,
    /// Steps.
    pub stride: Vec<u64>,
    /// Zeros before and after.
    pub padding: Vec<[u64; 2]>,
    /// Distances between the taps.
    pub dilation: Vec<u64>,
    /// Whether a last window that is partly outside counts (PyTorch's `ceil_mode`).
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub ceil: bool,
}

impl Window {
    /// A window over one axis.
    pub fn line(kernel: u64, stride: u64, padding: u64) -> Self {
        Self::new(&[kernel], stride, &[padding])
    }

    /// A square window.
    pub fn square(kernel: u64, stride: u64, padding: u64) -> Self {
        Self::new(&[kernel; 2], stride, &[padding; 2])
    }

    /// A window with one stride, equal padding before and after, and no dilation.
    pub fn new(kernel: &[u64], stride: u64, padding: &[u64]) -> Self {
        Self {
            kernel: kernel.to_vec(),
            stride: vec![stride; kernel.len()],
            padding: padding.iter().map(|zeros| [*zeros; 2]).collect(),
            dilation: vec![1; kernel.len()],
            ceil: false,
        }
    }

    /// Taps of the window.
    pub fn taps(&self) -> u64 {
        self.kernel.iter().fold(1, |product, extent| product.saturating_mul(*extent))
    }

    /// Extents of the output: `floor((n + padding - dilation (kernel - 1) - 1) / stride) + 1` an axis, as PyTorch counts;
    /// rounded up where [`Window::ceil`] is set and the last window begins inside.
    fn output(&self, x: &TensorType) -> Result<Vec<u64>, String> {
        let axes = self.kernel.len();
        let lists = self.stride.len() == axes && self.padding.len() == axes && self.dilation.len() == axes;
        let mut sizes = [&self.kernel, &self.stride, &self.dilation].into_iter().flatten();
        let possible =
            sizes.all(|n| (1..=MAX_EXTENT).contains(n)) && self.padding.iter().flatten().all(|n| *n <= MAX_EXTENT);
        if !(1..=3).contains(&axes) || !lists || !possible {
            return Err(format!(
                "kernel, stride and dilation must be 1 to {MAX_EXTENT}, padding at most that, for 1 to 3 axes each"
            ));
        }
        if x.dims.len() != axes + 1 {
            return Err(format!("takes [channels, {axes} more axes], got {x}"));
        }
        (0..axes).map(|axis| self.extent(axis, x.dims[axis + 1])).collect()
    }

    fn extent(&self, axis: usize, n: u64) -> Result<u64, String> {
        let [before, after] = self.padding[axis];
        let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
        let reach = self.dilation[axis].saturating_mul(kernel - 1).saturating_add(1);
        let padded = n.saturating_add(before).saturating_add(after);
        let Some(free) = padded.checked_sub(reach) else {
            return Err(format!("a window that reaches over {reach} does not fit {n} with {before} + {after} zeros"));
        };
        let floor = free / stride + 1;
        let starts_inside = floor.saturating_mul(stride) < n.saturating_add(before);
        Ok(floor + u64::from(self.ceil && free % stride != 0 && starts_inside))
    }

    /// Rows of the first axis after the channels that one rank needs from its neighbours.
    fn halo(&self) -> u64 {
        self.dilation[0].saturating_mul(self.kernel[0] - 1)
    }

    /// Elements that cross every border between ranks when that axis is split.
    fn halo_elements(&self, at: &View<'_>) -> u64 {
        let x = at.input(0);
        let row = x.elements(at.batch) / x.dims[1].max(1);
        row.saturating_mul(self.halo())
    }

    /// Split along the first axis after the channels, with the borders exchanged.
    fn spatial_rule(&self, at: &View<'_>, params: usize) -> ShardRule {
        let rows = Sharded::split(Layout::Axis(1));
        let rule = ShardRule::new(Split::Spatial, at.output().dims[1], &[rows], &vec![Sharded::shared(); params], rows);
        let collective = if self.halo() == 0 { Collective::None } else { Collective::Halo };
        rule.with_inside(collective, collective, self.halo_elements(at), 1)
    }
}

/// Convolution of `[inputs, ..]` to `[outputs, ..]` in `groups` groups of channels; `weight [outputs, inputs / groups,
/// kernel..]` and `bias [outputs]`, as in `torch.nn.Conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convolution {
    /// Channels in.
    pub inputs: u64,
    /// Channels out.
    pub outputs: u64,
    /// The window.
    #[serde(flatten)]
    pub window: Window,
    /// Groups; divides both numbers of channels.
    pub groups: u64,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Convolution {
    /// A convolution in one group.
    pub const fn new(inputs: u64, outputs: u64, window: Window, bias: bool) -> Self {
        Self { inputs, outputs, window, groups: 1, bias }
    }

    /// Multiply-adds of one output element.
    fn products(&self) -> u64 {
        (self.inputs / self.groups.max(1)).saturating_mul(self.window.taps())
    }
}

impl Operator for Convolution {
    fn label(&self) -> &'static str {
        "convolution"
    }

    /// Normal with variance `2 / (outputs taps)` (He et al. 2015, mode "fan out", as torchvision starts its models).
    fn params(&self) -> Vec<ParamSpec> {
        let fan_out = (self.outputs as f64 * self.window.taps() as f64 / self.groups.max(1) as f64).max(1.0);
        let shape: Vec<u64> =
            [self.outputs, self.inputs / self.groups.max(1)].iter().chain(&self.window.kernel).copied().collect();
        let weight = ParamSpec::new("weight", &shape, Init::Normal { std: (2.0 / fan_out).sqrt() });
        let bias = || ParamSpec::new("bias", &[self.outputs], Init::Zeros);
        std::iter::once(weight).chain(self.bias.then(bias)).collect()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        if ![self.inputs, self.outputs].iter().all(|channels| self.groups > 0 && channels.is_multiple_of(self.groups)) {
            return Err(format!("{} groups do not divide {} and {} channels", self.groups, self.inputs, self.outputs));
        }
        let spatial = self.window.output(x)?;
        if x.dims[0] != self.inputs {
            return Err(format!("takes [{}, ..], got {x}", self.inputs));
        }
        Ok(with_dims(x, std::iter::once(self.outputs).chain(spatial).collect()))
    }

    /// `2 inputs / groups taps` an output element; backward one such pass for the input and one for the weight.
    fn work(&self, at: &View<'_>) -> Work {
        let forward = 2 * at.elements() * u128::from(self.products());
        Work::new(forward, 2 * forward, 1 + u32::from(self.bias))
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    /// Axes: output positions of all samples, channels in a group, channels out, taps.
    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let operator = match (self.groups, self.window.kernel.len()) {
            (1, 1) => "convolution.1d",
            (1, _) => "convolution.2d",
            _ => "convolution.grouped",
        };
        let positions = at.output().elements(at.batch) / self.outputs.max(1);
        let axes = vec![positions, self.inputs / self.groups.max(1), self.outputs, self.window.taps()];
        ProfileKey { operator, axes, work: 2.0 * at.elements() as f64 * self.products() as f64 }
    }

    /// Channels out are a column split, channels in a row split; of a grouped convolution whole groups; image rows.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let (channel, rows) = (Sharded::split(Layout::Axis(0)), Sharded::split(Layout::Axis(1)));
        let weights = |weight: Sharded, bias: Sharded| [weight, bias][..=usize::from(self.bias)].to_vec();
        let outputs = weights(channel, channel);
        let mut rules = vec![self.window.spatial_rule(at, outputs.len())];
        if self.groups > 1 {
            rules.push(ShardRule::new(Split::Channel, self.groups, &[channel], &outputs, channel));
        } else {
            let inputs = weights(rows, Sharded::replicated());
            rules.push(ShardRule::new(Split::Column, self.outputs, &[Sharded::shared()], &outputs, channel));
            rules.push(ShardRule::new(Split::Row, self.inputs, &[channel], &inputs, Sharded::partial()));
        }
        rules
    }
}

/// How a pool sums its window up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean, zeros of the padding included.
    Average,
    /// The mean of the elements that are no padding.
    AverageInside,
}

/// Pooling of each channel by a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How.
    pub function: PoolKind,
    /// The window.
    #[serde(flatten)]
    pub window: Window,
}

impl Operator for Pool {
    fn label(&self) -> &'static str {
        "pool"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let spatial = self.window.output(inputs[0])?;
        Ok(with_dims(inputs[0], std::iter::once(inputs[0].dims[0]).chain(spatial).collect()))
    }

    /// One operation a tap.
    fn work(&self, at: &View<'_>) -> Work {
        let forward = at.elements() * u128::from(self.window.taps());
        Work::new(forward, forward, 1)
    }

    /// Where the largest elements are, as indices.
    fn saved(&self, at: &View<'_>) -> Saved {
        let indices = if self.function == PoolKind::Max { at.output().elements(at.batch) } else { 0 };
        Saved { internal_elements: indices, ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let operator = if self.function == PoolKind::Max { "pool.max" } else { "pool.average" };
        let (elements, taps) = (at.output().elements(at.batch), self.window.taps());
        ProfileKey { operator, axes: vec![elements, taps], work: elements as f64 * taps as f64 }
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let channel = Sharded::split(Layout::Axis(0));
        let channels = ShardRule::new(Split::Channel, at.output().dims[0], &[channel], &[], channel);
        vec![channels, self.window.spatial_rule(at, 0)]
    }
}

/// Repeats every element `factor` times along each axis after the channels (nearest-neighbour resizing).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upsample {
    /// The factor.
    pub factor: u64,
}

impl Operator for Upsample {
    fn label(&self) -> &'static str {
        "upsample"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        if x.dims.len() < 2 || self.factor == 0 {
            return Err(format!("takes [channels, ..] and a factor above zero, got {x} and {}", self.factor));
        }
        let spatial = x.dims[1..].iter().map(|extent| extent.saturating_mul(self.factor));
        Ok(with_dims(x, std::iter::once(x.dims[0]).chain(spatial).collect()))
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, at.elements(), 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("copy")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let (channel, rows) = (Sharded::split(Layout::Axis(0)), Sharded::split(Layout::Axis(1)));
        let (channels, height) = (at.output().dims[0], at.input(0).dims[1]);
        vec![
            ShardRule::new(Split::Channel, channels, &[channel], &[], channel),
            ShardRule::new(Split::Spatial, height, &[rows], &[], rows),
        ]
    }
}
