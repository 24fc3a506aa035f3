//! Queries, keys and values of an attention: where their heads come from, and how positions turned them.

use std::rc::Rc;

use cutplane_graph::{Arithmetic, Fixed, OpKind, Rotary, RotaryScaling, Slice};

use super::super::ir::{Body, Id, Ir, Tables, fixed, is};

/// Rotation angles of f32 tables are off by a few roundings of the position.
const ANGLE_TOLERANCE: f64 = 4e-6;

/// A value `[heads, positions, width]` and what it was made of.
#[derive(Debug)]
pub(super) struct Heads {
    /// `[positions, kv heads width]`.
    pub(super) source: Id,
    /// Heads of the source; each may serve several.
    pub(super) count: u64,
    /// Width of a head.
    pub(super) width: u64,
    /// What it was multiplied with.
    pub(super) scale: f64,
    pub(super) rotary: Option<Rotary>,
}

/// Follows a value `[heads, positions, width]` back to the rows that it was parted from.
pub(super) fn of(ir: &Ir, mut id: Id) -> Option<Heads> {
    let mut found = Heads { source: id, count: 0, width: *ir.node(id).ty.dims.last()?, scale: 1.0, rotary: None };
    loop {
        if let Some((source, rotary)) = rotated(ir, id) {
            if found.rotary.replace(rotary).is_some() {
                return None;
            }
            id = source;
            continue;
        }
        match ir.kind(id)? {
            OpKind::ScaleShift(kind) if kind.shift == 0.0 => {
                found.scale *= kind.scale;
                id = ir.node(id).inputs[0];
            }
            OpKind::Reshape(_) => id = before_repetition(ir, id)?,
            OpKind::Transpose(kind) if kind.axes == [1, 0, 2] => {
                let mut parted = ir.node(id).inputs[0];
                let &[positions, heads, width] = &ir.node(parted).ty.dims[..] else { return None };
                while let OpKind::ScaleShift(kind) = ir.kind(parted)? {
                    found.scale *= Some(kind.scale).filter(|_| kind.shift == 0.0)?;
                    parted = ir.node(parted).inputs[0];
                }
                let OpKind::Reshape(_) = ir.kind(parted)? else { return None };
                let source = ir.node(parted).inputs[0];
                let whole = ir.node(source).ty.dims == [positions, heads * width];
                return whole.then_some(Heads { source, count: heads, ..found });
            }
            _ => return None,
        }
    }
}

/// `[kv heads, t, d]` of a `[heads, t, d]` in which each head of keys is repeated for its group of queries.
fn before_repetition(ir: &Ir, id: Id) -> Option<Id> {
    let copied = ir.node(id).inputs[0];
    let OpKind::Concat(concat) = ir.kind(copied)? else { return None };
    let copies = &ir.node(copied).inputs;
    let parted = *copies.first()?;
    let OpKind::Reshape(_) = ir.kind(parted)? else { return None };
    let source = ir.node(parted).inputs[0];
    let &[heads, t, width] = &ir.node(source).ty.dims[..] else { return None };
    let whole = ir.node(parted).ty.dims == [heads, 1, t, width]
        && ir.node(id).ty.dims == [heads * copies.len() as u64, t, width]
        && concat.axis == 1
        && copies.iter().all(|copy| *copy == parted);
    whole.then_some(source)
}

/// A rotation: by one node, or written out as `x cos + turned(x) sin`.
fn rotated(ir: &Ir, id: Id) -> Option<(Id, Rotary)> {
    let node = ir.node(id);
    if let Body::Rotated(tables) = &node.body {
        return Some((node.inputs[0], rotary(tables, *node.ty.dims.get(1)?)?));
    }
    let &[a, b] = &node.inputs[..] else { return None };
    if ir.kind(id)? != &OpKind::Add {
        return None;
    }
    let ((x, cosines), (turned, sines)) = (multiplied(ir, a)?, multiplied(ir, b)?);
    let &[_, positions, features] = &node.ty.dims[..] else { return None };
    if !is_turned(ir, turned, x, features) {
        return None;
    }
    let table = |kind: &Fixed| {
        let plain =
            kind.dims.iter().product::<u64>() == positions * features && kind.dims.ends_with(&[positions, features]);
        plain.then(|| Rc::<[f32]>::from(&kind.numbers[..]))
    };
    let tables = Tables { cosines: table(cosines)?, sines: table(sines)?, features, interleaved: false };
    Some((x, rotary(&tables, positions)?))
}

fn multiplied(ir: &Ir, id: Id) -> Option<(Id, &Fixed)> {
    let kind = fixed(ir.kind(id)?).filter(|kind| kind.function == Arithmetic::Multiply)?;
    Some((ir.node(id).inputs[0], kind))
}

/// Whether `id` is the second half of `x`, negated, before its first half.
fn is_turned(ir: &Ir, id: Id, x: Id, features: u64) -> bool {
    let half = features / 2;
    let part = |id: Id, start: u64, end: u64| {
        ir.kind(id) == Some(&OpKind::Slice(Slice::range(2, start, end))) && ir.node(id).inputs == [x]
    };
    let negated = |id: Id| match ir.kind(id) {
        Some(OpKind::ScaleShift(kind)) if is(kind.scale, -1.0) && kind.shift == 0.0 => Some(ir.node(id).inputs[0]),
        _ => None,
    };
    match (ir.kind(id), &ir.node(id).inputs[..]) {
        (Some(OpKind::Concat(kind)), &[second, first]) if kind.axis == 2 && features.is_multiple_of(2) => {
            negated(second).is_some_and(|second| part(second, half, features)) && part(first, 0, half)
        }
        _ => false,
    }
}

/// The rotation whose tables these are.
fn rotary(tables: &Tables, positions: u64) -> Option<Rotary> {
    let half = (tables.features / 2) as usize;
    let columns = tables.cosines.len() / usize::try_from(positions).ok()?.max(1);
    let doubled = columns == 2 * half;
    if half == 0 || tables.sines.len() != tables.cosines.len() || !(doubled || columns == half) {
        return None;
    }
    let at = |position: usize, pair: usize| {
        let index = position * columns + pair;
        (f64::from(tables.cosines[index]), f64::from(tables.sines[index]))
    };
    let base = base_of(|pair| at(1.min(positions as usize - 1), pair), half, positions);
    let fits = |position: usize, column: usize| {
        let exponent = -2.0 * (column % half) as f64 / tables.features as f64;
        let angle = position as f64 * base.powf(exponent);
        let (cosine, sine) = at(position, column);
        let tolerance = ANGLE_TOLERANCE * (1.0 + position as f64 * 0.1);
        (cosine - angle.cos()).abs() < tolerance && (sine - angle.sin()).abs() < tolerance
    };
    let all = (0..positions as usize).all(|position| (0..columns).all(|column| fits(position, column)));
    let rotary = Rotary { base, dims: tables.features, interleaved: tables.interleaved, scaling: RotaryScaling::None };
    all.then_some(rotary)
}

/// The base of the wavelengths, from the slowest pair at position 1; 10,000 where nothing shows it.
fn base_of(at: impl Fn(usize) -> (f64, f64), half: usize, positions: u64) -> f64 {
    if half < 2 || positions < 2 {
        return 10_000.0;
    }
    let (cosine, sine) = at(half - 1);
    let frequency = sine.atan2(cosine);
    let base = frequency.powf(-(half as f64) / (half - 1) as f64);
    // Bases are round numbers, and f32 holds seven digits.
    format!("{base:.4e}").parse().unwrap_or(base)
}
