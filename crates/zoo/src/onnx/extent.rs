//! Extents that may be multiples of the number of samples, and shapes made of them.

use std::fmt;

/// A number that is known (`coefficient`), or known for each sample of the batch (`coefficient` times the batch). Shape
/// computations of an exported model are done in these, so that the batch stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    pub(super) coefficient: i64,
    pub(super) per_sample: bool,
}

impl Extent {
    pub(super) const ONE: Self = Self::known(1);
    pub(super) const BATCH: Self = Self { coefficient: 1, per_sample: true };

    pub(super) const fn known(coefficient: i64) -> Self {
        Self { coefficient, per_sample: false }
    }

    /// The number, when it does not depend on the batch.
    pub(super) fn number(self) -> Option<i64> {
        (!self.per_sample || self.coefficient == 0).then_some(self.coefficient)
    }

    fn joined(self, other: Self, sum: Option<i64>) -> Option<Self> {
        let coefficient = sum?;
        match (self.coefficient, other.coefficient) {
            (0, _) => Some(Self { coefficient, per_sample: other.per_sample }),
            (_, 0) => Some(Self { coefficient, per_sample: self.per_sample }),
            _ => (self.per_sample == other.per_sample).then_some(Self { coefficient, per_sample: self.per_sample }),
        }
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        self.joined(other, self.coefficient.checked_add(other.coefficient))
    }

    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.joined(other, self.coefficient.checked_sub(other.coefficient))
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        let coefficient = self.coefficient.checked_mul(other.coefficient)?;
        (!(self.per_sample && other.per_sample))
            .then_some(Self { coefficient, per_sample: self.per_sample || other.per_sample })
    }

    /// Division without a rest, or of two known numbers towards zero.
    pub(super) fn over(self, other: Self) -> Option<Self> {
        let quotient = self.coefficient.checked_div(other.coefficient)?;
        match (self.per_sample, other.per_sample) {
            (false, false) => Some(Self::known(quotient)),
            _ if self.coefficient % other.coefficient != 0 => None,
            (true, true) => Some(Self::known(quotient)),
            (true, false) => Some(Self { coefficient: quotient, per_sample: true }),
            (false, true) => None,
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.per_sample, self.coefficient) {
            (false, number) => write!(f, "{number}"),
            (true, 1) => f.write_str("batch"),
            (true, number) => write!(f, "{number} batch"),
        }
    }
}

/// A shape for people.
pub(super) fn display(dims: &[Extent]) -> String {
    format!("[{}]", dims.iter().map(Extent::to_string).collect::<Vec<_>>().join(", "))
}

/// The axis that holds the batch, if one does.
pub(super) fn batch_axis(dims: &[Extent]) -> Option<usize> {
    dims.iter().position(|extent| extent.per_sample)
}

/// Extents of one sample: the batch taken out of the axis that holds it, and that axis dropped where nothing else is in it.
pub(super) fn sample_dims(dims: &[Extent]) -> Vec<u64> {
    let kept = dims.iter().filter(|extent| !(extent.per_sample && extent.coefficient == 1));
    kept.map(|extent| extent.coefficient.unsigned_abs()).collect()
}

/// Where axis `axis` of a shape is among those of one sample; `None` for the batch alone.
pub(super) fn sample_axis(dims: &[Extent], axis: usize) -> Option<usize> {
    let dropped = |extent: &Extent| extent.per_sample && extent.coefficient == 1;
    if dims.get(axis).is_none_or(dropped) {
        return None;
    }
    Some(dims[..axis].iter().filter(|extent| !dropped(extent)).count())
}

/// Elements of one sample, saturating.
pub(super) fn elements(dims: &[Extent]) -> u64 {
    dims.iter().fold(1, |product: u64, extent| product.saturating_mul(extent.coefficient.unsigned_abs()))
}

/// The common shape of two, as NumPy broadcasts; the batch meets the batch, or an extent of 1.
pub(super) fn broadcast(a: &[Extent], b: &[Extent]) -> Option<Vec<Extent>> {
    let rank = a.len().max(b.len());
    let at =
        |dims: &[Extent], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(Extent::ONE, |axis| dims[axis]);
    let joined = |axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y || y == Extent::ONE => Some(x),
        (Extent::ONE, y) => Some(y),
        _ => None,
    };
    let dims: Vec<Extent> = (0..rank).map(joined).collect::<Option<_>>()?;
    (dims.iter().filter(|extent| extent.per_sample).count() <= 1).then_some(dims)
}
