//! Convolution, pooling and resizing of images and lines.

use cutplane_graph::{Convolution, OpKind, Pool, PoolKind, Reduce, Reduction, Upsample, Window};

use super::super::extent::{Extent, batch_axis, display, sample_dims};
use super::super::import::{Entry, Importer};
use super::super::ir::Value;
use super::super::node::NodeView;
use super::{Lowered, float, given, one, optional_constant, weight};

/// An image or line, with the batch in front.
fn image(importer: &Importer<'_>, inputs: &[Entry]) -> Result<Value, String> {
    let x = float(importer, inputs, 0)?;
    if batch_axis(&x.dims) == Some(0) && x.dims[0] == Extent::BATCH && x.dims.len() > 2 {
        return Ok(x);
    }
    Err(format!("takes [batch, channels, ..], got {}", display(&x.dims)))
}

/// A value of the same batch with the extents that were inferred.
fn inferred(importer: &Importer<'_>, id: usize) -> Value {
    let dims = importer.ir.node(id).ty.dims.iter().map(|n| Extent::known(*n as i64));
    Value { id, dims: std::iter::once(Extent::BATCH).chain(dims).collect() }
}

fn window(node: &NodeView<'_>, kernel: &[u64], x: &Value) -> Result<Window, String> {
    let axes = kernel.len();
    let list = |name: &str, default: i64| -> Result<Vec<u64>, String> {
        let given = node.ints(name).map_or_else(|| vec![default; axes], <[i64]>::to_vec);
        given.iter().map(|n| u64::try_from(*n).map_err(|_| format!("{name} has the number {n}"))).collect()
    };
    let (stride, dilation) = (list("strides", 1)?, list("dilations", 1)?);
    let pads = match node.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => match node.ints("pads") {
            Some(pads) => pads
                .iter()
                .map(|n| u64::try_from(*n).map_err(|_| format!("pads has the number {n}")))
                .collect::<Result<Vec<_>, _>>()?,
            None => vec![0; 2 * axes],
        },
        "VALID" => vec![0; 2 * axes],
        same @ ("SAME_UPPER" | "SAME_LOWER") => same_pads(same == "SAME_UPPER", kernel, &stride, &dilation, x)?,
        other => return Err(format!("auto_pad '{other}'")),
    };
    if pads.len() != 2 * axes || stride.len() != axes || dilation.len() != axes {
        return Err(format!("strides, dilations and pads that do not fit a window over {axes} axes"));
    }
    let padding = (0..axes).map(|axis| [pads[axis], pads[axis + axes]]).collect();
    Ok(Window { kernel: kernel.to_vec(), stride, padding, dilation, ceil: node.int("ceil_mode", 0) != 0 })
}

/// Zeros that keep `ceil(n / stride)` windows.
fn same_pads(upper: bool, kernel: &[u64], stride: &[u64], dilation: &[u64], x: &Value) -> Result<Vec<u64>, String> {
    if x.dims.len() != kernel.len() + 2
        || stride.len() != kernel.len()
        || dilation.len() != kernel.len()
        || stride.contains(&0)
    {
        return Err("a window that does not fit its input".to_owned());
    }
    let total = |axis: usize| {
        let n = x.dims[axis + 2].coefficient as u64;
        let reach = dilation[axis].saturating_mul(kernel[axis].saturating_sub(1)).saturating_add(1);
        (n.div_ceil(stride[axis]) - 1).saturating_mul(stride[axis]).saturating_add(reach).saturating_sub(n)
    };
    let first = |axis: usize| if upper { total(axis) / 2 } else { total(axis).div_ceil(2) };
    let axes = 0..kernel.len();
    Ok(axes.clone().map(first).chain(axes.map(|axis| total(axis) - first(axis))).collect())
}

pub(super) fn convolution(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = image(importer, inputs)?;
    let Entry::Weight(kernel) = given(inputs, 1) else { return Err("convolves with a computed kernel".to_owned()) };
    let shape = sample_dims(&kernel.dims);
    let &[outputs, in_group, ref taps @ ..] = &shape[..] else { return Err(format!("a kernel of shape {shape:?}")) };
    let groups = u64::try_from(node.int("group", 1)).unwrap_or(0);
    let bias = !matches!(given(inputs, 2), Entry::Absent);
    let window = window(node, taps, &x)?;
    let kind = Convolution { inputs: in_group.saturating_mul(groups), outputs, window, groups, bias };
    let mut params = vec![weight(importer, inputs, 1, &shape)?];
    if bias {
        params.push(weight(importer, inputs, 2, &[outputs])?);
    }
    let id = importer.ir.op_with(OpKind::Convolution(kind), &[x.id], params)?;
    one(inferred(importer, id))
}

pub(super) fn pool(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = image(importer, inputs)?;
    let kernel = node.ints("kernel_shape").ok_or("has no kernel_shape")?;
    let kernel: Vec<u64> = kernel.iter().map(|n| u64::try_from(*n).unwrap_or(0)).collect();
    let window = window(node, &kernel, &x)?;
    let function = match (node.op(), node.int("count_include_pad", 0)) {
        ("MaxPool", _) => PoolKind::Max,
        (_, 0) if window.padding.iter().flatten().any(|zeros| *zeros > 0) => PoolKind::AverageInside,
        _ => PoolKind::Average,
    };
    let id = importer.ir.op(OpKind::Pool(Pool { function, window }), &[x.id])?;
    let mut outputs = one(inferred(importer, id))?;
    outputs.resize(node.node.outputs.len().max(1), Entry::Absent);
    Ok(outputs)
}

pub(super) fn global(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = image(importer, inputs)?;
    let function = if node.op() == "GlobalMaxPool" { Reduction::Max } else { Reduction::Mean };
    let axes = (1..x.dims.len() - 1).collect();
    let id = importer.ir.op(OpKind::Reduce(Reduce { function, axes }), &[x.id])?;
    let mut dims = x.dims;
    dims[2..].fill(Extent::ONE);
    let id = importer.ir.reshaped(id, sample_dims(&dims))?;
    one(importer.ir.checked(id, dims)?)
}

/// Nearest-neighbour resizing by one whole factor.
pub(super) fn resize(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = image(importer, inputs)?;
    if node.text("mode").unwrap_or("nearest") != "nearest" {
        return Err("resizes by interpolation; repeating the nearest element is supported".to_owned());
    }
    let scales =
        optional_constant(importer, inputs, if node.op() == "Upsample" { 1 } else { 2 })?.filter(|list| list.len() > 0);
    let factors: Vec<f32> = if let Some(scales) = scales {
        scales.as_floats()?.iter().skip(2).copied().collect()
    } else {
        let sizes = optional_constant(importer, inputs, 3)?.ok_or("has neither scales nor sizes")?.extents();
        sizes.iter().zip(&x.dims).skip(2).map(|(new, old)| new.coefficient as f32 / old.coefficient as f32).collect()
    };
    let factor = factors.first().copied().unwrap_or(0.0);
    let whole =
        factor >= 1.0 && factor.fract() == 0.0 && factors.iter().all(|other| other.to_bits() == factor.to_bits());
    if !whole || factors.len() != x.dims.len() - 2 {
        return Err(format!("resizes by {factors:?}; one whole factor is supported"));
    }
    let id = importer.ir.op(OpKind::Upsample(Upsample { factor: factor as u64 }), &[x.id])?;
    one(inferred(importer, id))
}
