//! Operators that give values another shape, pick from them or join them.

use cutplane_graph::{ActivationKind, Concat, Dtype, OpKind, Pad, Reduce, Reduction, Slice, Transpose};

use super::super::constant::Constant;
use super::super::extent::{Extent, batch_axis, broadcast, display, elements, sample_axis, sample_dims};
use super::super::import::{Entry, Importer, Rows, Weight};
use super::super::ir::Value;
use super::super::node::{NodeView, positive_axis};
use super::super::reshape::{self, Range};
use super::{Lowered, float, given, one, optional_constant, value};

/// Most copies that an axis of 1 is repeated into.
const MAX_COPIES: u64 = 256;

pub(super) fn shape(_: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let dims = Importer::dims(given(inputs, 0))?.to_vec();
    if node.op() == "Size" {
        let size = dims.iter().try_fold(Extent::ONE, |product, extent| product.times(*extent));
        return Ok(vec![Entry::Constant(Constant::ints(vec![], size))]);
    }
    let rank = dims.len() as i64;
    let at = |bound: i64| if bound < 0 { bound.saturating_add(rank) } else { bound }.clamp(0, rank) as usize;
    let (start, end) = (at(node.int("start", 0)), at(node.int("end", rank)));
    Ok(vec![Entry::Constant(Constant::list(dims.get(start..end).unwrap_or(&[]).to_vec()))])
}

pub(super) fn constant(_: &mut Importer<'_>, node: &NodeView<'_>, _: &[Entry]) -> Lowered {
    let known = Extent::known;
    let constant = if let Some(tensor) = node.tensor("value") {
        Constant::of(tensor, || Err("a constant in another file".to_owned()))?
    } else if let Some(list) = node.ints("value_ints") {
        Constant::list(list.iter().map(|number| known(*number)).collect())
    } else if let Some(list) = node.floats("value_floats") {
        Constant::floats(vec![known(list.len() as i64)], list.iter().copied())
    } else if node.has("value_int") {
        Constant::ints(vec![], [known(node.int("value_int", 0))])
    } else if node.has("value_float") {
        Constant::floats(vec![], [node.float("value_float", 0.0)])
    } else {
        return Err("a constant that is neither a number nor a tensor of numbers".to_owned());
    };
    Ok(vec![Entry::Constant(constant)])
}

/// `x` in another shape: only what lies on both sides of the batch may be joined or parted.
fn reshape_value(importer: &mut Importer<'_>, x: &Value, dims: Vec<Extent>) -> Result<Value, String> {
    let before = |dims: &[Extent]| batch_axis(dims).map(|axis| elements(&dims[..axis]));
    if before(&x.dims) != before(&dims) {
        return Err(format!(
            "gives {} the shape {}, which moves the batch among other axes",
            display(&x.dims),
            display(&dims)
        ));
    }
    let id = importer.ir.reshaped(x.id, sample_dims(&dims))?;
    importer.ir.checked(id, dims)
}

pub(super) fn reshape(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let argument = optional_constant(importer, inputs, 1)?;
    let x = given(inputs, 0);
    let dims = reshape::target(node, Importer::dims(x)?, argument.as_ref(), importer.batch)?;
    Ok(vec![match x {
        Entry::Value(x) => Entry::Value(reshape_value(importer, x, dims)?),
        Entry::Weight(weight) if !weight.transposed => Entry::Weight(Weight { dims, ..weight.clone() }),
        Entry::Rows(rows) => Entry::Rows(rows.reshaped(dims)?),
        _ => return Err("gives a weight or test another shape".to_owned()),
    }])
}

pub(super) fn transpose(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = given(inputs, 0);
    let order = reshape::order(node, Importer::dims(x)?.len())?;
    let moved = |dims: &[Extent]| order.iter().map(|axis| dims[*axis]).collect::<Vec<_>>();
    Ok(vec![match x {
        Entry::Value(x) => Entry::Value(transpose_value(importer, x, &order)?),
        Entry::Weight(weight) if order == [1, 0] => {
            Entry::Weight(Weight { dims: moved(&weight.dims), transposed: !weight.transposed, ..weight.clone() })
        }
        Entry::Rows(rows) if rows.mask.is_none() => {
            let columns = order.iter().position(|axis| *axis == rows.columns).unwrap_or(0);
            let others: Vec<usize> = order.iter().copied().filter(|axis| *axis != rows.columns).collect();
            if !others.is_sorted() {
                return Err("turns the rows of a table around".to_owned());
            }
            Entry::Rows(Rows { dims: moved(&rows.dims), columns, ..rows.clone() })
        }
        _ => return Err("reorders the axes of a weight that is no matrix".to_owned()),
    }])
}

fn transpose_value(importer: &mut Importer<'_>, x: &Value, order: &[usize]) -> Result<Value, String> {
    let dims: Vec<Extent> = order.iter().map(|axis| x.dims[*axis]).collect();
    let axes: Vec<usize> = order.iter().filter_map(|axis| sample_axis(&x.dims, *axis)).collect();
    if axes.is_sorted() {
        return importer.ir.checked(x.id, dims);
    }
    importer.ir.value(OpKind::Transpose(Transpose { axes }), &[x.id], dims)
}

/// Joins values; weights before a sequence are learned tokens.
pub(super) fn concat(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let rank = Importer::dims(given(inputs, 0))?.len();
    let axis = node.axis("axis", 0, rank)?;
    if let [Entry::Weight(tokens), Entry::Value(x)] = inputs {
        return one(prepend(importer, tokens, x, axis)?);
    }
    let values = (0..inputs.len()).map(|index| value(inputs, index).cloned()).collect::<Result<Vec<_>, _>>()?;
    if let [only] = &values[..] {
        return one(only.clone());
    }
    one(joined(importer, &values, axis)?)
}

fn joined(importer: &mut Importer<'_>, values: &[Value], axis: usize) -> Result<Value, String> {
    let mut dims = values[0].dims.clone();
    if axis >= dims.len() || batch_axis(&dims) == Some(axis) {
        return Err("joins along the samples, or along an axis that is not there".to_owned());
    }
    let long = || "joins to an axis that is too long".to_owned();
    let mut sum = Extent::known(0);
    for value in values {
        let own = value.dims.get(axis).ok_or("joins values with different numbers of axes")?;
        sum = sum.plus(*own).ok_or_else(long)?;
    }
    dims[axis] = sum;
    let own = sample_axis(&dims, axis).ok_or_else(long)?;
    let ids: Vec<usize> = values.iter().map(|value| value.id).collect();
    importer.ir.value(OpKind::Concat(Concat { axis: own, values: ids.len() }), &ids, dims)
}

fn prepend(importer: &mut Importer<'_>, tokens: &Weight, x: &Value, axis: usize) -> Result<Value, String> {
    let (own, like) = (sample_dims(&tokens.dims), sample_dims(&x.dims));
    let (count, dim) = match (&own[..], &like[..]) {
        (&[.., count, dim], &[_, width]) if dim == width && own.iter().product::<u64>() == count * dim => (count, dim),
        _ => return Err("joins a weight to a value that is no sequence of its width".to_owned()),
    };
    if sample_axis(&x.dims, axis) != Some(0) {
        return Err("joins a weight elsewhere than before a sequence".to_owned());
    }
    let param = importer.ir.param(tokens.initializer, Vec::new());
    let kind = OpKind::PrependTokens(cutplane_graph::PrependTokens { count, dim, init_std: 0.02 });
    let id = importer.ir.op_with(kind, &[x.id], vec![param])?;
    let mut dims = x.dims.clone();
    dims[axis] = dims[axis].plus(Extent::known(count as i64)).ok_or("a sequence that is too long")?;
    importer.ir.checked(id, dims)
}

/// Part of an axis of a value.
pub(super) fn sliced(importer: &mut Importer<'_>, x: &Value, range: &Range) -> Result<Value, String> {
    let axis = sample_axis(&x.dims, range.axis).ok_or("takes part of the samples")?;
    if range.step < 1 {
        return Err("takes elements in reverse order".to_owned());
    }
    let kind = Slice { axis, start: range.start as u64, end: range.end as u64, step: range.step as u64 };
    let mut dims = x.dims.clone();
    let id = importer.ir.op(OpKind::Slice(kind), &[x.id])?;
    dims[range.axis] = Extent::known(importer.ir.node(id).ty.dims[axis] as i64);
    importer.ir.checked(id, dims)
}

pub(super) fn slice(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let arguments: Vec<Option<Constant>> = std::iter::once(Ok(None))
        .chain((1..inputs.len()).map(|index| optional_constant(importer, inputs, index)))
        .collect::<Result<_, String>>()?;
    if let Entry::Weight(weight) = given(inputs, 0) {
        return first_rows(node, weight, &arguments);
    }
    let x = value(inputs, 0)?.clone();
    let ranges = reshape::slices(node, &x.dims, &arguments)?;
    one(ranges.iter().try_fold(x, |x, range| sliced(importer, &x, range))?)
}

/// The first rows of a table of positions.
fn first_rows(node: &NodeView<'_>, weight: &Weight, arguments: &[Option<Constant>]) -> Lowered {
    let (ranges, table) = (reshape::slices(node, &weight.dims, arguments)?, table(weight)?);
    match &ranges[..] {
        [] => Ok(vec![Entry::Weight(weight.clone())]),
        [range] if weight.dims[range.axis].coefficient == table[0] as i64 && range.step == 1 => {
            let indices: Vec<Extent> = (range.start..range.end).map(Extent::known).collect();
            let mut dims = weight.dims.clone();
            dims[range.axis] = Extent::known(indices.len() as i64);
            let columns = dims.len() - 1;
            let indices = Constant::list(indices);
            Ok(vec![Entry::Rows(Rows { initializer: weight.initializer, table, indices, dims, columns, mask: None })])
        }
        _ => Err("takes part of a weight".to_owned()),
    }
}

fn table(weight: &Weight) -> Result<[u64; 2], String> {
    match sample_dims(&weight.dims)[..] {
        [ref ones @ .., rows, width] if !weight.transposed && ones.iter().all(|n| *n == 1) => Ok([rows, width]),
        _ => Err("picks from a weight that is no table".to_owned()),
    }
}

pub(super) fn split(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = value(inputs, 0)?.clone();
    let sizes = optional_constant(importer, inputs, 1)?;
    let ranges = reshape::splits(node, &x.dims, sizes.as_ref())?;
    ranges.iter().map(|range| sliced(importer, &x, range).map(Entry::Value)).collect()
}

/// Rows of a table by data are an embedding; by known numbers, positions. Of a value, positions of an axis are taken.
pub(super) fn gather(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let dims = Importer::dims(given(inputs, 0))?;
    let axis = node.axis("axis", 0, dims.len())?;
    match (given(inputs, 0), given(inputs, 1)) {
        (Entry::Weight(weight), Entry::Value(ids)) if axis == 0 => one(embedding(importer, weight, ids)?),
        (Entry::Weight(weight), indices) if axis == 0 && importer.is_learned(weight) => {
            let indices = importer.constant(indices)?;
            let dims: Vec<Extent> = indices.dims.iter().chain(&weight.dims[1..]).copied().collect();
            let columns = dims.len() - 1;
            let (initializer, table) = (weight.initializer, table(weight)?);
            if indices.differs {
                return Err("picks rows by the number of the sample".to_owned());
            }
            Ok(vec![Entry::Rows(Rows { initializer, table, indices, dims, columns, mask: None })])
        }
        (Entry::Value(x), indices) => {
            let (x, indices) = (x.clone(), importer.constant(indices)?);
            one(picked(importer, &x, axis, &indices)?)
        }
        _ => Err("picks from a weight in a way that is no embedding".to_owned()),
    }
}

fn embedding(importer: &mut Importer<'_>, weight: &Weight, ids: &Value) -> Result<Value, String> {
    let [vocab, dim] = table(weight)?;
    if importer.ir.node(ids.id).ty.dtype != Dtype::I32 {
        return Err("picks rows by numbers that are no integers".to_owned());
    }
    let param = importer.ir.param(weight.initializer, Vec::new());
    let id = importer.ir.op_with(OpKind::Embedding { vocab, dim, init_std: 0.02 }, &[ids.id], vec![param])?;
    importer.ir.checked(id, ids.dims.iter().copied().chain([Extent::known(dim as i64)]).collect())
}

fn picked(importer: &mut Importer<'_>, x: &Value, axis: usize, indices: &Constant) -> Result<Value, String> {
    let own = sample_axis(&x.dims, axis).ok_or("picks among the samples")?;
    let list = indices.integers()?;
    let n = x.dims[axis].coefficient;
    let first = list.first().map(|at| if *at < 0 { at + n } else { *at }).filter(|at| (0..n).contains(at));
    let follow = list.windows(2).all(|pair| pair[1] == pair[0] + 1) && indices.dims.len() <= 1 && !indices.differs;
    let Some(start) = first.filter(|_| follow) else {
        return Err("picks positions that do not follow each other".to_owned());
    };
    let mut dims = x.dims.clone();
    if indices.dims.is_empty() {
        dims.remove(axis);
        if own == 0 && sample_dims(&x.dims).len() == 2 && importer.ir.is_float(x.id) {
            return importer.ir.value(OpKind::SelectToken { index: start as u64 }, &[x.id], dims);
        }
    }
    let end = start.checked_add(list.len() as i64).filter(|end| *end <= n).ok_or("picks positions past the end")?;
    let part = sliced(importer, x, &Range { axis, start, end, step: 1 })?;
    if indices.dims.is_empty() { reshape_value(importer, &part, dims) } else { Ok(part) }
}

/// Repeats axes of 1.
pub(super) fn expand(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let shape = importer
        .constant(given(inputs, 1))
        .map_err(|_| "expands to a shape that depends on the data".to_owned())?
        .extents();
    let own = Importer::dims(given(inputs, 0))?.to_vec();
    let dims = broadcast(&own, &shape)
        .ok_or_else(|| format!("{} cannot be expanded to {}", display(&own), display(&shape)))?;
    Ok(vec![match given(inputs, 0) {
        Entry::Value(x) => Entry::Value(expanded(importer, x, &dims)?),
        Entry::Weight(weight) if sample_dims(&dims).iter().product::<u64>() == elements(&own) => {
            Entry::Weight(Weight { dims, ..weight.clone() })
        }
        Entry::Rows(rows)
            if dims.len() == own.len() && sample_dims(&dims).iter().product::<u64>() == elements(&own) =>
        {
            Entry::Rows(Rows { dims, ..rows.clone() })
        }
        _ => return Err("repeats a weight".to_owned()),
    }])
}

fn expanded(importer: &mut Importer<'_>, x: &Value, dims: &[Extent]) -> Result<Value, String> {
    let added = dims.len() - x.dims.len();
    let whole: Vec<Extent> = std::iter::repeat_n(Extent::ONE, added).chain(x.dims.iter().copied()).collect();
    if batch_axis(dims) != batch_axis(&whole) {
        return Err("repeats a value without samples for each of them".to_owned());
    }
    let mut x = reshape_value(importer, x, whole)?;
    for (axis, wanted) in dims.iter().enumerate() {
        if x.dims[axis] == *wanted {
            continue;
        }
        let copies = wanted.coefficient as u64;
        if copies > MAX_COPIES {
            return Err(format!("repeats an axis {copies} times; at most {MAX_COPIES} are supported"));
        }
        x = joined(importer, &vec![x; copies as usize], axis)?;
    }
    Ok(x)
}

pub(super) fn tile(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let repeats = importer.constant(given(inputs, 1))?.integers()?;
    let mut x = value(inputs, 0)?.clone();
    if repeats.len() != x.dims.len() {
        return Err("as many repeats as axes are needed".to_owned());
    }
    for (axis, copies) in repeats.iter().enumerate().filter(|(_, copies)| **copies != 1) {
        if !(1..=MAX_COPIES as i64).contains(copies) {
            return Err(format!("repeats an axis {copies} times; 1 to {MAX_COPIES} are supported"));
        }
        x = joined(importer, &vec![x; *copies as usize], axis)?;
    }
    one(x)
}

pub(super) fn pad(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let mut x = float(importer, inputs, 0)?;
    let value = optional_constant(importer, inputs, 2)?.and_then(|constant| constant.uniform()).unwrap_or(0.0);
    if node.text("mode").unwrap_or("constant") != "constant" || value != 0.0 {
        return Err("pads with something else than zeros".to_owned());
    }
    let pads = importer.constant(given(inputs, 1))?.integers()?;
    let axes = match optional_constant(importer, inputs, 3)? {
        Some(axes) => axes.integers()?,
        None => (0..x.dims.len() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err("two paddings for each axis are needed".to_owned());
    }
    for (at, axis) in axes.iter().enumerate() {
        let axis = positive_axis(*axis, x.dims.len())?;
        let both = (u64::try_from(pads[at]), u64::try_from(pads[at + axes.len()]));
        let (Ok(before), Ok(after)) = both else { return Err("pads with a negative number of zeros".to_owned()) };
        if before + after > 0 {
            let own = sample_axis(&x.dims, axis).ok_or("pads the samples")?;
            let mut dims = x.dims.clone();
            let longer = Extent::known(i64::try_from(before.saturating_add(after)).unwrap_or(i64::MAX));
            dims[axis] = dims[axis].plus(longer).ok_or("pads to an axis that is too long")?;
            x = importer.ir.value(OpKind::Pad(Pad { axis: own, before, after }), &[x.id], dims)?;
        }
    }
    one(x)
}

pub(super) fn reduce(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let mut x = float(importer, inputs, 0)?;
    let argument = optional_constant(importer, inputs, 1)?;
    let axes = reshape::reduced_axes(node, x.dims.len(), argument.as_ref())?;
    if axes.is_empty() {
        return one(x);
    }
    let own: Option<Vec<usize>> = axes.iter().map(|axis| sample_axis(&x.dims, *axis)).collect();
    let own =
        own.filter(|_| batch_axis(&x.dims).is_none_or(|batch| !axes.contains(&batch))).ok_or("sums the samples up")?;
    let norm = node.op() == "ReduceL2";
    if norm {
        x.id = importer.ir.op(OpKind::Activation { function: ActivationKind::Square }, &[x.id])?;
    }
    let function = match node.op() {
        "ReduceMax" => Reduction::Max,
        "ReduceMean" => Reduction::Mean,
        _ => Reduction::Sum,
    };
    let mut id = importer.ir.op(OpKind::Reduce(Reduce { function, axes: own }), &[x.id])?;
    if norm {
        id = importer.ir.op(OpKind::Activation { function: ActivationKind::Sqrt }, &[id])?;
    }
    let dims = reshape::reduced_dims(&x.dims, &axes, node.int("keepdims", 1) != 0);
    let id = importer.ir.reshaped(id, sample_dims(&dims))?;
    one(importer.ir.checked(id, dims)?)
}
