//! The place in a rank's graph where a tensor changes its layout.

use serde::{Deserialize, Serialize};

use super::operator::{Element, KEEPS_NOTHING, Operator, View, Work, with_dims};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, Sharded};
use crate::tensor::TensorType;

/// A change of layout over the ranks of a tensor axis. Models have none: it stands in the graph that one rank of such an
/// axis computes ([`crate::LocalGraph`]), between a producer and consumers that want another layout. A packed axis is split
/// part by part; `parts` are their extents in the whole tensor, or none for an axis of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// As the producer gives the value and takes the gradient.
    pub from: Sharded,
    /// As the consumers take the value and give the gradient.
    pub to: Sharded,
    /// Ranks of the axis.
    pub ranks: u64,
    /// Parts of the axis that `from` splits.
    pub from_parts: Vec<u64>,
    /// Parts of the axis that `to` splits.
    pub to_parts: Vec<u64>,
}

impl Exchange {
    /// What moves forward, for the value.
    pub fn forward(&self) -> Collective {
        Collective::between(self.from.value, self.to.value)
    }

    /// What moves backward, for the gradient.
    pub fn backward(&self) -> Collective {
        Collective::between(self.to.gradient, self.from.gradient)
    }

    /// The same dims with the axis of `layout` made `1 / ranks` as long, or as much longer.
    fn scale(&self, dims: &mut [u64], layout: Layout, whole: bool) -> Result<(), String> {
        if let Layout::Axis(axis) = layout {
            let extent = dims.get_mut(axis).ok_or_else(|| format!("has no axis {axis}"))?;
            if !whole && !extent.is_multiple_of(self.ranks.max(1)) {
                return Err(format!("axis {axis} of {extent} cannot be split over {} ranks", self.ranks));
            }
            *extent = if whole { extent.saturating_mul(self.ranks) } else { *extent / self.ranks.max(1) };
        }
        Ok(())
    }
}

impl Operator for Exchange {
    fn label(&self) -> &'static str {
        "exchange"
    }

    fn element(&self) -> Element {
        Element::Any
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let mut dims = inputs[0].dims.clone();
        self.scale(&mut dims, self.from.value, true)?;
        self.scale(&mut dims, self.to.value, false)?;
        Ok(with_dims(inputs[0], dims))
    }

    /// Its time is the network's.
    fn work(&self, _: &View<'_>) -> Work {
        Work::new(0, 0, 0).with_bytes(0)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("copy")
    }
}
