//! Measures this machine: what the simulator predicts from.
//!
//! Every operator is run through the interpreter that also trains, one rank pinned to one core, on inputs that were just
//! computed and weights that the caches may have lost. The backward time of an operator is that of a vector-Jacobian
//! product through it, less one through nothing, so that the times of a segment's operators add up to the segment's time.
//! All points take turns, round after round, so that a disturbance of the machine does not fall on one of them; reported
//! are medians and median absolute deviations.

mod cases;
mod tables;
mod turn;

use std::time::Instant;

use cutplane_record::{DeviceProfile, OperatorCurve, OperatorPoint, PROFILE_FORMAT, PROFILE_VERSION, Provenance};

use crate::backend::{Backend, run_pinned};
use crate::error::RuntimeError;
use crate::exec::measure_links;
use crate::memory::RankMemory;
use cases::Case;
use turn::{Bench, Pool, Sample};

/// What to measure, and for how long.
pub struct ProfileOptions<'a> {
    /// Name of the device model that the profile is for.
    pub device_model: &'a str,
    /// Ranks that will run at once: how far contention and links are measured.
    pub ranks: usize,
    /// Time for the operators, seconds; every point is measured three times even if that takes longer.
    pub seconds: f64,
    /// Told the share that is done, from 0 to 1, and what is measured now.
    pub progress: &'a mut (dyn FnMut(f32, &str) + Send),
}

/// Rounds that every point takes part in, whatever the time.
const LEAST_ROUNDS: usize = 3;
/// Micro-batches in flight in a turn.
const IN_FLIGHT: usize = 3;
/// Share of the progress bar that the operators take.
const OPERATORS_SHARE: f32 = 0.7;

/// Measures operators, boundaries, optimizers, contention and links.
///
/// # Errors
/// [`RuntimeError`] when a rank cannot be started or a link fails.
pub fn measure(backend: &Backend, options: ProfileOptions<'_>) -> Result<DeviceProfile, RuntimeError> {
    let ProfileOptions { device_model, ranks, seconds, progress } = options;
    let started = Instant::now();
    let cases = cases::all().expect("the cases are well formed");
    let pool = Pool::new();
    let (mut operators, optimizers) = run_pinned(0, || {
        let mut operators = curves(&cases, backend, &pool, seconds, progress);
        progress(OPERATORS_SHARE, "segment boundaries");
        operators.extend(tables::boundary_and_load(backend, &pool));
        progress(OPERATORS_SHARE + 0.05, "optimizers");
        (operators, tables::optimizers(backend, &pool))
    })?;
    operators.sort_by(|a, b| a.operator.cmp(&b.operator));
    progress(OPERATORS_SHARE + 0.1, "contention");
    let contention = tables::contention(backend, ranks.max(1))?;
    let share = OPERATORS_SHARE + 0.15;
    let (messages, all_reduce) =
        measure_links(ranks, &mut |done| progress(share + (1.0 - share) * done as f32, "links between ranks"))?;
    progress(1.0, "done");
    Ok(DeviceProfile {
        format: PROFILE_FORMAT.to_owned(),
        version: PROFILE_VERSION,
        device_model: device_model.to_owned(),
        backend: backend.name().to_owned(),
        provenance: Provenance::capture(),
        measured_in_s: started.elapsed().as_secs_f64(),
        operators,
        optimizers,
        contention,
        messages,
        all_reduce,
    })
}

/// Measures all cases, in rounds.
fn curves(
    cases: &[Case],
    backend: &Backend,
    pool: &Pool,
    seconds: f64,
    progress: &mut (dyn FnMut(f32, &str) + Send),
) -> Vec<OperatorCurve> {
    let memory = RankMemory::enter();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    let started = Instant::now();
    for round in 0.. {
        let (spent, rounds) = (started.elapsed().as_secs_f64(), f64::from(round));
        // Another round is begun only if it will end in time.
        if round as usize >= LEAST_ROUNDS && spent * (rounds + 1.0) / rounds > seconds {
            break;
        }
        for (index, (case, samples)) in cases.iter().zip(&mut samples).enumerate() {
            if index % 16 == 0 {
                let of_rounds = (rounds + index as f64 / cases.len() as f64) / LEAST_ROUNDS as f64;
                let of_time = started.elapsed().as_secs_f64() / seconds;
                progress(of_rounds.min(of_time).min(1.0) as f32 * OPERATORS_SHARE, case.key.operator);
            }
            samples.extend(Bench::new(case, backend, pool, memory).turn(IN_FLIGHT));
        }
    }
    let mut curves: Vec<OperatorCurve> = Vec::new();
    for (case, samples) in cases.iter().zip(&samples) {
        let point = point(case, samples);
        match curves.iter_mut().find(|curve| curve.operator == case.key.operator) {
            Some(curve) => curve.points.push(point),
            None => curves.push(OperatorCurve { operator: case.key.operator.to_owned(), points: vec![point] }),
        }
    }
    curves
}

fn point(case: &Case, samples: &[Sample]) -> OperatorPoint {
    let times = |of: fn(&Sample) -> f64| tables::median(&samples.iter().map(of).collect::<Vec<_>>());
    let (forward_ns, forward_mad_ns) = times(|sample| sample.forward_ns);
    let (backward_ns, backward_mad_ns) = times(|sample| sample.backward_ns);
    OperatorPoint {
        axes: case.key.axes.clone(),
        work: case.key.work,
        forward_ns,
        forward_mad_ns,
        backward_ns: backward_ns.max(0.0),
        backward_mad_ns,
        kept_bytes: times(|sample| sample.kept as f64).0.max(0.0),
        workspace_bytes: times(|sample| sample.workspace as f64).0.max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{ModelGraph, ModelSource, Overrides};

    use super::*;

    fn model(name: &str, layers: u64, sequence_length: u64) -> ModelGraph {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let source = ModelSource::BuiltIn { name: name.to_owned(), overrides, sequence_length };
        cutplane_zoo::build(&source).expect("a built-in model")
    }

    #[test]
    fn bytes_are_those_of_the_buffers() {
        crate::allocator::keep_freed_memory();
        let kept_and_workspace = |name: &str| {
            let sample = run_pinned(0, || {
                let (memory, pool, model) = (RankMemory::enter(), Pool::new(), model("gpt-mini", 1, 128));
                let op = model.ops().iter().find(|op| op.name.ends_with(name)).expect("an operator of GPT");
                let case = Case::new(op.kind.clone(), 4, &model.value(op.inputs[0]).ty.dims).expect("as in the model");
                let samples = Bench::new(&case, &Backend::cpu(), &pool, memory).turn(2);
                samples.into_iter().min_by_key(|sample| sample.kept).expect("two")
            });
            let sample = sample.expect("starts");
            (sample.kept, sample.workspace)
        };
        // 4 samples of 128 tokens, width 384, 6 heads, f32.
        let (value, scores) = (4 * 128 * 384 * 4, 4 * 6 * 128 * 128 * 4);
        let about = |bytes: i64, want: i64| (bytes - want).abs() < value / 20;
        let (linear, _) = kept_and_workspace("c_fc");
        assert!(about(linear, 0), "a linear layer keeps its input only, not {linear} bytes more");
        let (norm, _) = kept_and_workspace("ln_1");
        assert!(about(norm, value), "layer norm keeps {norm} bytes");
        // The exponentials, their slopes, and the scaled query.
        let (attention, workspace) = kept_and_workspace(".attn");
        assert!(about(attention, 2 * scores + value), "attention keeps {attention} bytes");
        assert!(workspace > scores, "the gradient of the scores is {scores} bytes, the workspace {workspace}");
    }
}
