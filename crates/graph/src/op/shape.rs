//! Operators that give numbers another shape: reshaping, reordering, joining, summing axes up.

use serde::{Deserialize, Serialize};

use super::operator::{Element, KEEPS_NOTHING, Operator, View, Work, with_dims};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// Bytes of a copy that reads only what it writes.
pub(super) fn copied(at: &View<'_>) -> u128 {
    at.output_bytes() * 2
}

/// A split of input axis `from` that becomes a split of output axis `to`.
pub(super) fn moved_axis(at: &View<'_>, from: usize, to: usize, extent: u64) -> ShardRule {
    let (input, output) = (Sharded::split(Layout::Axis(from)), Sharded::split(Layout::Axis(to)));
    let split = if from == 0 { Split::Sequence } else { Split::Width };
    ShardRule::new(split, extent, &vec![input; at.inputs().len()], &[], output)
}

/// Splits of all axes but `axis`, which stay where they are.
pub(super) fn other_axes(at: &View<'_>, axis: usize) -> Vec<ShardRule> {
    let dims = &at.output().dims;
    (0..dims.len()).filter(|other| *other != axis).map(|other| moved_axis(at, other, other, dims[other])).collect()
}

pub(super) fn axis_of(x: &TensorType, axis: usize) -> Result<u64, String> {
    x.dims.get(axis).copied().ok_or_else(|| format!("has no axis {axis} after the batch, got {x}"))
}

/// The same numbers in another shape, batch apart: flattening, splitting and joining of axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// New extents after the batch.
    pub dims: Vec<u64>,
}

impl Operator for Reshape {
    fn label(&self) -> &'static str {
        "reshape"
    }

    fn element(&self) -> Element {
        Element::Any
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let y = with_dims(inputs[0], self.dims.clone());
        if y.checked_elements(1) != inputs[0].checked_elements(1) {
            return Err(format!("{} has not as many elements as {y}", inputs[0]));
        }
        Ok(y)
    }

    fn work(&self, _: &View<'_>) -> Work {
        Work::new(0, 0, 0).with_bytes(0)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("view")
    }

    /// An axis stays an axis where the extents before it have the same product on both sides.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let from = &at.input(0).dims;
        let before = |dims: &[u64], axis: usize| dims[..axis].iter().product::<u64>();
        let mut rules = Vec::new();
        for (axis, extent) in from.iter().enumerate() {
            let product = before(from, axis);
            let to = (0..self.dims.len()).find(|to| before(&self.dims, *to) == product && self.dims[*to] > 1);
            if let Some(to) = to.filter(|_| *extent > 1) {
                rules.push(moved_axis(at, axis, to, greatest_common_divisor(*extent, self.dims[to])));
            }
        }
        rules
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Reorders the axes after the batch: output axis `i` is input axis `axes[i]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transpose {
    /// The order.
    pub axes: Vec<usize>,
}

impl Operator for Transpose {
    fn label(&self) -> &'static str {
        "transpose"
    }

    fn element(&self) -> Element {
        Element::Any
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.dims.len()) {
            return Err(format!("{:?} is no order of the axes of {x}", self.axes));
        }
        Ok(with_dims(x, self.axes.iter().map(|axis| x.dims[*axis]).collect()))
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, 0, 1).with_bytes(copied(at))
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("transpose")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        self.axes.iter().enumerate().map(|(to, from)| moved_axis(at, *from, to, at.input(0).dims[*from])).collect()
    }
}

/// Joins values along an axis; the other extents are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis, counted after the batch.
    pub axis: usize,
    /// How many values.
    pub values: usize,
}

impl Operator for Concat {
    fn label(&self) -> &'static str {
        "concatenate"
    }

    fn arity(&self) -> usize {
        self.values
    }

    fn element(&self) -> Element {
        Element::Any
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let Some(first) = inputs.first() else { return Err("joins at least one value".to_owned()) };
        let mut y = (*first).clone();
        y.dims[..].get(self.axis).ok_or_else(|| format!("has no axis {} after the batch, got {first}", self.axis))?;
        y.dims[self.axis] = 0;
        for input in inputs {
            let mut others = (*input).clone();
            let extent = axis_of(input, self.axis)?;
            others.dims[self.axis] = y.dims[self.axis];
            if others != y {
                return Err(format!("joins values that differ along axis {} only, got {first} and {input}", self.axis));
            }
            y.dims[self.axis] = y.dims[self.axis].saturating_add(extent);
        }
        Ok(y)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, 0, 1).with_bytes(copied(at))
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("copy")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        other_axes(at, self.axis)
    }
}

/// How axes are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The mean.
    Mean,
    /// The largest element.
    Max,
}

/// Sums axes up, and removes them: global pooling of an image reduces its height and width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reduce {
    /// How.
    pub function: Reduction,
    /// The axes, counted after the batch, ascending.
    pub axes: Vec<usize>,
}

impl Operator for Reduce {
    fn label(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        let ascending = self.axes.windows(2).all(|pair| pair[0] < pair[1]);
        if self.axes.is_empty() || !ascending || self.axes.last() >= Some(&x.dims.len()) {
            return Err(format!("reduces ascending axes of its input, got {:?} of {x}", self.axes));
        }
        let kept = (0..x.dims.len()).filter(|axis| !self.axes.contains(axis));
        Ok(with_dims(x, kept.map(|axis| x.dims[axis]).collect()))
    }

    fn work(&self, at: &View<'_>) -> Work {
        let elements = u128::from(at.input(0).elements(at.batch));
        Work::new(elements, elements, 1)
    }

    fn saved(&self, at: &View<'_>) -> Saved {
        let indices = if self.function == Reduction::Max { at.output().elements(at.batch) } else { 0 };
        Saved { internal_elements: indices, ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let elements = at.input(0).elements(at.batch);
        ProfileKey { operator: "reduce", axes: vec![elements], work: elements as f64 }
    }

    /// A kept axis stays split; the parts of a reduced one are summands, except of a maximum.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let dims = &at.input(0).dims;
        let reduced_before = |axis: usize| self.axes.iter().filter(|reduced| **reduced < axis).count();
        let kept = (0..dims.len()).filter(|axis| !self.axes.contains(axis));
        let mut rules: Vec<_> =
            kept.map(|axis| moved_axis(at, axis, axis - reduced_before(axis), dims[axis])).collect();
        if self.function != Reduction::Max {
            let input = Sharded::split(Layout::Axis(self.axes[0]));
            rules.push(ShardRule::new(Split::Spatial, dims[self.axes[0]], &[input], &[], Sharded::partial()));
        }
        rules
    }
}
