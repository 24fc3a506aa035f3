//! Norms over the last axis that were exported as means, squares and roots.

use cutplane_graph::{ActivationKind, Arithmetic, Learned, OpKind, Reduction, RmsNorm};

use super::super::ir::{Id, Ir, is};
use super::super::operators::eps_as_written;

/// A value divided by a root of its mean square.
struct Normed {
    source: Id,
    /// Whether the mean is taken away first.
    centred: bool,
    eps: f64,
}

/// The norm that ends in a learned factor or summand.
pub(super) fn join(ir: &mut Ir, kind: &Learned, x: Id, params: &[usize]) -> Result<Option<Id>, String> {
    let &[dim] = &kind.dims[..] else { return Ok(None) };
    match kind.function {
        Arithmetic::Multiply => {
            let Some(normed) = normed(ir, x) else { return Ok(None) };
            let kind = if normed.centred {
                OpKind::LayerNorm { dim, eps: normed.eps, bias: false }
            } else {
                OpKind::RmsNorm(RmsNorm { dim, eps: normed.eps, unit_offset: false })
            };
            ir.op_with(kind, &[normed.source], params.to_vec()).map(Some)
        }
        Arithmetic::Add => {
            let Some(&OpKind::LayerNorm { eps, bias: false, dim: own }) = ir.kind(x) else { return Ok(None) };
            if own != dim {
                return Ok(None);
            }
            let both = [&ir.node(x).params[..], params].concat();
            let source = ir.node(x).inputs[0];
            ir.op_with(OpKind::LayerNorm { dim, eps, bias: true }, &[source], both).map(Some)
        }
        _ => Ok(None),
    }
}

fn normed(ir: &Ir, id: Id) -> Option<Normed> {
    let &[a, b] = &ir.node(id).inputs[..] else { return None };
    let (value, eps) = match ir.kind(id)? {
        OpKind::Binary(kind) if kind.function == Arithmetic::Divide => (a, root(ir, b)?),
        OpKind::Binary(kind) if kind.function == Arithmetic::Multiply => {
            let inverse = |id: Id| activated(ir, id, ActivationKind::Reciprocal).and_then(|inner| root(ir, inner));
            match (inverse(b), inverse(a)) {
                (Some(eps), _) => (a, eps),
                (None, Some(eps)) => (b, eps),
                _ => return None,
            }
        }
        _ => return None,
    };
    let (squared, eps) = eps;
    if squared != value {
        return None;
    }
    let eps = eps_as_written(eps);
    Some(match centred(ir, value) {
        Some(source) => Normed { source, centred: true, eps },
        None => Normed { source: value, centred: false, eps },
    })
}

/// The input of an activation.
fn activated(ir: &Ir, id: Id, wanted: ActivationKind) -> Option<Id> {
    match ir.kind(id)? {
        OpKind::Activation { function } if *function == wanted => Some(ir.node(id).inputs[0]),
        _ => None,
    }
}

/// `v` and `eps` of `sqrt(mean(v^2) + eps)`.
fn root(ir: &Ir, id: Id) -> Option<(Id, f64)> {
    let sum = activated(ir, id, ActivationKind::Sqrt)?;
    let (mean, eps) = match ir.kind(sum)? {
        OpKind::ScaleShift(kind) if is(kind.scale, 1.0) => (ir.node(sum).inputs[0], kind.shift),
        _ => return None,
    };
    let square = mean_of(ir, mean)?;
    let value = activated(ir, square, ActivationKind::Square).or_else(|| {
        match (ir.kind(square)?, &ir.node(square).inputs[..]) {
            (OpKind::Binary(kind), &[a, b]) if a == b && kind.function == Arithmetic::Multiply => Some(a),
            _ => None,
        }
    })?;
    Some((value, eps))
}

/// What a mean over the last axis, kept as an axis of 1, is taken of.
fn mean_of(ir: &Ir, id: Id) -> Option<Id> {
    let reduced = match ir.kind(id)? {
        OpKind::Reshape(_) => ir.node(id).inputs[0],
        _ => return None,
    };
    let OpKind::Reduce(kind) = ir.kind(reduced)? else { return None };
    let source = ir.node(reduced).inputs[0];
    let last = ir.node(source).ty.dims.len().checked_sub(1)?;
    let kept = ir.node(id).ty.dims.last() == Some(&1) && ir.node(id).ty.dims.len() == last + 1;
    (kind.function == Reduction::Mean && kind.axes == [last] && kept).then_some(source)
}

/// `x` of `x - mean(x)`.
fn centred(ir: &Ir, id: Id) -> Option<Id> {
    let &[x, mean] = &ir.node(id).inputs[..] else { return None };
    match ir.kind(id)? {
        OpKind::Binary(kind) if kind.function == Arithmetic::Subtract => (mean_of(ir, mean)? == x).then_some(x),
        _ => None,
    }
}
