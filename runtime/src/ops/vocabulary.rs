//! The cross-entropy over classes that several ranks share (Shoeybi et al. 2019, section 3).

use burn::tensor::Tensor;
use cutplane_graph::{CrossEntropyShare, IGNORED_TARGET};

use super::call::{Call, Inputs, TablePart};
use super::kernel;
use super::linear::indices;
use super::loss::{Loss, LossGradient};
use super::value::{Matrix, Tokens, from_floats};
use crate::error::RuntimeError;
use crate::tensor::numbers;

/// Of every row the logarithm of the sum of the exponentials of this rank's logits, and the target's logit or zero. Both are
/// computed in f32 on the host; their gradients flow through the softmax over the rank's classes, and to the target.
pub(super) fn share(call: &Call<'_>, kind: &CrossEntropyShare, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let (x, targets) = (inputs.matrix()?, inputs.tokens()?);
    let classes = kind.classes as usize;
    let part = call.manner.tables.and_then(|tables| tables.get(&call.op.output).copied());
    let part = part.unwrap_or(TablePart { first: 0, whole: classes });
    call.check_ids(&targets.ids, part.whole, Some(IGNORED_TARGET))?;
    let logits = call.backend.full(x.rows);
    let (rows, device) = (targets.ids.len(), logits.device().inner());
    let mut softmax = numbers(logits.clone().inner());
    let own: Vec<Option<usize>> = targets.ids.iter().map(|id| own_class(*id, part, classes)).collect();
    let (mut sums, mut picked) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for (row, class) in softmax.chunks_exact_mut(classes).zip(&own) {
        picked.push(class.map_or(0.0, |class| row[class]));
        sums.push(kernel::softmax(row));
    }
    let like = |data: Vec<f32>, width: usize| {
        let plain = from_floats(data, [rows, width], &device);
        if logits.is_autodiff() { Tensor::from_inner(plain) } else { plain }
    };
    let flowing = (logits.clone() * like(softmax, classes)).sum_dim(1);
    let places = own.iter().enumerate().map(|(row, class)| (row * classes + class.unwrap_or(0)) as i32).collect();
    let chosen = logits.clone().reshape([rows * classes, 1]).select(0, indices(places, &logits));
    let has = like(own.iter().map(|class| f32::from(u8::from(class.is_some()))).collect(), 1);
    // The numbers themselves come from the loop above: what flows is taken away again.
    let exact = |flowing: Tensor<2>, values: Vec<f32>| {
        let offset = if flowing.is_autodiff() { Tensor::from_inner(flowing.clone().inner()) } else { flowing.clone() };
        flowing - offset + like(values, 1)
    };
    let both = Tensor::cat(vec![exact(flowing, sums), exact(chosen * has, picked)], 1);
    let shape = targets.shape.iter().copied().chain([2]).collect();
    Ok(Matrix { shape, rows: call.backend.low(both) })
}

/// The place of a target among the classes of a rank.
fn own_class(target: i32, part: TablePart, classes: usize) -> Option<usize> {
    usize::try_from(target).ok()?.checked_sub(part.first).filter(|class| *class < classes)
}

/// The loss of all classes: of the ranks' logarithms `l_i` and targets' logits `t_i` the mean of `ln sum e^l_i - sum t_i`,
/// divided by `divisor`; its gradient is `e^(l_i - l)` and `-1`, times `scale`.
pub(super) fn joined(shares: Tensor<2>, targets: &Tokens, divisor: u64, scale: f32) -> LossGradient {
    let dims = shares.dims();
    let plain = shares.clone().inner();
    let device = plain.device();
    let mut gradient = numbers(plain);
    let (weight, mut sum) = (scale / divisor as f32, 0.0f64);
    for (row, target) in gradient.chunks_exact_mut(dims[1]).zip(targets.ids.iter()) {
        if *target == IGNORED_TARGET {
            row.fill(0.0);
            continue;
        }
        let largest = row.chunks_exact(2).map(|pair| pair[0]).fold(f32::NEG_INFINITY, f32::max);
        let all = largest + row.chunks_exact(2).map(|pair| (pair[0] - largest).exp()).sum::<f32>().ln();
        let logit: f32 = row.chunks_exact(2).map(|pair| pair[1]).sum();
        sum += f64::from(all - logit);
        for pair in row.chunks_exact_mut(2) {
            (pair[0], pair[1]) = ((pair[0] - all).exp() * weight, -weight);
        }
    }
    let gradient = from_floats(gradient, dims, &device);
    LossGradient { value: Loss::Host((sum / divisor as f64) as f32), logits: shares, gradient }
}
