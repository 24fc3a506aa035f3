//! Activations that were exported as arithmetic, recognised by their values: however an exporter writes GELU, it is the
//! same function.

use cutplane_graph::{ActivationKind, Arithmetic, OpKind};

use super::super::ir::{Id, Ir};

/// Where functions are compared: both sides of zero, and the bends of the bounded ones.
const POINTS: [f64; 12] = [-7.3, -3.4, -2.9, -1.7, -0.9, -0.21, 0.17, 0.6, 1.3, 2.6, 3.7, 6.9];
/// Of functions computed with constants rounded to f32.
const TOLERANCE: f64 = 2e-6;

/// A function of one value, at [`POINTS`].
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) source: Id,
    values: [f64; POINTS.len()],
    /// Operators that it is made of.
    depth: usize,
}

/// Functions that are written in several operators.
const COMPOSED: [ActivationKind; 6] = [
    ActivationKind::Gelu,
    ActivationKind::GeluTanh,
    ActivationKind::Silu,
    ActivationKind::QuickGelu,
    ActivationKind::HardSwish,
    ActivationKind::SquaredRelu,
];

/// Functions that gates of MLPs are made with.
pub(super) const fn gates(function: ActivationKind) -> bool {
    use ActivationKind::{Gelu, GeluTanh, Relu, Sigmoid, Silu};
    matches!(function, Gelu | GeluTanh | Relu | Sigmoid | Silu)
}

impl Curve {
    /// The activation that it is.
    pub(super) fn known(&self) -> Option<ActivationKind> {
        let same = |function: &ActivationKind| {
            POINTS.iter().zip(self.values).all(|(x, y)| {
                apply(*function, *x).is_some_and(|exact| (exact - y).abs() <= TOLERANCE * (1.0 + x.abs()))
            })
        };
        if self.depth < 2 { None } else { COMPOSED.into_iter().find(same) }
    }
}

/// The curve of a node, from those of its inputs.
pub(super) fn curve(ir: &Ir, curves: &[Option<Curve>], id: Id) -> Option<Curve> {
    let node = ir.node(id);
    let of = |input: Id| curves[input].clone().unwrap_or(Curve { source: input, values: POINTS, depth: 0 });
    let made = |source: Id, depth: usize, values: [f64; POINTS.len()]| {
        values.iter().all(|value| value.is_finite()).then_some(Curve { source, values, depth: depth + 1 })
    };
    match (ir.kind(id)?, &node.inputs[..]) {
        (OpKind::ScaleShift(kind), &[x]) => {
            let from = of(x);
            made(from.source, from.depth, from.values.map(|y| y * kind.scale + kind.shift))
        }
        (OpKind::Activation { function }, &[x]) => {
            let from = of(x);
            let values = from.values.map(|y| apply(*function, y).unwrap_or(f64::NAN));
            made(from.source, from.depth, values)
        }
        (OpKind::Add, &[a, b]) => joined(&of(a), &of(b), Arithmetic::Add, a, b),
        (OpKind::Binary(kind), &[a, b]) => joined(&of(a), &of(b), kind.function, a, b),
        _ => None,
    }
}

/// A function of two values that are functions of one.
fn joined(a: &Curve, b: &Curve, function: Arithmetic, left: Id, right: Id) -> Option<Curve> {
    // One side may be the source of the other, although it is itself a function of something before.
    let plain = |id: Id| Curve { source: id, values: POINTS, depth: 0 };
    let (a, b) = if a.source == b.source {
        (a.clone(), b.clone())
    } else if a.source == right {
        (a.clone(), plain(right))
    } else if b.source == left {
        (plain(left), b.clone())
    } else {
        return None;
    };
    let mut values = a.values;
    for (x, y) in values.iter_mut().zip(b.values) {
        *x = match function {
            Arithmetic::Add => *x + y,
            Arithmetic::Subtract => *x - y,
            Arithmetic::Multiply => *x * y,
            Arithmetic::Divide => *x / y,
            Arithmetic::Maximum => x.max(y),
            Arithmetic::Minimum => x.min(y),
            Arithmetic::Power => x.powf(y),
        };
    }
    values.iter().all(|value| value.is_finite()).then_some(Curve {
        source: a.source,
        values,
        depth: a.depth + b.depth + 1,
    })
}

/// An activation at a point; `None` for one that is not computed here.
fn apply(function: ActivationKind, x: f64) -> Option<f64> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    Some(match function {
        ActivationKind::Gelu => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        ActivationKind::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        ActivationKind::Relu => x.max(0.0),
        ActivationKind::Tanh => x.tanh(),
        ActivationKind::Sigmoid => sigmoid(x),
        ActivationKind::Silu => x * sigmoid(x),
        ActivationKind::Relu6 => x.clamp(0.0, 6.0),
        ActivationKind::SquaredRelu => x.max(0.0).powi(2),
        ActivationKind::QuickGelu => x * sigmoid(1.702 * x),
        ActivationKind::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        ActivationKind::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        ActivationKind::Erf => erf(x),
        ActivationKind::Exp => x.exp(),
        ActivationKind::Square => x * x,
        ActivationKind::Absolute => x.abs(),
        _ => return None,
    })
}

/// The error function by its series (Abramowitz and Stegun 1964, 7.1.6), which is exact to 1e-12 where it is not 1.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.5 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() && n < 400.0 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}
