//! Scores, mask, softmax and mixing as one attention.

use std::rc::Rc;

use cutplane_graph::{Arithmetic, Attention, AttentionInput, MatMul, OpKind, PositionScheme, Slice, Softmax};

use super::super::ir::{Body, Buckets, Id, Ir, fixed, is};
use super::heads::{self, Heads};
use super::mask::Mask;

/// Longest distances that share the last bucket, as models have them: T5's own first.
const MAX_DISTANCES: [u64; 7] = [128, 20, 32, 64, 256, 512, 1024];

/// Scores as a softmax reads them.
struct Scores {
    queries: Heads,
    keys: Heads,
    scale: f64,
    mask: Mask,
    bias: Option<(Rc<Buckets>, usize)>,
}

/// The attention whose heads a reshape to `dims` joins again.
pub(super) fn join(ir: &mut Ir, dims: &[u64], x: Id) -> Result<Option<Id>, String> {
    match read(ir, dims, x) {
        Some((kind, inputs, params)) => ir.op_with(OpKind::Attention(kind), &inputs, params).map(Some),
        None => Ok(None),
    }
}

fn read(ir: &Ir, dims: &[u64], x: Id) -> Option<(Attention, Vec<Id>, Vec<usize>)> {
    let OpKind::Transpose(order) = ir.kind(x)? else { return None };
    let mixed = ir.node(x).inputs[0];
    let &[heads, s, width] = &ir.node(mixed).ty.dims[..] else { return None };
    let &[shares, values] = &ir.node(mixed).inputs[..] else { return None };
    let plain = ir.kind(mixed)? == &OpKind::MatMul(MatMul { transpose_right: false });
    if order.axes != [1, 0, 2] || dims != [s, heads * width] || !plain || !ir.node(mixed).ty.batched {
        return None;
    }
    if ir.kind(shares)? != &OpKind::Softmax(Softmax { log: false }) {
        return None;
    }
    let scores = scores(ir, ir.node(shares).inputs[0])?;
    let values = heads::of(ir, values)?;
    let kv_heads = scores.keys.count;
    let unlike = values.count != kv_heads || values.width != width || scores.queries.count != heads;
    if unlike || values.rotary.is_some() || !is(values.scale, 1.0) || scores.queries.width != width {
        return None;
    }
    let sight = scores.mask.sight()?;
    let (position, params) = position(&scores, sight.causal)?;
    let (inputs, input) = sources(ir, [scores.queries.source, scores.keys.source, values.source]);
    let scale = scores.scale * scores.queries.scale * scores.keys.scale;
    let usual = (width as f64).powf(-0.5);
    let kind = Attention {
        kv_heads: Some(kv_heads).filter(|kv_heads| *kv_heads != heads),
        position,
        window: sight.window,
        scale: Some(scale).filter(|scale| (scale / usual - 1.0).abs() > 1e-6),
        ..Attention::new(heads, width, sight.causal, input)
    };
    Some((kind, inputs, params))
}

fn scores(ir: &Ir, mut id: Id) -> Option<Scores> {
    let &[_, s, t] = &ir.node(id).ty.dims[..] else { return None };
    let (mut scale, mut mask, mut bias) = (1.0, Mask::none(s, t), None);
    loop {
        let node = ir.node(id);
        if let (Body::ScoreBias(buckets), &[table]) = (&node.body, &node.params[..]) {
            // A factor outside would scale the bias too.
            if !is(scale, 1.0) || bias.replace((Rc::clone(buckets), table)).is_some() {
                return None;
            }
            if let Some(numbers) = &buckets.mask {
                mask.add(&buckets.lengths, numbers)?;
            }
        } else {
            match ir.kind(id)? {
                OpKind::MatMul(MatMul { transpose_right: true }) => break,
                OpKind::ScaleShift(kind) if kind.shift == 0.0 => scale *= kind.scale,
                kind => {
                    let constant = fixed(kind)?;
                    match constant.function {
                        Arithmetic::Add => mask.add(&constant.dims, &constant.numbers)?,
                        Arithmetic::Multiply => mask.keeps(&constant.dims, &constant.numbers)?,
                        _ => return None,
                    }
                }
            }
        }
        id = node.inputs[0];
    }
    let &[queries, keys] = &ir.node(id).inputs[..] else { return None };
    Some(Scores { queries: heads::of(ir, queries)?, keys: heads::of(ir, keys)?, scale, mask, bias })
}

fn position(scores: &Scores, causal: bool) -> Option<(PositionScheme, Vec<usize>)> {
    match (&scores.bias, scores.queries.rotary, scores.keys.rotary) {
        (None, None, None) => Some((PositionScheme::None, Vec::new())),
        (None, Some(queries), Some(keys)) if queries == keys => Some((PositionScheme::Rotary(queries), Vec::new())),
        (Some((found, param)), None, None) => {
            let buckets = found.shape[0];
            let fits = |max_distance: &u64| *max_distance >= buckets / 2 && same_buckets(found, *max_distance, causal);
            let max_distance = MAX_DISTANCES.into_iter().find(fits)?;
            Some((PositionScheme::RelativeBias { buckets, max_distance }, vec![*param]))
        }
        _ => None,
    }
}

fn same_buckets(found: &Buckets, max_distance: u64, causal: bool) -> bool {
    let [queries, keys] = found.lengths;
    let pairs = (0..queries as i64).flat_map(|query| (0..keys as i64).map(move |key| key - query));
    pairs.zip(&found.indices).all(|(distance, index)| {
        bucket(distance, found.shape[0], max_distance, !causal) == Some(*index)
            // A hidden pair may have any bucket.
            || (causal && distance > 0)
    })
}

/// The bucket of a distance from query to key (Raffel et al. 2020, section 2.1, as in Mesh TensorFlow).
fn bucket(distance: i64, buckets: u64, max_distance: u64, both_ways: bool) -> Option<i64> {
    let buckets = if both_ways { buckets / 2 } else { buckets } as i64;
    let offset = if both_ways && distance > 0 { buckets } else { 0 };
    let far = if both_ways { distance.abs() } else { (-distance).max(0) };
    let exact = buckets / 2;
    if exact == 0 || far < exact {
        return (exact > 0).then_some(offset + far);
    }
    // In f32, as the models that were trained with it computed it.
    let share = (far as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    let grown = exact + (share * (buckets - exact) as f32) as i64;
    Some(offset + grown.min(buckets - 1))
}

/// The inputs of the attention: the packed value, where all three are parts of one.
fn sources(ir: &Ir, [q, k, v]: [Id; 3]) -> (Vec<Id>, AttentionInput) {
    let part = |id: Id| match ir.kind(id) {
        Some(OpKind::Slice(Slice { axis: 1, start, end, step: 1 })) => Some((ir.node(id).inputs[0], *start, *end)),
        _ => None,
    };
    if let (Some((x, 0, a)), Some((y, b, c)), Some((z, d, e))) = (part(q), part(k), part(v))
        && (x, y) == (y, z)
        && (a, c) == (b, d)
        && ir.node(x).ty.dims.get(1) == Some(&e)
    {
        return (vec![x], AttentionInput::Packed);
    }
    (vec![q, k, v], AttentionInput::Separate)
}
