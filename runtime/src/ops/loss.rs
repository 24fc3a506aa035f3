//! Cross-entropy: where every backward pass starts.

use burn::tensor::Tensor;
use cutplane_graph::{IGNORED_TARGET, Op};

use super::value::{Tokens, floats, from_floats};
use super::{check_ids, kernel};
use crate::error::RuntimeError;
use crate::tensor::numbers;

/// The value of a loss. There is one a micro-batch: the larger variant is not boxed.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant)]
pub(crate) enum Loss {
    /// On the host.
    Host(f32),
    /// Still on the device, perhaps not yet computed.
    Device(Tensor<1>),
}

impl Loss {
    /// The number; waits for the device that computes it.
    pub(crate) fn number(&self) -> f32 {
        match self {
            Self::Host(value) => *value,
            Self::Device(value) => numbers(value.clone())[0],
        }
    }
}

/// A loss, and its gradient with respect to the logits: `(softmax - one_hot) / (batch counted)` on counted rows, zero on
/// the others. It is computed with the loss, from one softmax, so the backward pass starts at the logits.
pub(crate) struct LossGradient {
    /// The loss.
    pub(crate) value: Loss,
    /// The logits.
    pub(crate) logits: Tensor<2>,
    /// Gradient of the loss with respect to the logits, a plain tensor.
    pub(crate) gradient: Tensor<2>,
}

/// Sum of the cross-entropies of all rows with a target, divided by `divisor`.
pub(crate) fn cross_entropy(
    op: &Op,
    logits: Tensor<2>,
    targets: &Tokens,
    divisor: u64,
) -> Result<LossGradient, RuntimeError> {
    let [rows, classes] = logits.dims();
    check_ids(op, &targets.ids, classes, Some(IGNORED_TARGET))?;
    let weight = 1.0 / divisor as f32;
    let plain = logits.clone().inner();
    let device = plain.device();
    let mut gradient = floats(plain);
    let mut sum = 0.0f64;
    for (row, target) in gradient.chunks_exact_mut(classes).zip(targets.ids.iter()) {
        if *target == IGNORED_TARGET {
            row.fill(0.0);
            continue;
        }
        let logit = row[*target as usize];
        sum += f64::from(kernel::softmax(row) - logit);
        row[*target as usize] -= 1.0;
        for x in row.iter_mut() {
            *x *= weight;
        }
    }
    let gradient = from_floats(gradient, [rows, classes], &device);
    Ok(LossGradient { value: Loss::Host((sum / divisor as f64) as f32), logits, gradient })
}
