//! Which numbers of which parameter a tensor in a checkpoint holds.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What is kept of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Its value.
    Weight,
    /// The decayed mean of its gradients.
    Mean,
    /// The decayed mean of its squared gradients.
    MeanSquare,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weight => "weight",
            Self::Mean => "mean",
            Self::MeanSquare => "mean-square",
        })
    }
}

/// A box of a parameter's numbers.
///
/// The parameter is seen as an array of `shape`: its own, or any other with as many numbers in row-major order. So a
/// column of a matrix is a box, and a range of all numbers laid end to end is one too, of an array with one axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Name of the parameter in the model.
    pub parameter: String,
    /// What of it.
    pub part: Part,
    /// Extents of the array that the box is cut from.
    pub shape: Vec<u64>,
    /// Where the box begins on each axis.
    pub begin: Vec<u64>,
    /// Its extents.
    pub extent: Vec<u64>,
}

impl Piece {
    /// All numbers of a parameter.
    pub fn whole(parameter: &str, part: Part, shape: &[u64]) -> Self {
        let begin = vec![0; shape.len()];
        Self { parameter: parameter.to_owned(), part, shape: shape.to_vec(), begin, extent: shape.to_vec() }
    }

    /// A range of a parameter's numbers laid end to end.
    pub fn range(parameter: &str, part: Part, elements: u64, range: Range<u64>) -> Self {
        let (begin, extent) = (vec![range.start], vec![range.end.saturating_sub(range.start)]);
        Self { parameter: parameter.to_owned(), part, shape: vec![elements], begin, extent }
    }

    /// Its numbers.
    pub fn elements(&self) -> u64 {
        self.extent.iter().product()
    }

    /// Its name among the tensors of a file: that of the parameter for the whole weight, which other tools understand.
    pub fn key(&self) -> String {
        let part = if self.part == Part::Weight { String::new() } else { format!("#{}", self.part) };
        if self.extent == self.shape {
            return format!("{}{part}", self.parameter);
        }
        let axis = |(begin, extent)| format!("{begin}+{extent}");
        let cut: Vec<String> = self.begin.iter().zip(&self.extent).map(axis).collect();
        format!("{}{part}[{}]", self.parameter, cut.join(","))
    }

    /// Whether the box lies inside its array, which has as many numbers as the parameter.
    pub(super) fn fits(&self, elements: u64) -> bool {
        let axes = self.shape.len();
        let size = self.shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent));
        let inside =
            |axis: usize| self.begin[axis].checked_add(self.extent[axis]).is_some_and(|end| end <= self.shape[axis]);
        self.begin.len() == axes && self.extent.len() == axes && size == Some(elements) && (0..axes).all(inside)
    }

    /// The stretches of the parameter's numbers, laid end to end, that the box consists of, in its own order.
    fn stretches(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        // Axes that the box covers whole make one stretch with the axis before them.
        let whole = (0..self.shape.len()).rev().take_while(|axis| self.extent[*axis] == self.shape[*axis]).count();
        let outer = self.shape.len().saturating_sub(whole + 1);
        let inner: u64 = self.extent[outer..].iter().product();
        let rows: u64 = self.extent[..outer].iter().product();
        let rows = if inner == 0 { 0 } else { rows };
        (0..rows).map(move |row| {
            let start = self.start_of(row, outer) as usize;
            start..start + inner as usize
        })
    }

    /// Where row number `row` of the box begins, when its rows are counted over the first `outer` axes.
    fn start_of(&self, mut row: u64, outer: usize) -> u64 {
        let mut start = 0;
        let mut stride: u64 = self.shape[outer..].iter().product();
        if let Some(begin) = self.begin.get(outer) {
            start += begin * self.shape[outer + 1..].iter().product::<u64>();
        }
        for axis in (0..outer).rev() {
            start += (self.begin[axis] + row % self.extent[axis]) * stride;
            row /= self.extent[axis];
            stride *= self.shape[axis];
        }
        start
    }

    /// Puts the numbers of the box where they belong in `all` numbers of the parameter, and marks them.
    pub(super) fn put(&self, numbers: &[f32], all: &mut [f32], there: &mut [bool]) {
        let mut rest = numbers;
        for stretch in self.stretches() {
            let (now, later) = rest.split_at(stretch.len());
            all[stretch.clone()].copy_from_slice(now);
            there[stretch].fill(true);
            rest = later;
        }
    }

    /// The numbers of the box, out of `all` numbers of the parameter.
    ///
    /// # Panics
    /// When `all` is shorter than the array.
    pub fn cut(&self, all: &[f32]) -> Vec<f32> {
        self.stretches().flat_map(|stretch| all[stretch].iter().copied()).collect()
    }
}
