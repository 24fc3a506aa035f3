//! Losses: where every backward pass starts.

use burn::tensor::Tensor;
use cutplane_graph::{IGNORED_TARGET, OpKind};

use super::call::{Call, Inputs};
use super::value::{Matrix, Tokens, Value, floats, from_floats};
use super::{Output, expressions, kernel, vocabulary};
use crate::backend::{Backend, Residence};
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

/// A loss, and its gradient with respect to where its backward pass starts: the logits, the differences of a mean squared
/// error, or the number itself of a loss that is computed from others. The gradient of a cross-entropy is
/// `(softmax - one_hot) / (batch counted)` on counted rows and zero on the others, computed from one softmax with the loss.
pub(crate) struct LossGradient {
    /// The loss.
    pub(crate) value: Loss,
    /// The logits.
    pub(crate) logits: Tensor<2>,
    /// Gradient of the loss with respect to the logits, a plain tensor.
    pub(crate) gradient: Tensor<2>,
}

/// Runs a loss. One that other operators read, such as an auxiliary loss, becomes a number with a history.
pub(super) fn run(call: &Call<'_>, inputs: Inputs<'_>) -> Result<Output, RuntimeError> {
    let is_last = call.model.value(call.op.output).consumers.is_empty();
    if is_last {
        return of_kind(call, inputs, call.backend, call.manner.loss_scale).map(Output::Loss);
    }
    let loss = of_kind(call, inputs, &call.backend.in_full(), 1.0)?;
    let flowing = (loss.logits * loss.gradient).sum().reshape([1, 1]);
    let value = match loss.value {
        Loss::Host(value) => from_floats(vec![value], [1, 1], &flowing.device().inner()),
        Loss::Device(value) => value.reshape([1, 1]),
    };
    let rows = flowing.clone() - flowing.inner() + value;
    Ok(Output::Value(Value::Float(Matrix { shape: Vec::new(), rows })))
}

/// The loss with its gradient times `scale`, computed as `backend` does.
fn of_kind(
    call: &Call<'_>,
    mut inputs: Inputs<'_>,
    backend: &Backend,
    scale: f32,
) -> Result<LossGradient, RuntimeError> {
    let mut first = inputs.matrix()?;
    // Where the rank computes in 16 bits and the loss in f32.
    if backend.precision() != call.backend.precision() {
        first = first.map(|rows| call.backend.full(rows));
    }
    match &call.op.kind {
        OpKind::CrossEntropy { counted, .. } => {
            let targets = inputs.tokens()?;
            let samples = first.rows.dims()[0] as u64 / call.model.value(call.op.inputs[0]).ty.rows(1);
            let divisor = samples * counted;
            match backend.residence() {
                Residence::Host => cross_entropy(call, first.rows, &targets, divisor),
                Residence::Device => expressions::cross_entropy(call, first.rows, &targets, divisor, scale, backend),
            }
        }
        OpKind::JoinedCrossEntropy(kind) => {
            let targets = inputs.tokens()?;
            let samples = first.rows.dims()[0] as u64 / call.model.value(call.op.inputs[0]).ty.rows(1);
            Ok(vocabulary::joined(first.rows, &targets, samples * kind.counted, scale))
        }
        OpKind::MeanSquaredError(_) => Ok(mean_squared_error(call, first.rows, inputs.matrix()?.rows, scale)),
        _ => Err(call.unknown()),
    }
}

/// Starts the backward pass at a number that is the model's loss without being computed by a loss: a weighted sum.
pub(super) fn finish(call: &Call<'_>, value: Value) -> Output {
    match value {
        Value::Float(matrix) if call.model.loss() == Some(call.op.output) => {
            let plain = call.backend.full(matrix.rows.clone().inner());
            let gradient = plain.ones_like() * call.manner.loss_scale;
            let value = match call.backend.residence() {
                Residence::Host => Loss::Host(numbers(plain)[0]),
                Residence::Device => Loss::Device(plain.reshape([1])),
            };
            Output::Loss(LossGradient { value, logits: call.backend.full(matrix.rows), gradient })
        }
        value => Output::Value(value),
    }
}

/// Mean of the squared differences of all elements, in f32.
fn mean_squared_error(call: &Call<'_>, left: Tensor<2>, right: Tensor<2>, scale: f32) -> LossGradient {
    let full = |x: Tensor<2>| x.cast(burn::tensor::FloatDType::F32);
    let differences = full(left) - full(right);
    let plain = differences.clone().inner();
    let value = plain.clone().square().mean();
    let count = plain.shape().num_elements() as f64;
    let value = match call.backend.residence() {
        Residence::Host => Loss::Host(numbers(value)[0]),
        Residence::Device => Loss::Device(value),
    };
    LossGradient { value, logits: differences, gradient: plain * (2.0 / count) * scale }
}

/// Sum of the cross-entropies of all rows with a target, divided by `divisor`.
fn cross_entropy(
    call: &Call<'_>,
    logits: Tensor<2>,
    targets: &Tokens,
    divisor: u64,
) -> Result<LossGradient, RuntimeError> {
    let [rows, classes] = logits.dims();
    call.check_ids(&targets.ids, classes, Some(IGNORED_TARGET))?;
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
