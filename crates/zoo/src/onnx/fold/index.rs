//! Constants given another shape, picked from, joined and summed up.

use super::super::constant::{Constant, Numbers, stored};
use super::super::extent::{Extent, broadcast, display};
use super::super::node::{NodeView, positive_axis};
use super::super::reshape;
use super::numbers::spread;

type Folded = Result<Constant, String>;

/// Computes a node that moves numbers.
pub(super) fn compute(node: &NodeView<'_>, inputs: &[Option<Constant>]) -> Option<Result<Vec<Constant>, String>> {
    let at = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let x = at(0);
    let folded = match (node.op(), x) {
        ("Range", Some(start)) => range(start, at(1)?, at(2)?),
        ("ConstantOfShape", Some(shape)) => filled(node, shape),
        ("Identity" | "Dropout", Some(x)) => Ok(x.clone()),
        ("Reshape" | "Flatten" | "Squeeze" | "Unsqueeze", Some(x)) => {
            reshape::target(node, &x.dims, at(1), None).and_then(|dims| x.with_dims(dims))
        }
        ("Transpose", Some(x)) => transposed(node, x),
        ("Concat", Some(_)) => concat(node, inputs),
        ("Slice", Some(x)) => reshape::slices(node, &x.dims, inputs).and_then(|slices| sliced(x, &slices)),
        ("Gather", Some(x)) => gather(node, x, at(1)?),
        ("GatherND", Some(x)) => gather_nd(node, x, at(1)?),
        ("Expand", Some(x)) => expand(x, at(1)?),
        ("Tile", Some(x)) => tile(x, at(1)?),
        ("CumSum", Some(x)) => cumulative(node, x, at(1)?),
        ("Trilu", Some(x)) => triangle(node, x, at(1)),
        ("MatMul", Some(x)) => product(x, at(1)?),
        ("ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceMean", Some(x)) => reduced(node, x, at(1)),
        ("Split", Some(x)) => return Some(split(node, x, at(1))),
        _ => return None,
    };
    let picks = matches!(node.op(), "Gather" | "GatherND");
    let differs = inputs.iter().flatten().any(|input| input.differs) && !picks;
    Some(folded.map(|constant| vec![constant.differing(differs)]))
}

/// Numbers of the samples are those of the first one, marked.
fn range(start: &Constant, limit: &Constant, step: &Constant) -> Folded {
    if let (Numbers::Floats(_), _) | (_, Numbers::Floats(_)) = (&start.numbers, &step.numbers) {
        let [start, limit, step] = [start, limit, step].map(|x| x.as_floats().map(|list| list.first().copied()));
        let (Some(start), Some(limit), Some(step)) = (start?, limit?, step?) else {
            return Err("a range without bounds".to_owned());
        };
        let count = ((limit - start) / step).ceil().max(0.0);
        stored(&[Extent::known(count as i64)])?;
        let numbers = (0..count as i64).map(|i| start + i as f32 * step);
        return Ok(Constant::floats(vec![Extent::known(count as i64)], numbers));
    }
    let [start, limit, step] = [start, limit, step].map(|x| x.extents().first().copied());
    let (Some(start), Some(limit), Some(step)) = (start, limit, step) else {
        return Err("a range without bounds".to_owned());
    };
    if limit.per_sample && start == Extent::known(0) && step == Extent::ONE {
        return Ok(Constant::ints(vec![limit], [start]).differing(true));
    }
    let (Some(start), Some(limit), Some(step)) = (start.number(), limit.number(), step.number()) else {
        return Err(format!("a range from {start} to {limit} by {step}"));
    };
    let span = if step > 0 { limit.checked_sub(start) } else { start.checked_sub(limit) }.unwrap_or(i64::MAX);
    let count = if step == 0 || span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
    stored(&[Extent::known(count)])?;
    Ok(Constant::ints(vec![Extent::known(count)], (0..count).map(|i| Extent::known(start + i * step))))
}

fn filled(node: &NodeView<'_>, shape: &Constant) -> Folded {
    let dims = shape.extents();
    let count = stored(&dims)?.iter().product();
    let one = match node.tensor("value") {
        Some(tensor) => Constant::of(tensor, || Err("a filling in another file".to_owned()))?,
        None => Constant::floats(vec![], [0.0]),
    };
    one.picked(dims, &vec![0; count])
}

/// Indices of the stored numbers that are left when each axis keeps the listed positions.
fn chosen(dims: &[Extent], axes: &[Vec<usize>]) -> Result<Vec<usize>, String> {
    let sizes = stored(dims)?;
    let count = axes.iter().fold(1u64, |product, list| product.saturating_mul(list.len() as u64));
    stored(&[Extent::known(i64::try_from(count).unwrap_or(i64::MAX))])?;
    let mut indices = vec![0usize];
    for (size, positions) in sizes.iter().zip(axes) {
        indices = indices.iter().flat_map(|base| positions.iter().map(move |at| base * size + at)).collect();
    }
    Ok(indices)
}

fn every(dims: &[Extent]) -> Result<Vec<Vec<usize>>, String> {
    Ok(stored(dims)?.into_iter().map(|size| (0..size).collect()).collect())
}

fn transposed(node: &NodeView<'_>, x: &Constant) -> Folded {
    let order = reshape::order(node, x.dims.len())?;
    let sizes = stored(&x.dims)?;
    let stride = |axis: usize| sizes[axis + 1..].iter().product::<usize>();
    let mut indices = vec![0usize];
    for axis in &order {
        let step = stride(*axis);
        indices = indices.iter().flat_map(|base| (0..sizes[*axis]).map(move |i| base + i * step)).collect();
    }
    x.picked(order.iter().map(|axis| x.dims[*axis]).collect(), &indices)
}

fn concat(node: &NodeView<'_>, inputs: &[Option<Constant>]) -> Folded {
    let parts: Vec<&Constant> = inputs.iter().flatten().collect();
    let Some(first) = parts.first() else { return Err("joins nothing".to_owned()) };
    let axis = node.axis("axis", 0, first.dims.len())?;
    let mut dims = first.dims.clone();
    let mut sum = Extent::known(0);
    for part in &parts {
        let others = |list: &[Extent]| {
            list.iter().enumerate().filter(|(at, _)| *at != axis).all(|(at, extent)| dims.get(at) == Some(extent))
        };
        if part.dims.len() != dims.len() || !others(&part.dims) || part.dims[axis].per_sample {
            return Err(format!("{} cannot be joined to {}", display(&part.dims), display(&first.dims)));
        }
        sum = sum.plus(part.dims[axis]).ok_or("an axis that is too long")?;
    }
    dims[axis] = sum;
    let count: usize = stored(&dims)?.iter().product();
    let rows = stored(&first.dims)?[..axis].iter().product::<usize>();
    let floats = parts.iter().any(|part| matches!(part.numbers, Numbers::Floats(_)));
    let widths: Vec<usize> = parts.iter().map(|part| part.len() / rows.max(1)).collect();
    if floats {
        let lists = parts.iter().map(|part| part.as_floats()).collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::with_capacity(count);
        for row in 0..rows {
            lists
                .iter()
                .zip(&widths)
                .for_each(|(list, width)| all.extend_from_slice(&list[row * width..(row + 1) * width]));
        }
        return Ok(Constant::floats(dims, all));
    }
    let lists: Vec<Vec<Extent>> = parts.iter().map(|part| part.extents()).collect();
    let mut all = Vec::with_capacity(count);
    for row in 0..rows {
        lists
            .iter()
            .zip(&widths)
            .for_each(|(list, width)| all.extend_from_slice(&list[row * width..(row + 1) * width]));
    }
    let joined = Constant::ints(dims, all);
    if let Numbers::Bools(_) = first.numbers {
        Ok(Constant::bools(joined.dims.clone(), joined.as_bools().iter().copied()))
    } else {
        Ok(joined)
    }
}

fn sliced(x: &Constant, slices: &[reshape::Range]) -> Folded {
    let mut axes = every(&x.dims)?;
    let mut dims = x.dims.clone();
    for range in slices {
        axes[range.axis] = range.positions();
        dims[range.axis] = Extent::known(axes[range.axis].len() as i64);
    }
    x.picked(dims, &chosen(&x.dims, &axes)?)
}

fn gather(node: &NodeView<'_>, x: &Constant, indices: &Constant) -> Folded {
    let axis = node.axis("axis", 0, x.dims.len())?;
    let dims: Vec<Extent> = x.dims[..axis].iter().chain(&indices.dims).chain(&x.dims[axis + 1..]).copied().collect();
    stored(&dims)?;
    let mut axes = every(&x.dims)?;
    let extent = x.dims[axis].coefficient;
    let within =
        |at: &i64| usize::try_from(if *at < 0 { at + extent } else { *at }).ok().filter(|at| (*at as i64) < extent);
    let positions: Option<Vec<usize>> = indices.integers()?.iter().map(within).collect();
    axes[axis] = positions.ok_or_else(|| format!("an index outside an axis of {extent}"))?;
    // Of an axis over the samples each takes its own part.
    let differs = indices.differs && !x.dims[axis].per_sample;
    Ok(x.picked(dims, &chosen(&x.dims, &axes)?)?.differing(differs))
}

/// The component that indexes the samples is passed over: all samples hold the same.
fn gather_nd(node: &NodeView<'_>, x: &Constant, indices: &Constant) -> Folded {
    node.only("batch_dims", 0)?;
    let depth = indices.dims.last().and_then(|extent| extent.number()).and_then(|n| usize::try_from(n).ok());
    let depth = depth.filter(|depth| (1..=x.dims.len()).contains(depth)).ok_or("indices of no fixed length")?;
    let sizes = stored(&x.dims)?;
    let tail: usize = sizes[depth..].iter().product();
    let outer = &indices.dims[..indices.dims.len() - 1];
    let dims: Vec<Extent> = outer.iter().chain(&x.dims[depth..]).copied().collect();
    stored(&dims)?;
    let mut picked = Vec::new();
    for index in indices.integers()?.chunks_exact(depth) {
        let mut flat = 0;
        for (axis, at) in index.iter().enumerate() {
            let at = if x.dims[axis] == Extent::BATCH { 0 } else { *at };
            let at = if at < 0 { at + sizes[axis] as i64 } else { at };
            let at = usize::try_from(at).ok().filter(|at| *at < sizes[axis]);
            flat = flat * sizes[axis] + at.ok_or_else(|| format!("an index outside {}", display(&x.dims)))?;
        }
        picked.extend((0..tail).map(|offset| flat * tail + offset));
    }
    let over_samples = x.dims[..depth].iter().any(|extent| extent.per_sample);
    Ok(x.picked(dims, &picked)?.differing(indices.differs && !over_samples))
}

fn expand(x: &Constant, shape: &Constant) -> Folded {
    let dims = broadcast(&x.dims, &shape.extents()).ok_or("shapes that do not broadcast")?;
    x.picked(dims.clone(), &spread(&x.dims, &dims)?)
}

fn tile(x: &Constant, repeats: &Constant) -> Folded {
    let repeats = repeats.extents();
    if repeats.len() != x.dims.len() {
        return Err("as many repeats as axes are needed".to_owned());
    }
    let product = |(extent, times): (&Extent, &Extent)| extent.times(*times).ok_or("a shape that cannot be tiled");
    let dims: Vec<Extent> = x.dims.iter().zip(&repeats).map(product).collect::<Result<_, _>>()?;
    let (from, to) = (stored(&x.dims)?, stored(&dims)?);
    let axes: Vec<Vec<usize>> =
        from.iter().zip(&to).map(|(own, all)| (0..*all).map(|i| i % own.max(&1)).collect()).collect();
    x.picked(dims, &chosen(&x.dims, &axes)?)
}

fn cumulative(node: &NodeView<'_>, x: &Constant, axis: &Constant) -> Folded {
    node.only("reverse", 0)?;
    node.only("exclusive", 0)?;
    let axis = positive_axis(axis.integers()?.first().copied().unwrap_or(0), x.dims.len())?;
    if x.dims[axis].per_sample {
        return Err("a sum over the samples".to_owned());
    }
    let sizes = stored(&x.dims)?;
    let (size, inner) = (sizes[axis], sizes[axis + 1..].iter().product::<usize>());
    let mut list = x.as_floats()?.to_vec();
    for at in 0..list.len() {
        if size > 0 && (at / inner.max(1)) % size > 0 {
            list[at] += list[at - inner];
        }
    }
    let floats = Constant::floats(x.dims.clone(), list);
    if let Numbers::Floats(_) = x.numbers { Ok(floats) } else { Ok(Constant::ints(x.dims.clone(), floats.extents())) }
}

fn triangle(node: &NodeView<'_>, x: &Constant, diagonal: Option<&Constant>) -> Folded {
    let k = diagonal.map(Constant::integers).transpose()?.and_then(|list| list.first().copied()).unwrap_or(0);
    let [.., height, width] = stored(&x.dims)?[..] else { return Err("a triangle of less than two axes".to_owned()) };
    let upper = node.int("upper", 1) != 0;
    let kept = |at: usize| {
        let (row, column) = (((at / width) % height) as i64, (at % width) as i64);
        if upper { column >= row.saturating_add(k) } else { column <= row.saturating_add(k) }
    };
    let floats = x.as_floats()?;
    let list: Vec<f32> = floats.iter().enumerate().map(|(at, x)| if kept(at) { *x } else { 0.0 }).collect();
    let result = Constant::floats(x.dims.clone(), list);
    match x.numbers {
        Numbers::Floats(_) => Ok(result),
        Numbers::Ints(_) => Ok(Constant::ints(x.dims.clone(), result.extents())),
        Numbers::Bools(_) => Ok(Constant::bools(x.dims.clone(), result.as_bools().iter().copied())),
    }
}

fn product(a: &Constant, b: &Constant) -> Folded {
    let ([left @ .., m, k], [right @ .., k2, n]) = (&a.dims[..], &b.dims[..]) else {
        return Err("a product of less than two axes".to_owned());
    };
    let outer = broadcast(left, right).filter(|_| k == k2).ok_or("a product of shapes that do not fit")?;
    let dims: Vec<Extent> = outer.iter().chain([m, n]).copied().collect();
    let size = |extent: &Extent| stored(&[*extent]).map(|list| list[0]);
    let (m, k, n) = (size(m)?, size(k)?, size(n)?);
    let count: usize = stored(&dims)?.iter().product();
    stored(&[Extent::known(count.saturating_mul(k) as i64)])?;
    let (x, y) = (a.as_floats()?, b.as_floats()?);
    let mut all = Vec::with_capacity(count);
    for (i, j) in spread(left, &outer)?.into_iter().zip(spread(right, &outer)?) {
        let (x, y) = (&x[i * m * k..(i + 1) * m * k], &y[j * k * n..(j + 1) * k * n]);
        let dot = |at: usize| (0..k).map(|p| x[at / n * k + p] * y[p * n + at % n]).sum::<f32>();
        all.extend((0..m * n).map(dot));
    }
    Ok(Constant::floats(dims, all))
}

fn reduced(node: &NodeView<'_>, x: &Constant, axes: Option<&Constant>) -> Folded {
    let axes = reshape::reduced_axes(node, x.dims.len(), axes)?;
    if axes.iter().any(|axis| x.dims[*axis].per_sample) {
        return Err("a sum over the samples".to_owned());
    }
    let dims = reshape::reduced_dims(&x.dims, &axes, true);
    let count: usize = stored(&dims)?.iter().product();
    let mean = (x.len() / count.max(1)) as f32;
    let start = match node.op() {
        "ReduceMax" => f32::NEG_INFINITY,
        "ReduceMin" => f32::INFINITY,
        "ReduceProd" => 1.0,
        _ => 0.0,
    };
    let mut sums = vec![start; count];
    for (value, at) in x.as_floats()?.iter().zip(spread(&dims, &x.dims)?) {
        sums[at] = match node.op() {
            "ReduceMax" => sums[at].max(*value),
            "ReduceMin" => sums[at].min(*value),
            "ReduceProd" => sums[at] * value,
            "ReduceMean" => sums[at] + value / mean,
            _ => sums[at] + value,
        };
    }
    let result = Constant::floats(dims, sums);
    let result =
        if let Numbers::Floats(_) = x.numbers { result } else { Constant::ints(result.dims.clone(), result.extents()) };
    if node.int("keepdims", 1) != 0 {
        Ok(result)
    } else {
        result.with_dims(reshape::reduced_dims(&x.dims, &axes, false))
    }
}

fn split(node: &NodeView<'_>, x: &Constant, sizes: Option<&Constant>) -> Result<Vec<Constant>, String> {
    let ranges = reshape::splits(node, &x.dims, sizes)?;
    ranges.iter().map(|range| sliced(x, std::slice::from_ref(range))).collect()
}
