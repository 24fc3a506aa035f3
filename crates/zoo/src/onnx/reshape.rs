//! Shapes that nodes ask for, of constants and of values alike.

use super::constant::Constant;
use super::extent::{Extent, batch_axis, display, elements};
use super::node::{NodeView, positive_axis};
use super::proto::MAX_RANK;

/// Longest axis that is listed position by position.
const MAX_POSITIONS: i64 = 1 << 24;

/// Part of an axis.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) axis: usize,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

impl Range {
    pub(super) fn positions(&self) -> Vec<usize> {
        let up = (self.start..self.end.max(self.start)).step_by(self.step.unsigned_abs().max(1) as usize);
        if self.step > 0 {
            return up.map(|at| at as usize).collect();
        }
        let count = (self.start - self.end).max(0).unsigned_abs().div_ceil(self.step.unsigned_abs().max(1));
        (0..count as i64).map(|i| (self.start + i * self.step) as usize).collect()
    }
}

/// The shape that `Reshape`, `Flatten`, `Squeeze` or `Unsqueeze` gives to a tensor of shape `dims`. `batch` is the number
/// of samples that the file was exported with, where it is fixed there: numbers that contain it are then taken apart.
pub(super) fn target(
    node: &NodeView<'_>,
    dims: &[Extent],
    argument: Option<&Constant>,
    batch: Option<i64>,
) -> Result<Vec<Extent>, String> {
    let axes = || match (argument, node.ints("axes")) {
        (Some(list), _) => list.integers().map(Some),
        (None, list) => Ok(list.map(<[i64]>::to_vec)),
    };
    match node.op() {
        "Squeeze" => squeezed(dims, axes()?),
        "Unsqueeze" => unsqueezed(dims, &axes()?.ok_or("no axes are given")?),
        "Flatten" => flattened(dims, node.int("axis", 1)),
        _ => {
            let shape = argument.ok_or("a shape that is not known: it depends on the data")?.extents();
            reshaped(dims, &shape, node.int("allowzero", 0) == 0, batch)
        }
    }
}

fn squeezed(dims: &[Extent], axes: Option<Vec<i64>>) -> Result<Vec<Extent>, String> {
    let Some(axes) = axes else {
        return Ok(dims.iter().copied().filter(|extent| *extent != Extent::ONE).collect());
    };
    let axes = axes.into_iter().map(|axis| positive_axis(axis, dims.len())).collect::<Result<Vec<_>, _>>()?;
    if let Some(axis) = axes.iter().find(|axis| dims[**axis] != Extent::ONE) {
        return Err(format!("axis {axis} of {} is not 1", display(dims)));
    }
    Ok(dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, extent)| *extent).collect())
}

fn unsqueezed(dims: &[Extent], axes: &[i64]) -> Result<Vec<Extent>, String> {
    let rank = dims.len() + axes.len();
    if rank > MAX_RANK {
        return Err(format!("a tensor of {rank} axes; at most {MAX_RANK} are supported"));
    }
    let axes = axes.iter().map(|axis| positive_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut rest = dims.iter().copied();
    let all: Vec<Extent> = (0..rank)
        .map(|axis| if axes.contains(&axis) { Some(Extent::ONE) } else { rest.next() })
        .map_while(|x| x)
        .collect();
    if all.len() == rank { Ok(all) } else { Err(format!("the axes {axes:?} are not {} different ones", axes.len())) }
}

fn flattened(dims: &[Extent], axis: i64) -> Result<Vec<Extent>, String> {
    let axis = if axis == dims.len() as i64 { dims.len() } else { positive_axis(axis, dims.len())? };
    let product = |list: &[Extent]| list.iter().try_fold(Extent::ONE, |product, extent| product.times(*extent));
    let both = product(&dims[..axis]).zip(product(&dims[axis..]));
    both.map(|(rows, width)| vec![rows, width]).ok_or_else(|| format!("{} cannot be flattened", display(dims)))
}

fn reshaped(dims: &[Extent], shape: &[Extent], copy_zeros: bool, batch: Option<i64>) -> Result<Vec<Extent>, String> {
    let refuse = || format!("{} cannot be reshaped to {}", display(dims), display(shape));
    let copied = |(axis, extent): (usize, &Extent)| match extent {
        Extent { coefficient: 0, .. } if copy_zeros => dims.get(axis).copied(),
        other => Some(*other),
    };
    let mut shape: Vec<Extent> = shape.iter().enumerate().map(copied).collect::<Option<_>>().ok_or_else(refuse)?;
    let open: Vec<usize> = (0..shape.len()).filter(|axis| shape[*axis] == Extent::known(-1)).collect();
    let known = |shape: &[Extent]| {
        let list = shape.iter().filter(|extent| **extent != Extent::known(-1));
        list.clone()
            .all(|extent| extent.coefficient > 0)
            .then(|| list.copied().try_fold(Extent::ONE, Extent::times))
            .flatten()
    };
    let product = known(&shape).ok_or_else(refuse)?;
    let total = Extent { coefficient: elements(dims) as i64, per_sample: batch_axis(dims).is_some() };
    let fixed = batch.filter(|_| total.per_sample && !product.per_sample);
    let whole = match fixed {
        Some(batch) => Extent::known(total.coefficient.checked_mul(batch).ok_or_else(refuse)?),
        None => total,
    };
    match open[..] {
        [] if product == whole => {}
        [axis] => {
            shape[axis] =
                whole.over(product).filter(|extent| extent.times(product) == Some(whole)).ok_or_else(refuse)?;
        }
        _ => return Err(refuse()),
    }
    match fixed {
        Some(batch) => with_batch(dims, shape, batch).ok_or_else(refuse),
        None => Ok(shape),
    }
}

/// Finds the batch again in a shape of plain numbers: the first axis that begins where the batch lay.
fn with_batch(dims: &[Extent], mut shape: Vec<Extent>, batch: i64) -> Option<Vec<Extent>> {
    let before = elements(&dims[..batch_axis(dims)?]);
    let starts = |axis: &usize| elements(&shape[..*axis]) == before && shape[*axis].coefficient % batch == 0;
    let axis = (0..shape.len()).find(starts)?;
    shape[axis] = Extent { coefficient: shape[axis].coefficient / batch, per_sample: true };
    Some(shape)
}

/// The order that `Transpose` asks for.
pub(super) fn order(node: &NodeView<'_>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(list) = node.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let order = list.iter().map(|axis| positive_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.into_iter().eq(0..rank) { Ok(order) } else { Err(format!("{list:?} is no order of {rank} axes")) }
}

/// What `Slice` takes, without the axes that it takes whole.
pub(super) fn slices(node: &NodeView<'_>, dims: &[Extent], inputs: &[Option<Constant>]) -> Result<Vec<Range>, String> {
    let list = |index: usize| inputs.get(index).and_then(Option::as_ref).map(Constant::extents);
    let (Some(starts), Some(ends)) = (list(1), list(2)) else {
        return Err("starts and ends that are not known: they depend on the data".to_owned());
    };
    let axes = list(3).unwrap_or_else(|| (0..starts.len() as i64).map(Extent::known).collect());
    let steps = list(4).unwrap_or_else(|| vec![Extent::ONE; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("starts, ends, axes and steps of different lengths".to_owned());
    }
    let mut ranges = Vec::new();
    for (at, axis) in axes.iter().enumerate() {
        let axis = positive_axis(axis.number().unwrap_or(i64::MAX), dims.len())?;
        let range = slice(node, axis, dims[axis], [starts[at], ends[at], steps[at]])?;
        ranges.extend(range);
    }
    Ok(ranges)
}

fn slice(
    _: &NodeView<'_>,
    axis: usize,
    extent: Extent,
    [start, end, step]: [Extent; 3],
) -> Result<Option<Range>, String> {
    let whole = start == Extent::known(0) && step == Extent::ONE;
    if extent.per_sample {
        let all = end == extent || end.number().is_some_and(|end| end >= i64::from(i32::MAX));
        return if whole && all { Ok(None) } else { Err("part of the samples is taken".to_owned()) };
    }
    let number = |x: Extent| x.number().ok_or_else(|| format!("{x} bounds an axis of {extent}"));
    let (n, start, end, step) = (extent.coefficient, number(start)?, number(end)?, number(step)?);
    if step == 0 || n > MAX_POSITIONS {
        return Err(format!("an axis of {n} by steps of {step}"));
    }
    let shifted = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    // A stop before the first element is written as a very negative number.
    let end = if step < 0 && end < -n { -1 } else { shifted(end).clamp(low, high) };
    let range = Range { axis, start: shifted(start).clamp(low.max(0), high), end, step };
    Ok(Some(range).filter(|range| !(range.start == 0 && range.end == n && step == 1)))
}

/// The parts that `Split` makes.
pub(super) fn splits(node: &NodeView<'_>, dims: &[Extent], sizes: Option<&Constant>) -> Result<Vec<Range>, String> {
    let axis = node.axis("axis", 0, dims.len())?;
    let extent = dims[axis].number().ok_or("the samples are split")?;
    let parts = node.int("num_outputs", node.node.outputs.len() as i64);
    let sizes = match (sizes, node.ints("split")) {
        (Some(list), _) => list.integers()?,
        (None, Some(list)) => list.to_vec(),
        (None, None) if parts > 0 && parts <= extent && parts == node.node.outputs.len() as i64 => {
            let size = (extent + parts - 1) / parts;
            (0..parts).map(|part| size.min(extent - part * size)).collect()
        }
        _ => return Err(format!("an axis of {extent} in {parts} parts")),
    };
    if sizes.iter().any(|size| *size < 1)
        || sizes.iter().try_fold(0i64, |sum, size| sum.checked_add(*size)) != Some(extent)
    {
        return Err(format!("the parts {sizes:?} of an axis of {extent}"));
    }
    let mut end = 0;
    let part = |size: &i64| {
        end += size;
        Range { axis, start: end - size, end, step: 1 }
    };
    Ok(sizes.iter().map(part).collect())
}

/// The axes of a reduction, ascending.
pub(super) fn reduced_axes(
    node: &NodeView<'_>,
    rank: usize,
    argument: Option<&Constant>,
) -> Result<Vec<usize>, String> {
    let list = match (argument, node.ints("axes")) {
        (Some(list), _) => list.integers()?,
        (None, Some(list)) => list.to_vec(),
        (None, None) => Vec::new(),
    };
    if list.is_empty() {
        return Ok(if node.int("noop_with_empty_axes", 0) == 0 { (0..rank).collect() } else { Vec::new() });
    }
    let mut axes = list.iter().map(|axis| positive_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

/// The shape after a reduction.
pub(super) fn reduced_dims(dims: &[Extent], axes: &[usize], keep: bool) -> Vec<Extent> {
    let one = |(axis, extent): (usize, &Extent)| match (axes.contains(&axis), keep) {
        (false, _) => Some(*extent),
        (true, true) => Some(Extent::ONE),
        (true, false) => None,
    };
    dims.iter().enumerate().filter_map(one).collect()
}
