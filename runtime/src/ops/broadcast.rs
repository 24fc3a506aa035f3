//! Arithmetic on two values of different extents, as NumPy broadcasts them.

use burn::tensor::Tensor;
use cutplane_graph::Arithmetic;

/// Most runs of axes that broadcast alike; more than any operator of the zoo has.
const RUNS: usize = 6;

/// `function(left, right)` for two tensors of the same dimensions, or of dimensions that broadcast.
pub(super) fn arithmetic<const D: usize>(function: Arithmetic, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    match function {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Maximum => {
            let (left, right) = expand(left, right);
            left.max_pair(right)
        }
        Arithmetic::Minimum => {
            let (left, right) = expand(left, right);
            left.min_pair(right)
        }
        Arithmetic::Power => {
            let (left, right) = expand(left, right);
            left.powf(right)
        }
    }
}

fn expand<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let (a, b) = (left.dims(), right.dims());
    let common: [usize; D] = std::array::from_fn(|axis| a[axis].max(b[axis]));
    (left.expand(common), right.expand(common))
}

/// How the axes of two values meet: extents with equal ones for missing axes, and neighbours that broadcast alike joined.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meeting {
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
}

impl Meeting {
    /// `left` and `right` are whole shapes; the second of each pair tells whether the first axis is the batch's. Extents
    /// after the batch are aligned at the last axis.
    pub(super) fn new(left: (&[usize], bool), right: (&[usize], bool)) -> Self {
        let rank = (left.0.len() - usize::from(left.1)).max(right.0.len() - usize::from(right.1));
        let (left, right) = (aligned(left, rank), aligned(right, rank));
        let mut joined = Self { left: Vec::new(), right: Vec::new() };
        let mut last = None;
        for (a, b) in left.into_iter().zip(right).filter(|pair| *pair != (1, 1)) {
            let manner = (a == 1, b == 1);
            match (joined.left.last_mut(), joined.right.last_mut()) {
                (Some(left), Some(right)) if last == Some(manner) => {
                    *left *= a;
                    *right *= b;
                }
                _ => {
                    joined.left.push(a);
                    joined.right.push(b);
                }
            }
            last = Some(manner);
        }
        joined
    }

    /// Whether no axis broadcasts.
    pub(super) fn is_plain(&self) -> bool {
        self.left == self.right
    }

    /// Whether the axes can be told apart in as many dimensions as there are.
    pub(super) fn fits(&self) -> bool {
        self.left.len() <= RUNS
    }

    /// Runs the function on two matrices of these extents.
    pub(super) fn apply(&self, function: Arithmetic, left: Tensor<2>, right: Tensor<2>) -> Tensor<6> {
        let dims = |runs: &[usize]| -> [usize; RUNS] {
            let missing = RUNS - runs.len();
            std::array::from_fn(|axis| if axis < missing { 1 } else { runs[axis - missing] })
        };
        arithmetic(function, left.reshape(dims(&self.left)), right.reshape(dims(&self.right)))
    }
}

/// The batch axis or a one, ones for missing axes, then the extents.
fn aligned((shape, batched): (&[usize], bool), rank: usize) -> Vec<usize> {
    let (batch, dims) = if batched { (shape[0], &shape[1..]) } else { (1, shape) };
    let missing = std::iter::repeat_n(1, rank - dims.len());
    std::iter::once(batch).chain(missing).chain(dims.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::Meeting;

    #[test]
    fn axes_are_aligned_at_the_end_and_joined_where_they_broadcast_alike() {
        let meeting = Meeting::new((&[2, 3, 4, 5], true), (&[4, 5], false));
        assert_eq!(meeting, Meeting { left: vec![6, 20], right: vec![1, 20] });
        let meeting = Meeting::new((&[2, 3, 1, 5], true), (&[2, 3, 4, 1], true));
        assert_eq!(meeting, Meeting { left: vec![6, 1, 5], right: vec![6, 4, 1] });
        let meeting = Meeting::new((&[7, 3], true), (&[7, 5, 1], true));
        assert_eq!(meeting, Meeting { left: vec![7, 1, 3], right: vec![7, 5, 1] });
        assert!(Meeting::new((&[7, 3], true), (&[7, 3], true)).is_plain());
        assert!(Meeting::new((&[1], false), (&[1], false)).is_plain());
    }
}
