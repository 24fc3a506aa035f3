//! Arithmetic on constants, element by element.

use super::super::constant::{Constant, Numbers, stored};
use super::super::extent::{Extent, broadcast, display};
use super::super::node::NodeView;

type Folded = Result<Constant, String>;

/// Computes a node that treats elements alone.
pub(super) fn compute(node: &NodeView<'_>, inputs: &[&Constant]) -> Option<Folded> {
    let differs = inputs.iter().any(|input| input.differs);
    let folded = match (node.op(), inputs) {
        ("Cast", [x]) => cast(x, node.int("to", 1)),
        ("CastLike", [x, like]) => cast(x, element_of(like)),
        ("Not", [x]) => Ok(Constant::bools(x.dims.clone(), x.as_bools().iter().map(|bit| !bit))),
        ("Where", [condition, yes, no]) => choose(condition, yes, no),
        ("And" | "Or" | "Xor", [a, b]) => logic(node.op(), a, b),
        ("Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual", [a, b]) => compare(node.op(), a, b),
        ("Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "BitwiseAnd", [a, b]) => arithmetic(node.op(), a, b),
        ("Min" | "Max", [first, rest @ ..]) => {
            rest.iter().try_fold((*first).clone(), |sum, next| arithmetic(node.op(), &sum, next))
        }
        (_, [x]) => unary(node.op(), x)?,
        _ => return None,
    };
    Some(folded.map(|constant| constant.differing(differs)))
}

fn element_of(constant: &Constant) -> i64 {
    match constant.numbers {
        Numbers::Ints(_) => 7,
        Numbers::Floats(_) => 1,
        Numbers::Bools(_) => 9,
    }
}

fn cast(x: &Constant, to: i64) -> Folded {
    let dims = x.dims.clone();
    Ok(match to {
        1 | 10 | 11 | 16 => Constant::floats(dims, x.as_floats()?.iter().copied()),
        9 => Constant::bools(dims, x.as_bools().iter().copied()),
        _ => Constant::ints(dims, x.extents()),
    })
}

fn unary(op: &str, x: &Constant) -> Option<Folded> {
    if let (Numbers::Ints(list), "Neg" | "Abs" | "Sign") = (&x.numbers, op) {
        let one = |extent: &Extent| Extent {
            coefficient: match op {
                "Neg" => extent.coefficient.saturating_neg(),
                "Abs" => extent.coefficient.saturating_abs(),
                _ => extent.coefficient.signum(),
            },
            per_sample: extent.per_sample && op != "Sign",
        };
        return Some(Ok(Constant::ints(x.dims.clone(), list.iter().map(one))));
    }
    if op == "IsNaN" {
        return Some(x.as_floats().map(|list| Constant::bools(x.dims.clone(), list.iter().map(|x| x.is_nan()))));
    }
    let function: fn(f32) -> f32 = match op {
        "Neg" => |x| -x,
        "Abs" => f32::abs,
        "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
        "Ceil" => f32::ceil,
        "Floor" => f32::floor,
        "Round" => f32::round_ties_even,
        "Sqrt" => f32::sqrt,
        "Log" => f32::ln,
        "Exp" => f32::exp,
        "Cos" => f32::cos,
        "Sin" => f32::sin,
        "Tanh" => f32::tanh,
        "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "Reciprocal" => f32::recip,
        _ => return None,
    };
    Some(x.as_floats().map(|list| Constant::floats(x.dims.clone(), list.iter().map(|x| function(*x)))))
}

/// The common shape of two constants, and which stored number of each meets in every element.
struct Pairs {
    dims: Vec<Extent>,
    left: Vec<usize>,
    right: Vec<usize>,
}

impl Pairs {
    fn of(a: &[Extent], b: &[Extent]) -> Result<Self, String> {
        let refuse = || format!("{} and {} do not broadcast to one shape", display(a), display(b));
        let dims = broadcast(a, b).ok_or_else(refuse)?;
        let (left, right) = (spread(a, &dims)?, spread(b, &dims)?);
        Ok(Self { dims, left, right })
    }

    fn map<A: Copy, B: Copy, R>(
        &self,
        a: &[A],
        b: &[B],
        mut f: impl FnMut(A, B) -> Result<R, String>,
    ) -> Result<Vec<R>, String> {
        let pairs = self.left.iter().zip(&self.right);
        pairs.map(|(left, right)| f(a[*left], b[*right])).collect()
    }
}

/// For every stored element of shape `to`, the one of shape `from` that is broadcast there.
pub(in super::super) fn spread(from: &[Extent], to: &[Extent]) -> Result<Vec<usize>, String> {
    let (from, to) = (stored(from)?, stored(to)?);
    let missing = to.len() - from.len();
    let mut indices = vec![0usize];
    let mut stride: usize = from.iter().product();
    for (axis, extent) in to.iter().enumerate() {
        let own = axis.checked_sub(missing).map_or(1, |axis| from[axis]);
        stride /= own.max(1);
        let step = if own == 1 { 0 } else { stride };
        indices = indices.iter().flat_map(|base| (0..*extent).map(move |i| base + i * step)).collect();
    }
    Ok(indices)
}

fn choose(condition: &Constant, yes: &Constant, no: &Constant) -> Folded {
    let values = Pairs::of(&yes.dims, &no.dims)?;
    let all = Pairs::of(&condition.dims, &values.dims)?;
    let bits = condition.as_bools();
    let value = |index: usize, bit: bool| if bit { values.left[index] } else { values.right[index] };
    let picks: Vec<(usize, bool)> =
        all.left.iter().zip(&all.right).map(|(bit, index)| (value(*index, bits[*bit]), bits[*bit])).collect();
    if let (Numbers::Ints(_), Numbers::Ints(_)) = (&yes.numbers, &no.numbers) {
        let (yes, no) = (yes.extents(), no.extents());
        return Ok(Constant::ints(all.dims, picks.iter().map(|(at, bit)| if *bit { yes[*at] } else { no[*at] })));
    }
    if let (Numbers::Bools(yes), Numbers::Bools(no)) = (&yes.numbers, &no.numbers) {
        return Ok(Constant::bools(all.dims, picks.iter().map(|(at, bit)| if *bit { yes[*at] } else { no[*at] })));
    }
    let (yes, no) = (yes.as_floats()?, no.as_floats()?);
    Ok(Constant::floats(all.dims, picks.iter().map(|(at, bit)| if *bit { yes[*at] } else { no[*at] })))
}

fn logic(op: &str, a: &Constant, b: &Constant) -> Folded {
    let pairs = Pairs::of(&a.dims, &b.dims)?;
    let bits = pairs.map(&a.as_bools(), &b.as_bools(), |a, b| {
        Ok(match op {
            "And" => a & b,
            "Or" => a | b,
            _ => a ^ b,
        })
    })?;
    Ok(Constant::bools(pairs.dims, bits))
}

/// The batch is at least 1, and never equal to a number.
fn compare(op: &str, a: &Constant, b: &Constant) -> Folded {
    let pairs = Pairs::of(&a.dims, &b.dims)?;
    if let (Numbers::Floats(_), _) | (_, Numbers::Floats(_)) = (&a.numbers, &b.numbers) {
        let bits = pairs.map(&a.as_floats()?, &b.as_floats()?, |a, b| Ok(holds(op, a.partial_cmp(&b))))?;
        return Ok(Constant::bools(pairs.dims, bits));
    }
    let bits = pairs.map(&a.extents(), &b.extents(), |a, b| match (a.number(), b.number()) {
        (Some(a), Some(b)) => Ok(holds(op, Some(a.cmp(&b)))),
        (None, None) => Ok(holds(op, Some(a.coefficient.cmp(&b.coefficient)))),
        _ if op == "Equal" => Ok(false),
        (Some(a), None) if a <= 0 => Ok(holds(op, Some(std::cmp::Ordering::Less))),
        (None, Some(b)) if b <= 0 => Ok(holds(op, Some(std::cmp::Ordering::Greater))),
        _ => Err(format!("whether {a} is below {b} depends on the batch")),
    })?;
    Ok(Constant::bools(pairs.dims, bits))
}

fn holds(op: &str, ordering: Option<std::cmp::Ordering>) -> bool {
    ordering.is_some_and(|ordering| match op {
        "Equal" => ordering.is_eq(),
        "Less" => ordering.is_lt(),
        "LessOrEqual" => ordering.is_le(),
        "Greater" => ordering.is_gt(),
        _ => ordering.is_ge(),
    })
}

fn arithmetic(op: &str, a: &Constant, b: &Constant) -> Folded {
    let pairs = Pairs::of(&a.dims, &b.dims)?;
    if let (Numbers::Floats(_), _) | (_, Numbers::Floats(_)) = (&a.numbers, &b.numbers) {
        let floats = pairs.map(&a.as_floats()?, &b.as_floats()?, |a, b| Ok(on_floats(op, a, b)))?;
        return Ok(Constant::floats(pairs.dims, floats));
    }
    let ints = pairs.map(&a.extents(), &b.extents(), |a, b| {
        on_extents(op, a, b).ok_or_else(|| format!("{a} and {b} cannot be joined by {op}"))
    })?;
    Ok(Constant::ints(pairs.dims, ints))
}

fn on_floats(op: &str, a: f32, b: f32) -> f32 {
    match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Pow" => a.powf(b),
        "Min" => a.min(b),
        "Max" => a.max(b),
        _ => a % b,
    }
}

fn on_extents(op: &str, a: Extent, b: Extent) -> Option<Extent> {
    let both = || Some((a.number()?, b.number()?));
    let larger = |a: Extent, b: Extent| match (a.number(), b.number()) {
        (Some(x), Some(y)) => Some(x >= y),
        (None, None) => Some(a.coefficient >= b.coefficient),
        // The batch is at least 1, and its multiples are taken to be large.
        (Some(x), None) => (x <= 1).then_some(false),
        (None, Some(y)) => (y <= 1).then_some(true),
    };
    match op {
        "Add" => a.plus(b),
        "Sub" => a.minus(b),
        "Mul" => a.times(b),
        "Div" => a.over(b),
        "Max" => larger(a, b).map(|yes| if yes { a } else { b }),
        "Min" => larger(a, b).map(|yes| if yes { b } else { a }),
        "Mod" => both().and_then(|(a, b)| a.checked_rem_euclid(b)).map(Extent::known),
        "BitwiseAnd" => both().map(|(a, b)| Extent::known(a & b)),
        _ => both().and_then(|(a, b)| a.checked_pow(u32::try_from(b).ok()?)).map(Extent::known),
    }
}
