//! ONNX operators on values that the model computes, one file a family.

mod matrix;
mod norm;
mod pointwise;
pub(super) use norm::eps_as_written;
mod recurrent;
mod rows;
mod shape;
mod window;

use super::constant::Constant;
use super::import::{Entry, Importer};
use super::ir::{Id, Value};
use super::names::shortened;
use super::node::NodeView;

/// What an operator gives.
pub(super) type Lowered = Result<Vec<Entry>, String>;

type Lower = fn(&mut Importer<'_>, &NodeView<'_>, &[Entry]) -> Lowered;

/// Operators that are computed on values; those of constants alone come on top, see [`CONSTANT_ONLY`].
static TABLE: [(&str, Lower); 79] = [
    ("Abs", pointwise::unary),
    ("Add", pointwise::binary),
    ("AveragePool", window::pool),
    ("BatchNormalization", norm::batch),
    ("Cast", pointwise::cast),
    ("CastLike", pointwise::cast),
    ("Clip", pointwise::clip),
    ("Concat", shape::concat),
    ("Constant", shape::constant),
    ("Conv", window::convolution),
    ("Cos", pointwise::unary),
    ("Div", pointwise::binary),
    ("Dropout", pointwise::identity),
    ("Erf", pointwise::unary),
    ("Exp", pointwise::unary),
    ("Expand", shape::expand),
    ("Flatten", shape::reshape),
    ("GRU", recurrent::layer),
    ("Gather", shape::gather),
    ("Gelu", pointwise::unary),
    ("Gemm", matrix::gemm),
    ("GlobalAveragePool", window::global),
    ("GlobalMaxPool", window::global),
    ("GroupNormalization", norm::group),
    ("HardSigmoid", pointwise::hard_sigmoid),
    ("HardSwish", pointwise::unary),
    ("Identity", pointwise::identity),
    ("InstanceNormalization", norm::group),
    ("IsNaN", pointwise::not_a_number),
    ("LSTM", recurrent::layer),
    ("LayerNormalization", norm::layer),
    ("LeakyRelu", pointwise::leaky_relu),
    ("Log", pointwise::unary),
    ("LogSoftmax", pointwise::softmax),
    ("MatMul", matrix::product),
    ("Max", pointwise::binary),
    ("MaxPool", window::pool),
    ("Mean", pointwise::mean),
    ("Min", pointwise::binary),
    ("Mul", pointwise::binary),
    ("Neg", pointwise::negative),
    ("Pad", shape::pad),
    ("Pow", pointwise::power),
    ("RMSNormalization", norm::layer),
    ("RNN", recurrent::layer),
    ("Reciprocal", pointwise::unary),
    ("ReduceL2", shape::reduce),
    ("ReduceMax", shape::reduce),
    ("ReduceMean", shape::reduce),
    ("ReduceSum", shape::reduce),
    ("Relu", pointwise::unary),
    ("Reshape", shape::reshape),
    ("Resize", window::resize),
    ("RotaryEmbedding", matrix::rotary),
    ("Shape", shape::shape),
    ("Sigmoid", pointwise::unary),
    ("Sin", pointwise::unary),
    ("Size", shape::shape),
    ("Slice", shape::slice),
    ("Softmax", pointwise::softmax),
    ("SoftmaxCrossEntropyLoss", norm::cross_entropy),
    ("Softplus", pointwise::unary),
    ("Split", shape::split),
    ("Sqrt", pointwise::unary),
    ("Squeeze", shape::reshape),
    ("Sub", pointwise::binary),
    ("Sum", pointwise::binary),
    ("Swish", pointwise::unary),
    ("Tanh", pointwise::unary),
    ("Tile", shape::tile),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::reshape),
    ("Upsample", window::resize),
    ("Where", pointwise::choose),
    ("Attention", matrix::attention),
    ("SimplifiedLayerNormalization", norm::layer),
    ("QuickGelu", pointwise::unary),
    ("BiasGelu", pointwise::unary),
    ("FastGelu", pointwise::unary),
];

/// Operators that are computed where all their inputs are known, and not on values.
const CONSTANT_ONLY: [&str; 27] = [
    "And",
    "BitwiseAnd",
    "Ceil",
    "ConstantOfShape",
    "CumSum",
    "Equal",
    "Floor",
    "GatherND",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Mod",
    "Not",
    "Or",
    "Range",
    "ReduceMin",
    "ReduceProd",
    "Round",
    "Sign",
    "Trilu",
    "Xor",
    "Shape",
    "Size",
    "Constant",
    "Identity",
    "Cast",
];

/// The operators of ONNX that can be read, in alphabetical order.
pub(super) fn known() -> Vec<&'static str> {
    let mut names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).chain(CONSTANT_ONLY).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads a node.
pub(super) fn lower(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let own = matches!(node.node.domain, "" | "ai.onnx" | "com.microsoft");
    if let Some((_, lower)) = TABLE.iter().find(|(name, _)| own && *name == node.op()) {
        return lower(importer, node, inputs);
    }
    if own && CONSTANT_ONLY.contains(&node.op()) {
        return Err("its inputs depend on the data; it is supported on shapes and other known numbers only".to_owned());
    }
    let domain = if node.node.domain.is_empty() { "ai.onnx" } else { node.node.domain };
    Err(format!(
        "is an operator that is not supported ('{}' of {}): known are {}",
        shortened(node.op()),
        shortened(domain),
        known().join(", ")
    ))
}

/// One value as a result.
#[expect(clippy::unnecessary_wraps, reason = "the signature of all operators")]
fn one(value: Value) -> Lowered {
    Ok(vec![Entry::Value(value)])
}

fn given(inputs: &[Entry], index: usize) -> &Entry {
    inputs.get(index).unwrap_or(&Entry::Absent)
}

/// An input that must be a value.
fn value(inputs: &[Entry], index: usize) -> Result<&Value, String> {
    match given(inputs, index) {
        Entry::Value(value) => Ok(value),
        Entry::Absent => Err(format!("input {index} is missing")),
        Entry::Constant(_) => Err(format!("input {index} is a constant where a computed value is supported")),
        Entry::Weight(_) | Entry::Rows(_) => {
            Err(format!("input {index} is a weight where a computed value is supported"))
        }
        Entry::NotANumber(_) => Err(format!("input {index} is a test for numbers that are none")),
    }
}

/// An input of floats.
fn float(importer: &Importer<'_>, inputs: &[Entry], index: usize) -> Result<Value, String> {
    let found = value(inputs, index)?;
    if importer.ir.is_float(found.id) {
        return Ok(found.clone());
    }
    Err(format!("input {index} holds integers where floats are supported"))
}

/// An optional input that must be known.
fn optional_constant(importer: &mut Importer<'_>, inputs: &[Entry], index: usize) -> Result<Option<Constant>, String> {
    match given(inputs, index) {
        Entry::Absent => Ok(None),
        entry => importer.constant(entry).map(Some),
    }
}

/// A parameter of the shape `shape`, from an input that must be an initializer.
fn weight(importer: &mut Importer<'_>, inputs: &[Entry], index: usize, shape: &[u64]) -> Result<usize, String> {
    let Entry::Weight(weight) = given(inputs, index) else {
        return Err(format!("input {index} must be an initializer of shape {shape:?}: it is computed"));
    };
    let found: Vec<u64> = super::extent::sample_dims(&weight.dims);
    if found.iter().product::<u64>() != shape.iter().product::<u64>() || weight.transposed {
        return Err(format!("input {index} must be an initializer of shape {shape:?}, got {found:?}"));
    }
    Ok(importer.ir.param(weight.initializer, Vec::new()))
}

/// Runs `kind` on `x`, which keeps its shape.
fn same_shape(importer: &mut Importer<'_>, kind: cutplane_graph::OpKind, x: &Value) -> Result<Value, String> {
    let id: Id = importer.ir.op(kind, &[x.id])?;
    Ok(Value { id, dims: x.dims.clone() })
}
