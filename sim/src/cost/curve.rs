//! Interpolation in measured curves.

use std::collections::HashMap;

use cutplane_record::OperatorCurve;

/// Times below this are taken for this, so that their logarithm exists.
const LEAST_NS: f64 = 1e-3;

/// What a grid holds at one point, each divided by the work of the point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PerWork {
    /// Nanoseconds of the forward pass.
    pub(crate) forward_ns: f64,
    /// Nanoseconds of the backward pass.
    pub(crate) backward_ns: f64,
    /// Bytes kept.
    pub(crate) kept_bytes: f64,
    /// Bytes of workspace.
    pub(crate) workspace_bytes: f64,
    /// [`cutplane_record::OperatorPoint::beside_factor`]: a factor, whatever the work; none where a point has none.
    pub(crate) beside_factor: Option<f64>,
}

/// An operator's points as a tensor grid over the values that each axis takes.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    /// Logarithms of the values of each axis, ascending.
    axes: Vec<Vec<f64>>,
    /// Points by index along each axis; times as logarithms.
    points: HashMap<Vec<usize>, PerWork>,
}

impl Grid {
    /// Arranges the points of a curve.
    ///
    /// # Errors
    /// What is wrong with them: none, different numbers of axes, an extent or work of zero.
    pub(crate) fn new(curve: &OperatorCurve) -> Result<Self, String> {
        let dimensions = curve.points.first().ok_or("it has no points")?.axes.len();
        let mut values: Vec<Vec<u64>> = vec![Vec::new(); dimensions];
        for point in &curve.points {
            if point.axes.len() != dimensions {
                return Err(format!("points have {dimensions} and {} axes", point.axes.len()));
            }
            let numbers = [point.work, point.forward_ns, point.backward_ns, point.kept_bytes, point.workspace_bytes];
            if point.axes.contains(&0) || point.work <= 0.0 || !numbers.into_iter().all(f64::is_finite) {
                return Err(
                    "a point has an extent or work that is not above zero, or a number that is not finite".into()
                );
            }
            values.iter_mut().zip(&point.axes).for_each(|(axis, value)| axis.push(*value));
        }
        for axis in &mut values {
            axis.sort_unstable();
            axis.dedup();
        }
        let points = curve.points.iter().map(|point| {
            let index = values.iter().zip(&point.axes).map(|(axis, value)| axis.partition_point(|x| x < value));
            let log_ns = |ns: f64| ns.max(LEAST_NS).ln() - point.work.ln();
            let per_work = PerWork {
                forward_ns: log_ns(point.forward_ns),
                backward_ns: log_ns(point.backward_ns),
                kept_bytes: point.kept_bytes.max(0.0) / point.work,
                workspace_bytes: point.workspace_bytes.max(0.0) / point.work,
                beside_factor: point.beside_factor,
            };
            (index.collect(), per_work)
        });
        let points = points.collect();
        let log = |axis: Vec<u64>| axis.into_iter().map(|value| (value as f64).ln()).collect();
        Ok(Self { points, axes: values.into_iter().map(log).collect() })
    }

    /// Interpolates at `axes`: multilinear in the logarithms of the extents, times in the logarithm of time per work,
    /// bytes in bytes per work, factors as they are. Outside the grid the nearest edge counts.
    ///
    /// # Errors
    /// When the number of axes is another one.
    pub(crate) fn at(&self, axes: &[u64]) -> Result<PerWork, String> {
        if axes.len() != self.axes.len() {
            return Err(format!("it has {} axes, {} are needed", self.axes.len(), axes.len()));
        }
        let cells: Vec<Cell> = self.axes.iter().zip(axes).map(|(values, x)| Cell::of(values, *x)).collect();
        let mut sum = PerWork { beside_factor: Some(0.0), ..PerWork::default() };
        for corner in 0..1usize << cells.len() {
            let weight: f64 = cells.iter().enumerate().map(|(axis, cell)| cell.weight(corner >> axis & 1)).product();
            if weight > 0.0 {
                let index: Vec<usize> =
                    cells.iter().enumerate().map(|(axis, cell)| cell.low + (corner >> axis & 1)).collect();
                let point = self.corner(&index);
                sum.forward_ns += weight * point.forward_ns;
                sum.backward_ns += weight * point.backward_ns;
                sum.kept_bytes += weight * point.kept_bytes;
                sum.workspace_bytes += weight * point.workspace_bytes;
                sum.beside_factor =
                    sum.beside_factor.zip(point.beside_factor).map(|(sum, factor)| sum + weight * factor);
            }
        }
        Ok(PerWork { forward_ns: sum.forward_ns.exp(), backward_ns: sum.backward_ns.exp(), ..sum })
    }

    /// The point at `index`, or where the grid has a hole, the nearest point (by logarithmic distance, ties by index).
    fn corner(&self, index: &[usize]) -> PerWork {
        if let Some(point) = self.points.get(index) {
            return *point;
        }
        let distance = |other: &[usize]| -> f64 {
            let steps = self.axes.iter().zip(index.iter().zip(other));
            steps.map(|(values, (a, b))| (values[*a] - values[*b]).powi(2)).sum()
        };
        let nearest = self.points.iter().min_by(|(a, _), (b, _)| distance(a).total_cmp(&distance(b)).then(a.cmp(b)));
        *nearest.expect("a grid has points").1
    }
}

/// Where a value falls between two neighbours of an axis.
struct Cell {
    low: usize,
    /// Share of the upper neighbour.
    upper: f64,
}

impl Cell {
    fn of(values: &[f64], x: u64) -> Self {
        let x = (x.max(1) as f64).ln();
        let above = values.partition_point(|value| *value <= x);
        match above {
            0 => Self { low: 0, upper: 0.0 },
            above if above == values.len() => Self { low: above - 1, upper: 0.0 },
            above => {
                let (low, high) = (values[above - 1], values[above]);
                Self { low: above - 1, upper: (x - low) / (high - low) }
            }
        }
    }

    fn weight(&self, side: usize) -> f64 {
        if side == 1 { self.upper } else { 1.0 - self.upper }
    }
}

/// A time that depends on one size. Between points it is interpolated in both logarithms; below the first point it is
/// that point's (a fixed cost); above the last it grows along the line through the last two points.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    points: Vec<(f64, f64)>,
}

impl Line {
    /// Sorts `(size, ns)` points; of several with one size, the first counts. `None` without points.
    pub(crate) fn new(points: impl IntoIterator<Item = (u64, f64)>) -> Option<Self> {
        let mut points: Vec<(f64, f64)> =
            points.into_iter().map(|(size, ns)| (size as f64, if ns > 0.0 { ns } else { 0.0 })).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|later, first| later.0.to_bits() == first.0.to_bits());
        (!points.is_empty()).then_some(Self { points })
    }

    /// Nanoseconds at `size`.
    pub(crate) fn at(&self, size: u64) -> f64 {
        let size = size as f64;
        let above = self.points.partition_point(|(x, _)| *x <= size);
        match above {
            0 => self.points[0].1,
            above if above == self.points.len() => self.beyond(size),
            above => between(self.points[above - 1], self.points[above], size),
        }
    }

    fn beyond(&self, size: f64) -> f64 {
        match self.points[..] {
            [.., (x0, y0), (x1, y1)] => y1 + (size - x1) * ((y1 - y0) / (x1 - x0)).max(0.0),
            [(x, y)] if x > 0.0 => y * size / x,
            _ => self.points[0].1,
        }
    }
}

fn between((x0, y0): (f64, f64), (x1, y1): (f64, f64), x: f64) -> f64 {
    if x0 <= 0.0 || y0 <= 0.0 || y1 <= 0.0 {
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
    }
    let share = (x / x0).ln() / (x1 / x0).ln();
    (y0.ln() + share * (y1 / y0).ln()).exp()
}
