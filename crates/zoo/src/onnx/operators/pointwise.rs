//! Functions of one or two values, element by element.

use cutplane_graph::{
    ActivationKind, Arithmetic, Binary, Fixed, Init, Learned, OpKind, ScaleShift, Softmax, Transpose,
};

use super::super::constant::{Constant, Numbers};
use super::super::extent::{Extent, batch_axis, broadcast, display, sample_axis, sample_dims};
use super::super::import::{Entry, Importer, Weight, is_float};
use super::super::ir::{Value, is};
use super::super::node::NodeView;
use super::{Lowered, float, given, one, optional_constant, rows, same_shape, value};

/// A score below this is hidden.
const HIDDEN: f32 = -1e4;

/// An operator that changes nothing when a model is trained without dropout.
#[expect(clippy::unnecessary_wraps, reason = "the signature of all operators")]
pub(super) fn identity(_: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let unused = node.node.outputs.len().saturating_sub(1);
    Ok(std::iter::once(given(inputs, 0).clone()).chain(std::iter::repeat_n(Entry::Absent, unused)).collect())
}

/// Floats stay floats and integers integers: all floats are held in the precision of the plan.
pub(super) fn cast(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let to_float = if node.op() == "CastLike" { true } else { is_float(node.int("to", 1)) };
    match given(inputs, 0) {
        Entry::Value(value) if importer.ir.is_float(value.id) != to_float => {
            Err("turns data into another kind of number, integer or float".to_owned())
        }
        entry => Ok(vec![entry.clone()]),
    }
}

pub(super) fn unary(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let function = match node.op() {
        "Abs" => ActivationKind::Absolute,
        "Cos" => ActivationKind::Cosine,
        "Erf" => ActivationKind::Erf,
        "Exp" => ActivationKind::Exp,
        "Gelu" if node.text("approximate").unwrap_or("none") == "none" => ActivationKind::Gelu,
        "Gelu" | "FastGelu" => ActivationKind::GeluTanh,
        "HardSwish" => ActivationKind::HardSwish,
        "Log" => ActivationKind::Log,
        "Reciprocal" => ActivationKind::Reciprocal,
        "Relu" => ActivationKind::Relu,
        "Sigmoid" => ActivationKind::Sigmoid,
        "Sin" => ActivationKind::Sine,
        "Softplus" => ActivationKind::Softplus,
        "Sqrt" => ActivationKind::Sqrt,
        "Swish" if (node.float("alpha", 1.0) - 1.0).abs() < 1e-6 => ActivationKind::Silu,
        "QuickGelu" if (node.float("alpha", 1.702) - 1.702).abs() < 1e-6 => ActivationKind::QuickGelu,
        "Tanh" => ActivationKind::Tanh,
        other => return Err(format!("{other} with these attributes is not supported")),
    };
    if inputs.len() > 1 {
        return Err("a bias inside an activation is not supported: export it as an addition".to_owned());
    }
    one(same_shape(importer, OpKind::Activation { function }, &x)?)
}

fn scaled(importer: &mut Importer<'_>, x: &Value, scale: f64, shift: f64) -> Result<Value, String> {
    if is(scale, 1.0) && is(shift, 0.0) {
        return Ok(x.clone());
    }
    let finite = |number: f64| number.clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
    if scale.is_nan() || shift.is_nan() {
        return Err("a constant that is not a number".to_owned());
    }
    same_shape(importer, OpKind::ScaleShift(ScaleShift { scale: finite(scale), shift: finite(shift) }), x)
}

pub(super) fn negative(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    one(scaled(importer, &x, -1.0, 0.0)?)
}

pub(super) fn hard_sigmoid(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    if (alpha - 1.0 / 6.0).abs() > 1e-4 || (beta - 0.5).abs() > 1e-6 {
        return Err(format!("HardSigmoid with slope {alpha}: 1/6 is supported"));
    }
    one(same_shape(importer, OpKind::Activation { function: ActivationKind::HardSigmoid }, &x)?)
}

/// `max(x, alpha x)`, which is the leaky rectifier for slopes below 1.
pub(super) fn leaky_relu(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let (x, alpha) = (float(importer, inputs, 0)?, node.float("alpha", 0.01));
    if (alpha - 0.01).abs() < 1e-7 {
        return one(same_shape(importer, OpKind::Activation { function: ActivationKind::LeakyRelu }, &x)?);
    }
    if !(0.0..1.0).contains(&alpha) {
        return Err(format!("LeakyRelu with slope {alpha}: 0 to 1 is supported"));
    }
    let below = scaled(importer, &x, f64::from(alpha), 0.0)?;
    let kind = OpKind::Binary(Binary { function: Arithmetic::Maximum });
    one(importer.ir.value(kind, &[x.id, below.id], x.dims)?)
}

pub(super) fn clip(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let mut x = float(importer, inputs, 0)?;
    let mut bound = |index| -> Result<Option<f32>, String> {
        Ok(optional_constant(importer, inputs, index)?.and_then(|constant| constant.uniform()))
    };
    let bounds = (bound(1)?, bound(2)?);
    if bounds == (Some(0.0), Some(6.0)) {
        return one(same_shape(importer, OpKind::Activation { function: ActivationKind::Relu6 }, &x)?);
    }
    for (bound, function) in [(bounds.0, Arithmetic::Maximum), (bounds.1, Arithmetic::Minimum)] {
        if let Some(bound) = bound {
            x = fixed(importer, function, &x, &Constant::floats(vec![], [bound]))?;
        }
    }
    one(x)
}

/// Small whole powers are products; a half is a root.
pub(super) fn power(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let exponent = optional_constant(importer, inputs, 1)?.and_then(|constant| constant.uniform());
    let Some(exponent) = exponent.map(f64::from) else { return Err("a power that is not one known number".to_owned()) };
    if is(exponent, 1.0) {
        return one(x);
    }
    let mut apply = |function, x: &Value| same_shape(importer, OpKind::Activation { function }, x);
    let whole = [(2.0, ActivationKind::Square), (0.5, ActivationKind::Sqrt), (-1.0, ActivationKind::Reciprocal)];
    if let Some((_, function)) = whole.into_iter().find(|(power, _)| is(exponent, *power)) {
        return one(apply(function, &x)?);
    }
    if is(exponent, -0.5) {
        let root = apply(ActivationKind::Sqrt, &x)?;
        return one(apply(ActivationKind::Reciprocal, &root)?);
    }
    if is(exponent, 3.0) {
        let square = apply(ActivationKind::Square, &x)?;
        let kind = OpKind::Binary(Binary { function: Arithmetic::Multiply });
        return one(importer.ir.value(kind, &[square.id, x.id], x.dims)?);
    }
    one(fixed(importer, Arithmetic::Power, &x, &Constant::floats(vec![], [exponent as f32]))?)
}

pub(super) fn softmax(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let axis = node.axis("axis", -1, x.dims.len())?;
    let Some(axis) = sample_axis(&x.dims, axis) else { return Err("a softmax over the samples".to_owned()) };
    let kind = OpKind::Softmax(Softmax { log: node.op() == "LogSoftmax" });
    let last = sample_dims(&x.dims).len() - 1;
    if axis == last {
        return one(same_shape(importer, kind, &x)?);
    }
    let mut axes: Vec<usize> = (0..=last).collect();
    axes.swap(axis, last);
    let swapped = importer.ir.op(OpKind::Transpose(Transpose { axes: axes.clone() }), &[x.id])?;
    let normed = importer.ir.op(kind, &[swapped])?;
    one(importer.ir.value(OpKind::Transpose(Transpose { axes }), &[normed], x.dims)?)
}

pub(super) fn not_a_number(_: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    Ok(vec![Entry::NotANumber(value(inputs, 0)?.clone())])
}

/// A choice by a known condition is `x kept + other`, with `kept` 1 where `x` is taken.
pub(super) fn choose(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    if let (Entry::NotANumber(tested), Entry::Value(no)) = (given(inputs, 0), given(inputs, 2)) {
        // Guards a softmax against rows of which everything is masked; none is in a graph without padding.
        return if tested.id == no.id { one(no.clone()) } else { Err("a choice by numbers that are none".to_owned()) };
    }
    let condition = importer
        .constant(given(inputs, 0))
        .map_err(|_| "chooses by a condition that depends on the data".to_owned())?;
    if let (Entry::Rows(rows), other) = (given(inputs, 1), given(inputs, 2)) {
        let other = importer.constant(other)?;
        let hides = other
            .uniform()
            .filter(|number| *number <= HIDDEN)
            .ok_or("chooses between rows of a table and other numbers")?;
        return Ok(vec![Entry::Rows(rows.plus(&condition.as_mask(hides))?)]);
    }
    let (taken, index, other) = match (given(inputs, 1), given(inputs, 2)) {
        (Entry::Value(_), other) => (true, 1, other),
        (other, _) => (false, 2, other),
    };
    let (x, other) = (float(importer, inputs, index)?, importer.constant(other)?.as_floats_constant()?);
    let kept = condition.as_bools().iter().map(|bit| f32::from(*bit == taken)).collect::<Vec<_>>();
    let kept = Constant::floats(condition.dims.clone(), kept).differing(condition.differs);
    let product = fixed(importer, Arithmetic::Multiply, &x, &kept)?;
    let added = kept.chosen_where_zero(&other)?;
    one(fixed(importer, Arithmetic::Add, &product, &added)?)
}

pub(super) fn mean(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    match &binary(importer, node, inputs)?[..] {
        [Entry::Value(sum)] => one(scaled(importer, &sum.clone(), 1.0 / inputs.len() as f64, 0.0)?),
        other => Ok(other.to_vec()),
    }
}

/// Sums, products and so on of two values, or of more for those that ONNX has for many.
pub(super) fn binary(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let function = match node.op() {
        "Add" | "Sum" | "Mean" => Arithmetic::Add,
        "Sub" => Arithmetic::Subtract,
        "Mul" => Arithmetic::Multiply,
        "Div" => Arithmetic::Divide,
        "Max" => Arithmetic::Maximum,
        _ => Arithmetic::Minimum,
    };
    let [first, rest @ ..] = inputs else { return Err("has no inputs".to_owned()) };
    let joined = rest.iter().try_fold(first.clone(), |sum, next| join(importer, function, &sum, next))?;
    Ok(vec![joined])
}

fn join(importer: &mut Importer<'_>, function: Arithmetic, a: &Entry, b: &Entry) -> Result<Entry, String> {
    let commutes = !matches!(function, Arithmetic::Subtract | Arithmetic::Divide);
    let value = match (a, b) {
        (Entry::Value(x), Entry::Value(y)) => two(importer, function, x, y)?,
        (Entry::Rows(rows), Entry::Value(x)) | (Entry::Value(x), Entry::Rows(rows)) if function == Arithmetic::Add => {
            rows::add(importer, x, rows)?
        }
        (Entry::Rows(rows), mask) | (mask, Entry::Rows(rows)) if function == Arithmetic::Add => {
            let mask = importer.constant(mask)?;
            return rows.plus(&mask).map(Entry::Rows);
        }
        (Entry::Value(x), Entry::Weight(weight)) if importer.is_learned(weight) => {
            learned(importer, function, x, weight)?
        }
        (Entry::Weight(weight), Entry::Value(x)) if commutes && importer.is_learned(weight) => {
            learned(importer, function, x, weight)?
        }
        (Entry::Value(x), constant) => {
            let constant = importer.constant(constant)?;
            fixed(importer, function, x, &constant)?
        }
        (constant, Entry::Value(x)) if commutes => {
            let constant = importer.constant(constant)?;
            fixed(importer, function, x, &constant)?
        }
        (constant, Entry::Value(x)) => {
            let constant = importer.constant(constant)?;
            let turned = match function {
                Arithmetic::Subtract => scaled(importer, x, -1.0, 0.0)?,
                _ => same_shape(importer, OpKind::Activation { function: ActivationKind::Reciprocal }, x)?,
            };
            let function = if function == Arithmetic::Subtract { Arithmetic::Add } else { Arithmetic::Multiply };
            fixed(importer, function, &turned, &constant)?
        }
        _ => return Err("arithmetic on weights alone is not supported".to_owned()),
    };
    Ok(Entry::Value(value))
}

/// The two values as they broadcast after the batch was taken out of both.
fn two(importer: &mut Importer<'_>, function: Arithmetic, x: &Value, y: &Value) -> Result<Value, String> {
    let refuse = || format!("{} and {} do not broadcast to one shape", display(&x.dims), display(&y.dims));
    let dims = broadcast(&x.dims, &y.dims).ok_or_else(refuse)?;
    let (left, right) = (aligned(importer, x, &dims)?, aligned(importer, y, &dims)?);
    let same = importer.ir.node(left).ty == importer.ir.node(right).ty;
    let kind = if same && function == Arithmetic::Add { OpKind::Add } else { OpKind::Binary(Binary { function }) };
    importer.ir.value(kind, &[left, right], dims)
}

/// A value without the extent of 1 that meets the batch of `dims`.
fn aligned(importer: &mut Importer<'_>, x: &Value, dims: &[Extent]) -> Result<usize, String> {
    if batch_axis(&x.dims).is_some() {
        return Ok(x.id);
    }
    let kept = without_batch(&x.dims, dims);
    importer.ir.reshaped(x.id, sample_dims(&kept))
}

/// Extents of an operand without batch, once the batch was taken out of the result's shape `dims`.
pub(super) fn without_batch(operand: &[Extent], dims: &[Extent]) -> Vec<Extent> {
    let missing = dims.len() - operand.len();
    let dropped =
        batch_axis(dims).filter(|axis| dims[*axis] == Extent::BATCH).and_then(|axis| axis.checked_sub(missing));
    operand.iter().enumerate().filter(|(axis, _)| Some(*axis) != dropped).map(|(_, extent)| *extent).collect()
}

/// Arithmetic with a constant: one number, or a tensor.
pub(in super::super) fn fixed(
    importer: &mut Importer<'_>,
    function: Arithmetic,
    x: &Value,
    constant: &Constant,
) -> Result<Value, String> {
    if constant.differs {
        return Err("computes with the number of the sample".to_owned());
    }
    if let Numbers::Bools(_) = constant.numbers {
        return Err("computes with a condition as if it were a number, which ONNX does not allow".to_owned());
    }
    let dims = broadcast(&x.dims, &constant.dims)
        .ok_or_else(|| format!("{} and the constant {} do not broadcast", display(&x.dims), display(&constant.dims)))?;
    if batch_axis(&dims).is_some() && batch_axis(&x.dims).is_none() {
        return Err("a value without samples meets a constant with them".to_owned());
    }
    if let (Some(number), true) = (constant.uniform(), dims == x.dims) {
        let number = f64::from(number);
        match function {
            Arithmetic::Add => return scaled(importer, x, 1.0, number),
            Arithmetic::Subtract => return scaled(importer, x, 1.0, -number),
            Arithmetic::Multiply => return scaled(importer, x, number, 0.0),
            Arithmetic::Divide => return scaled(importer, x, 1.0 / number, 0.0),
            _ => {}
        }
    }
    let kept = if batch_axis(&constant.dims).is_some() {
        sample_dims(&constant.dims)
    } else {
        sample_dims(&without_batch(&constant.dims, &dims))
    };
    let numbers = importer.held(&constant.as_floats()?)?;
    let kind = OpKind::Fixed(Fixed { function, dims: kept, numbers });
    Ok(importer.ir.unchecked_value(kind, &[x.id], dims))
}

/// Arithmetic with a parameter.
fn learned(importer: &mut Importer<'_>, function: Arithmetic, x: &Value, weight: &Weight) -> Result<Value, String> {
    if weight.transposed {
        return Err("a transposed weight is added or multiplied".to_owned());
    }
    let dims = broadcast(&x.dims, &weight.dims)
        .ok_or_else(|| format!("{} and the weight {} do not broadcast", display(&x.dims), display(&weight.dims)))?;
    let init = if matches!(function, Arithmetic::Multiply | Arithmetic::Divide) { Init::Ones } else { Init::Zeros };
    let kept = sample_dims(&without_batch(&weight.dims, &dims));
    let param = importer.ir.param(weight.initializer, Vec::new());
    let id = importer.ir.op_with(OpKind::Learned(Learned { function, dims: kept, init }), &[x.id], vec![param])?;
    importer.ir.checked(id, dims)
}
