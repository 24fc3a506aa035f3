//! Operators that pick parts of a value, or put zeros around it.

use serde::{Deserialize, Serialize};

use super::operator::{Element, KEEPS_NOTHING, Operator, View, Work, with_dims};
use super::shape::{axis_of, copied, moved_axis, other_axes};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

pub(super) struct SelectToken {
    pub(super) index: u64,
}

impl Operator for SelectToken {
    fn label(&self) -> &'static str {
        "select token"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs[0].dims[..] {
            [s, h] if self.index < s => Ok(with_dims(inputs[0], vec![h])),
            _ => Err(format!("takes [s, h] with s above {}, got {}", self.index, inputs[0])),
        }
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, at.elements(), 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let elements = at.input(0).elements(at.batch);
        ProfileKey { operator: "select_token", axes: vec![elements], work: elements as f64 }
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        vec![moved_axis(at, 1, 0, at.output().last())]
    }
}

/// Every `step`-th element of an axis from `start` up to, not including, `end`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The axis, counted after the batch.
    pub axis: usize,
    /// First element.
    pub start: u64,
    /// Past the last element.
    pub end: u64,
    /// Distance between elements.
    pub step: u64,
}

impl Slice {
    /// All elements of `start..end`.
    pub const fn range(axis: usize, start: u64, end: u64) -> Self {
        Self { axis, start, end, step: 1 }
    }
}

impl Operator for Slice {
    fn label(&self) -> &'static str {
        "slice"
    }

    fn element(&self) -> Element {
        Element::Any
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (extent, &Self { start, end, step, .. }) = (axis_of(inputs[0], self.axis)?, self);
        if start >= end || end > extent || step == 0 {
            return Err(format!("takes {start} to {end} by {step} of an axis of {extent}"));
        }
        let mut y = inputs[0].clone();
        y.dims[self.axis] = (end - start).div_ceil(step);
        Ok(y)
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, at.elements(), 1).with_bytes(copied(at))
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

/// Picks rows of a value by i32 indices: `x [n, ..]` and indices `[k]` to `[k, ..]`, each sample from its own (the masked
/// positions of a masked language model).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gather {}

impl Operator for Gather {
    fn label(&self) -> &'static str {
        "gather"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (x, indices) = (inputs[0], inputs[1]);
        if x.dims.is_empty() || indices.dims.len() != 1 || indices.dtype.is_float() {
            return Err(format!("takes [n, ..] and i32 indices [k], got {x} and {indices}"));
        }
        let dims = indices.dims.iter().chain(&x.dims[1..]).copied().collect();
        Ok(TensorType { batched: x.batched || indices.batched, dims, dtype: x.dtype })
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, at.elements(), 1).with_bytes(copied(at) + u128::from(at.input(1).bytes(at.batch).get()))
    }

    /// The indices are an input.
    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("gather")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let last = at.output().dims.len() - 1;
        if last == 0 {
            return Vec::new();
        }
        let (input, whole) = (Sharded::split(Layout::Axis(at.input(0).dims.len() - 1)), Sharded::replicated());
        let output = Sharded::split(Layout::Axis(last));
        vec![ShardRule::new(Split::Width, at.output().last(), &[input, whole], &[], output)]
    }
}

/// Zeros before and after an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// The axis, counted after the batch.
    pub axis: usize,
    /// Zeros before.
    pub before: u64,
    /// Zeros after.
    pub after: u64,
}

impl Operator for Pad {
    fn label(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let extent = axis_of(inputs[0], self.axis)?;
        let mut y = inputs[0].clone();
        y.dims[self.axis] = extent.saturating_add(self.before).saturating_add(self.after);
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
