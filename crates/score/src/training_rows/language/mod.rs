//! Rows of language models: the row as a model, a layout and a stack, priced by the closed form of a step.

mod flops;
mod layout;
mod model;
mod stack;

pub(super) use layout::layout;
pub(super) use stack::reduces_narrow_gradients;

use cutplane_sim::estimate::{EstimateError, Estimator, FoldedModel, Layout, StepEstimate};
use cutplane_sim::kernel::{GpuModel, Standing};

use crate::metric::{Metric, Quantity, StepFacts, StepPart};
use crate::parse::{self, SoftwareFamily};
use crate::prediction::{Origin, RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::Row;

/// How much wider an interval is on a device that nobody measured.
const UNMEASURED: f64 = 1.3;

/// Time of a fine-tuning step over what its kernels take: such runs last minutes, and their throughput counts warming up, data
/// and evaluation.
const FINE_TUNING: f64 = 1.25;

/// How much longer the steps of a row take than their kernels. TensorFlow's benchmarks of fine-tuning compile their 16-bit runs
/// (`--use_xla`), whose throughput leaves the first steps out, and not those in 32 bits.
fn slowdown(row: &Row, layout: &Layout) -> f64 {
    let tensorflow =
        matches!(parse::software(&row.framework).family, SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2);
    if !model::is_fine_tuning(row) || (tensorflow && layout.precision.is_mixed()) { 1.0 } else { FINE_TUNING }
}

/// Predicts the row's metric.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn predict(row: &Row, metric: &Metric, profile: &Profile) -> Result<RowPrediction, Skip> {
    let device = parse::device(&row.hardware)?;
    let model = model::model(row)?;
    let planned = layout::layout(row, device)?;
    let fabric = parse::fabric(row, device)?;
    let gpu = profile.gpu(device);
    let stack = stack::stack(row, device, profile);
    let estimator = Estimator::new(&model.folded, &gpu, &fabric.fabric, &stack.stack);
    let mut prediction = if let Quantity::Step { part, one_layer: true } = metric.quantity {
        one_layer(metric, &estimator, &planned.layout, part)?
    } else {
        let slowed = slowdown(row, &planned.layout);
        let mut step = estimator.estimate(&planned.layout).map_err(|error| refused(&error))?;
        step.predicted = step.predicted * slowed;
        let mut prediction = of_step(metric, &step, &facts(row, &model.folded, &planned.layout, &gpu))?;
        prediction.note("where the step goes", parts(&step), stack.origin.clone());
        prediction.note("time of the step over its kernels", slowed, Origin::Assumed);
        prediction
    };
    widen(&mut prediction, &gpu);
    prediction.note("device", gpu.name(), Origin::Datasheet);
    prediction.note("standing of its kernel parameters", format!("{:?}", gpu.standing()), Origin::Datasheet);
    prediction.note("software stack", &stack.stack.name, stack.origin);
    prediction.trace.extend(model.trace.into_iter().chain(planned.trace).chain(fabric.trace));
    Ok(prediction)
}

fn refused(error: &EstimateError) -> Skip {
    Skip::new("refused-layout", error.to_string())
}

fn of_step(metric: &Metric, step: &StepEstimate, facts: &StepFacts) -> Result<RowPrediction, Skip> {
    let time = step.predicted;
    let mut prediction = metric.step_prediction([time.low, time.seconds, time.high], facts)?;
    prediction.extrapolates = time.extrapolates;
    Ok(prediction)
}

/// One repeated layer and one micro-batch.
fn one_layer(
    metric: &Metric,
    estimator: &Estimator<'_>,
    layout: &Layout,
    part: StepPart,
) -> Result<RowPrediction, Skip> {
    let (forward, backward) = estimator.layer(layout).map_err(|error| refused(&error))?;
    let seconds = match part {
        StepPart::Forward | StepPart::Evaluation => forward,
        StepPart::Backward => backward,
        StepPart::ForwardBackward | StepPart::Whole => forward + backward,
    };
    Ok(RowPrediction::new(metric.in_unit(seconds.seconds), metric.in_unit(seconds.low), metric.in_unit(seconds.high)))
}

/// Share of the pairs of a causal attention that NeMo's count of operations holds.
const CAUSAL_HALF: f64 = 0.5;

fn facts(row: &Row, model: &FoldedModel, layout: &Layout, gpu: &GpuModel) -> StepFacts {
    let nemo = parse::software(&row.framework).family == SoftwareFamily::MegatronCore
        && row.framework.to_ascii_lowercase().contains("nemo");
    let (model_flops, executed_flops) = flops::of_step(model, layout, if nemo { CAUSAL_HALF } else { 1.0 });
    StepFacts {
        samples: layout.global_batch as f64,
        tokens_per_sample: Some(model.sequence_length as f64),
        devices: layout.devices() as f64,
        model_flops: Some(model_flops),
        executed_flops: Some(executed_flops),
        peak_flops: Some(gpu.peak(layout::arithmetic(layout.precision))),
    }
}

/// A device without measured parameters has a wider interval.
fn widen(prediction: &mut RowPrediction, gpu: &GpuModel) {
    if gpu.standing() == Standing::Measured {
        return;
    }
    prediction.extrapolates = true;
    prediction.low = prediction.low.map(|low| low / UNMEASURED);
    prediction.high = prediction.high.map(|high| high * UNMEASURED);
}

/// `forward 12.10 ms, backward 24.31 ms, ..`: the parts that take a thousandth of the step and more.
fn parts(step: &StepEstimate) -> String {
    let (breakdown, work) = (&step.breakdown, &step.work);
    let parts = [
        ("forward", breakdown.forward),
        ("backward", breakdown.backward),
        ("recompute", breakdown.recompute),
        ("tensor parallel", breakdown.tensor_parallel),
        ("context parallel", breakdown.context_parallel),
        ("expert parallel", breakdown.expert_parallel),
        ("messages", breakdown.pipeline_messages),
        ("bubble", breakdown.bubble),
        ("shards", breakdown.sharding),
        ("gradients", breakdown.gradient_sync),
        ("optimizer", breakdown.optimizer),
        ("host", breakdown.host),
        ("overhead", breakdown.overhead),
        ("of which products", work.products),
        ("attention", work.attention),
        ("traffic", work.memory),
    ];
    let shown = parts.iter().filter(|(_, seconds)| seconds.abs() > 1e-3 * step.predicted.seconds);
    shown.map(|(name, seconds)| format!("{name} {:.2} ms", seconds * 1e3)).collect::<Vec<_>>().join(", ")
}
