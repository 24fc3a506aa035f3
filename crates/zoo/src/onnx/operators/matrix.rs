//! Products of matrices, and the attention operators of newer operator sets.

use std::rc::Rc;

use cutplane_graph::{Arithmetic, Concat, MatMul, OpKind, Reshape, ScaleShift, Softmax, WeightLayout};

use super::super::constant::Constant;
use super::super::extent::{Extent, batch_axis, display, elements, sample_dims};
use super::super::import::{Entry, Importer, Weight};
use super::super::ir::{Body, Node, Tables, Value};
use super::super::node::NodeView;
use super::pointwise::fixed;
use super::{Lowered, float, given, one, optional_constant};

/// Score of a pair that is masked: exponentials of it are zero, and finite arithmetic stays finite.
const MASKED: f32 = -1e30;

pub(super) fn product(importer: &mut Importer<'_>, _: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    match given(inputs, 1) {
        Entry::Weight(weight) => one(linear(importer, &x, &weight.clone(), None)?),
        Entry::Constant(_) => Err("multiplies with a matrix that is computed from shapes or constants".to_owned()),
        _ => {
            let y = float(importer, inputs, 1)?;
            one(values(importer, &x, &y)?)
        }
    }
}

/// Product with a weight: a linear layer.
fn linear(importer: &mut Importer<'_>, x: &Value, weight: &Weight, bias: Option<usize>) -> Result<Value, String> {
    let &[k, n] = &weight.dims[..] else {
        return Err(format!("multiplies with a weight of shape {}", display(&weight.dims)));
    };
    let fits = x.dims.last() == Some(&k) && !sample_dims(&x.dims).is_empty();
    let (inputs, outputs) = (k.coefficient as u64, n.coefficient as u64);
    if !fits {
        return Err(format!("multiplies {} with a weight of shape {}", display(&x.dims), display(&weight.dims)));
    }
    let layout = if weight.transposed { WeightLayout::OutIn } else { WeightLayout::InOut };
    let kind = OpKind::Linear { inputs, outputs, bias: bias.is_some(), layout, init_std: 0.02 };
    let params = std::iter::once(importer.ir.param(weight.initializer, Vec::new())).chain(bias).collect();
    let id = importer.ir.op_with(kind, &[x.id], params)?;
    let mut dims = x.dims.clone();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    importer.ir.checked(id, dims)
}

/// Product of two computed values.
fn values(importer: &mut Importer<'_>, x: &Value, y: &Value) -> Result<Value, String> {
    let refuse = || {
        format!(
            "multiplies the matrices {} and {}, of which the axes before the last two must be equal",
            display(&x.dims),
            display(&y.dims)
        )
    };
    let ([outer @ .., m, k], [outer_y @ .., k_y, n]) = (&x.dims[..], &y.dims[..]) else { return Err(refuse()) };
    let inside = [m, k, n].iter().any(|extent| extent.per_sample);
    if outer != outer_y || k != k_y || inside {
        return Err(refuse());
    }
    let dims = outer.iter().chain([m, n]).copied().collect();
    importer.ir.value(OpKind::MatMul(MatMul { transpose_right: false }), &[x.id, y.id], dims)
}

pub(super) fn gemm(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    node.only("transA", 0)?;
    if (node.float("alpha", 1.0) - 1.0).abs() > 1e-7 || (node.float("beta", 1.0) - 1.0).abs() > 1e-7 {
        return Err("scales the product or the bias".to_owned());
    }
    let Entry::Weight(weight) = given(inputs, 1) else {
        return Err("multiplies two computed values: export MatMul".to_owned());
    };
    let mut weight = weight.clone();
    if node.int("transB", 0) != 0 {
        weight.transposed = !weight.transposed;
        weight.dims.reverse();
    }
    let outputs = weight.dims.last().copied().unwrap_or(Extent::ONE);
    let bias = match given(inputs, 2) {
        Entry::Absent => None,
        Entry::Weight(bias) if elements(&bias.dims) == elements(&[outputs]) => {
            Some(importer.ir.param(bias.initializer, Vec::new()))
        }
        _ => return Err("adds a bias that is no initializer of one number an output".to_owned()),
    };
    one(linear(importer, &x, &weight, bias)?)
}

/// Rotation of queries or keys by known tables.
pub(super) fn rotary(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let (cosines, sines) = (importer.constant(given(inputs, 1))?, importer.constant(given(inputs, 2))?);
    let [batch, _, positions, width] = x.dims[..] else {
        return Err("rotates something else than [batch, heads, positions, width]".to_owned());
    };
    if node.int("rotary_embedding_dim", 0) != 0 || !matches!(given(inputs, 3), Entry::Absent) || !batch.per_sample {
        return Err("rotates part of a head, or by positions that are given".to_owned());
    }
    let dims = [positions, Extent::known(width.coefficient / 2)];
    let spread = |constant: &Constant| constant.spread_to(&dims).ok_or("rotates by tables of another shape");
    let tables = Tables {
        cosines: spread(&cosines)?,
        sines: spread(&sines)?,
        features: width.coefficient as u64,
        interleaved: node.int("interleaved", 0) != 0,
    };
    let (ty, name) = (importer.ir.node(x.id).ty.clone(), importer.ir.name.clone());
    let body = Body::Rotated(Rc::new(tables));
    let id = importer.ir.add(Node { name, body, inputs: vec![x.id], params: Vec::new(), ty });
    one(Value { id, dims: x.dims })
}

/// The attention of operator set 23, as products and a softmax that are joined again.
pub(super) fn attention(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let [q, k, v] = [float(importer, inputs, 0)?, float(importer, inputs, 1)?, float(importer, inputs, 2)?];
    let known = (4..inputs.len()).all(|index| matches!(given(inputs, index), Entry::Absent));
    let four = [&q, &k, &v].iter().all(|value| value.dims.len() == 4 && batch_axis(&value.dims) == Some(0));
    if !known || !four || node.float("softcap", 0.0) != 0.0 {
        return Err("attention is supported on [batch, heads, positions, width], without cache or cap".to_owned());
    }
    let [heads, queries, width] = [1, 2, 3].map(|axis| q.dims[axis].coefficient as u64);
    let keys = k.dims[2].coefficient as u64;
    let (k, v) = (repeated(importer, &k, heads)?, repeated(importer, &v, heads)?);
    let product = importer.ir.op(OpKind::MatMul(MatMul { transpose_right: true }), &[q.id, k])?;
    let scale = f64::from(node.float("scale", (width as f32).powf(-0.5)));
    let scaled = importer.ir.op(OpKind::ScaleShift(ScaleShift { scale, shift: 0.0 }), &[product])?;
    let mut dims = q.dims.clone();
    dims[3] = Extent::known(keys as i64);
    let mut scores = importer.ir.checked(scaled, dims)?;
    if node.int("is_causal", 0) != 0 {
        scores = fixed(importer, Arithmetic::Add, &scores, &triangle(queries, keys))?;
    }
    if let Some(mask) = optional_constant(importer, inputs, 3)? {
        let mask = match mask.numbers {
            super::super::constant::Numbers::Bools(_) => mask.as_mask(MASKED),
            _ => mask,
        };
        scores = fixed(importer, Arithmetic::Add, &scores, &mask)?;
    }
    let shares = importer.ir.op(OpKind::Softmax(Softmax { log: false }), &[scores.id])?;
    let mixed = importer.ir.op(OpKind::MatMul(MatMul { transpose_right: false }), &[shares, v])?;
    one(importer.ir.checked(mixed, q.dims)?)
}

/// Keys or values `[kv heads, t, d]`, each repeated for its group of heads.
fn repeated(importer: &mut Importer<'_>, x: &Value, heads: u64) -> Result<usize, String> {
    let own = sample_dims(&x.dims);
    let &[kv_heads, keys, width] = &own[..] else { return Err("keys of another shape".to_owned()) };
    if kv_heads == heads {
        return Ok(x.id);
    }
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!("{kv_heads} heads of keys do not divide {heads}"));
    }
    let parted = importer.ir.op(OpKind::Reshape(Reshape { dims: vec![kv_heads, 1, keys, width] }), &[x.id])?;
    let copies = (heads / kv_heads) as usize;
    let joined = importer.ir.op(OpKind::Concat(Concat { axis: 1, values: copies }), &vec![parted; copies])?;
    importer.ir.op(OpKind::Reshape(Reshape { dims: vec![heads, keys, width] }), &[joined])
}

fn triangle(queries: u64, keys: u64) -> Constant {
    let dims = vec![Extent::known(queries as i64), Extent::known(keys as i64)];
    let bits = (0..queries).flat_map(|row| (0..keys).map(move |column| if column <= row { 0.0 } else { MASKED }));
    Constant::floats(dims, bits)
}
