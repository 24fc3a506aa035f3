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

/// A selection of a parameter's numbers.
///
/// On each axis of the parameter some places are taken; the numbers at all of them, laid end to end in row-major order, are
/// the selection, or a range of them is. So a rank's share of a parameter that is split over a tensor axis is a piece, also
/// when the axis is packed of several parts, and so is what a rank updates of that share when the optimizer is shared too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Name of the parameter in the model.
    pub parameter: String,
    /// What of it.
    pub part: Part,
    /// Its extents.
    pub shape: Vec<u64>,
    /// The places that are taken on each axis, as stretches `[begin, end]` without the end, ascending.
    pub places: Vec<Vec<[u64; 2]>>,
    /// The range of the numbers there, as `[begin, end]`; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[u64; 2]>,
}

impl Piece {
    /// All numbers of a parameter.
    pub fn whole(parameter: &str, part: Part, shape: &[u64]) -> Self {
        let places = shape.iter().map(|extent| vec![[0, *extent]]).collect();
        Self { parameter: parameter.to_owned(), part, shape: shape.to_vec(), places, range: None }
    }

    /// The same with only these places of an axis, ascending.
    #[must_use]
    pub fn at(mut self, axis: usize, places: &[usize]) -> Self {
        let mut stretches: Vec<[u64; 2]> = Vec::new();
        for place in places.iter().map(|place| *place as u64) {
            match stretches.last_mut() {
                Some(last) if last[1] == place => last[1] += 1,
                _ => stretches.push([place, place + 1]),
            }
        }
        self.places[axis] = stretches;
        self
    }

    /// The same with only a range of the numbers.
    #[must_use]
    pub fn within(self, range: Option<Range<usize>>) -> Self {
        let range = range.map(|range| [range.start as u64, range.end as u64]);
        Self { range, ..self }
    }

    /// Its numbers.
    pub fn elements(&self) -> u64 {
        self.range.map_or_else(|| self.selected(), |[begin, end]| end.saturating_sub(begin))
    }

    /// Extents of the tensor that holds it: those of the places, or one axis for a range.
    pub(super) fn dims(&self) -> Vec<usize> {
        match self.range {
            Some(_) => vec![self.elements() as usize],
            None => self.places.iter().map(|axis| taken(axis) as usize).collect(),
        }
    }

    /// The numbers at all places.
    fn selected(&self) -> u64 {
        self.places.iter().map(|axis| taken(axis)).product()
    }

    /// Its name among the tensors of a file: that of the parameter for the whole weight, which other tools understand.
    pub fn key(&self) -> String {
        let part = if self.part == Part::Weight { String::new() } else { format!("#{}", self.part) };
        let range = self.range.map_or_else(String::new, |[begin, end]| format!("@{begin}-{end}"));
        if (0..self.shape.len()).all(|axis| self.is_whole(axis)) {
            return format!("{}{part}{range}", self.parameter);
        }
        let axis = |stretches: &Vec<[u64; 2]>| {
            stretches.iter().map(|[begin, end]| format!("{begin}-{end}")).collect::<Vec<_>>().join(",")
        };
        let places: Vec<String> = self.places.iter().map(axis).collect();
        format!("{}{part}[{}]{range}", self.parameter, places.join("|"))
    }

    fn is_whole(&self, axis: usize) -> bool {
        self.places[axis] == [[0, self.shape[axis]]]
    }

    /// Whether it is a selection from a parameter of this shape.
    pub(super) fn fits(&self, shape: &[u64]) -> bool {
        let inside = |(stretches, extent): (&Vec<[u64; 2]>, &u64)| {
            let ascending = stretches.windows(2).all(|pair| pair[0][1] <= pair[1][0]);
            ascending && stretches.iter().all(|[begin, end]| begin <= end && end <= extent)
        };
        self.shape == shape
            && self.places.len() == shape.len()
            && self.places.iter().zip(shape).all(inside)
            && self.range.is_none_or(|[begin, end]| begin <= end && end <= self.selected())
    }

    /// The stretches of the parameter's numbers, laid end to end, that the piece consists of, in its own order.
    fn stretches(&self) -> Vec<Range<usize>> {
        let axes = self.shape.len();
        // Axes that are taken whole make one stretch with the places of the axis before them.
        let whole = (0..axes).rev().take_while(|axis| self.is_whole(*axis)).count();
        let stride = |axis: usize| self.shape[axis + 1..].iter().product::<u64>();
        let mut starts = vec![0];
        let Some(last) = (axes - whole).checked_sub(1) else {
            return self.clipped(std::iter::once(0..self.shape.iter().product()));
        };
        for axis in 0..last {
            let places = || self.places[axis].iter().flat_map(|[begin, end]| *begin..*end);
            starts = starts.iter().flat_map(|start| places().map(move |place| start + place * stride(axis))).collect();
        }
        let inner = stride(last);
        let row =
            |start: u64| self.places[last].iter().map(move |[begin, end]| start + begin * inner..start + end * inner);
        self.clipped(starts.into_iter().flat_map(row))
    }

    /// What of the stretches lies in the range.
    fn clipped(&self, stretches: impl Iterator<Item = Range<u64>>) -> Vec<Range<usize>> {
        let [first, end] = self.range.unwrap_or([0, u64::MAX]);
        let mut before = 0;
        let clip = |stretch: Range<u64>| {
            let length = stretch.end - stretch.start;
            let (from, to) = (first.clamp(before, before + length), end.clamp(before, before + length));
            let kept = (stretch.start + from - before) as usize..(stretch.start + to - before) as usize;
            before += length;
            kept
        };
        stretches.map(clip).filter(|stretch| !stretch.is_empty()).collect()
    }

    /// Puts the numbers of the piece where they belong in `all` numbers of the parameter, and marks them.
    pub(super) fn put(&self, numbers: &[f32], all: &mut [f32], there: &mut [bool]) {
        let mut rest = numbers;
        for stretch in self.stretches() {
            let (now, later) = rest.split_at(stretch.len());
            all[stretch.clone()].copy_from_slice(now);
            there[stretch].fill(true);
            rest = later;
        }
    }

    /// The numbers of the piece, out of `all` numbers of the parameter.
    ///
    /// # Panics
    /// When `all` is shorter than the parameter.
    pub fn cut(&self, all: &[f32]) -> Vec<f32> {
        self.stretches().into_iter().flat_map(|stretch| all[stretch].iter().copied()).collect()
    }
}

/// The places in stretches of an axis.
fn taken(stretches: &[[u64; 2]]) -> u64 {
    stretches.iter().map(|[begin, end]| end.saturating_sub(*begin)).sum()
}
