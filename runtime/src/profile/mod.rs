//! Measures this machine: what the simulator predicts from.
//!
//! Every operator is run through the interpreter that also trains, one rank pinned to one core, on inputs that were just
//! computed and weights that the caches may have lost. The backward time of an operator is that of a vector-Jacobian
//! product through it, less one through nothing, so that the times of a segment's operators add up to the segment's time.
//! All points take turns, round after round, so that a disturbance of the machine does not fall on one of them; reported
//! are medians and median absolute deviations.
//!
//! A card is measured through the same interpreter, in f32 and in bf16 where it has it: many passes between two waits for
//! the card, after its kernels have been compiled and chosen. Operators are measured one by one, so what Burn fuses across
//! operators in a step costs less there than here. The workspace of an operator cannot be told from what the pool reserves
//! and is given as none. Links are measured twice: handed over on the card, and staged through the host.

mod batch;
mod beside;
mod cases;
mod families;
mod tables;
mod turn;

use std::collections::BTreeMap;
use std::time::Instant;

use cutplane_graph::Dtype;
use cutplane_record::{
    DeviceProfile, OperatorCurve, OperatorPoint, PROFILE_FORMAT, PROFILE_VERSION, Provenance, StagedLinks,
};

use crate::backend::{Backend, Residence, run_rank};
use crate::error::RuntimeError;
pub use crate::exec::measure_process_links;
use crate::exec::{Transfers, measure_links};
use crate::memory::RankMemory;
use cases::Case;
use turn::{Bench, Pool, Sample};

/// What to measure, and for how long.
pub struct ProfileOptions<'a> {
    /// Name of the device model that the profile is for.
    pub device_model: &'a str,
    /// Ranks that will run at once: how far contention and links are measured.
    pub ranks: usize,
    /// The core on which operators are measured, among those of this process.
    pub core: usize,
    /// Time for the operators, seconds; every point is measured three times even if that takes longer. On a card each
    /// precision has this time, and before it at most twice as much for compiling and choosing kernels.
    pub seconds: f64,
    /// Told the share that is done, from 0 to 1, and what is measured now.
    pub progress: &'a mut (dyn FnMut(f32, &str) + Send),
}

/// Rounds that every point takes part in, whatever the time; the points of GPT and BERT fill what is left of it.
const LEAST_ROUNDS: usize = 3;
/// Compiling and choosing kernels ends after so many times the time for the operators, and is so much of the progress.
const WARM_UP_FACTOR: f64 = 2.0;
const WARM_UP_SHARE: f32 = 0.6;

/// Time for one precision, seconds.
#[derive(Clone, Copy, Debug)]
struct Seconds {
    /// For measuring; [`LEAST_ROUNDS`] rounds in any case.
    rounds: f64,
    /// For compiling and choosing kernels.
    warm_up: f64,
}

/// Micro-batches in flight in a turn.
const IN_FLIGHT: usize = 3;
/// Share of the progress bar that the operators take, alone and beside busy neighbours.
const OPERATORS_SHARE: f32 = 0.5;
const BESIDE_SHARE: f32 = 0.3;

/// Measures operators, boundaries, optimizers, contention and links.
///
/// # Errors
/// [`RuntimeError`] when a rank cannot be started, a link fails or the device does.
pub fn measure(backend: &Backend, options: ProfileOptions<'_>) -> Result<DeviceProfile, RuntimeError> {
    let ProfileOptions { device_model, ranks, core, seconds, progress } = options;
    let started = Instant::now();
    let time = Seconds { rounds: seconds, warm_up: WARM_UP_FACTOR * seconds };
    let cases = cases::all(cases::Grids::of(backend.residence())).expect("the cases are well formed");
    let pool = Pool::new();
    let mut notes = Vec::new();
    let (mut operators, optimizers) = run_rank(core, backend, || -> Result<_, RuntimeError> {
        let mut operators = operators(&cases, backend, &pool, time, progress, &mut notes)?;
        progress(OPERATORS_SHARE, "segment boundaries");
        operators.extend(tables::boundary_and_load(backend, &pool)?);
        progress(OPERATORS_SHARE, "optimizers");
        Ok((operators, tables::optimizers(backend, &pool)?))
    })??;
    if backend.residence() == Residence::Host && ranks > 1 {
        let mut on_cases = |done| progress(OPERATORS_SHARE + BESIDE_SHARE * done, "operators beside busy neighbours");
        let factors = beside::factors(&cases, backend, ranks, &mut on_cases)?;
        join(&mut operators, &cases, &factors);
    }
    operators.sort_by(|a, b| (&a.operator, a.precision).cmp(&(&b.operator, b.precision)));
    let share = OPERATORS_SHARE + BESIDE_SHARE;
    progress(share, "contention");
    let contention = tables::contention(backend, ranks.max(1))?;
    let mut on_links = |done: f64| progress(share + (1.0 - share) * done as f32, "links between ranks");
    let (messages, all_reduce) = measure_links(backend, ranks, Transfers::OnDevice, &mut on_links)?;
    let staged = staged_links(backend, ranks, &mut on_links)?;
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
        staged,
        processes: Vec::new(),
        notes,
    })
}

/// Measures all cases in all precisions.
fn operators(
    cases: &[Case],
    backend: &Backend,
    pool: &Pool,
    time: Seconds,
    progress: &mut Progress<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<OperatorCurve>, RuntimeError> {
    let backends = precisions(backend);
    let mut operators = Vec::new();
    for (done, backend) in backends.iter().enumerate() {
        let share = |part: f32| OPERATORS_SHARE * (done as f32 + part) / backends.len() as f32;
        let mut progress = |part: f32, what: &str| progress(share(part), what);
        operators.extend(curves(cases, backend, pool, time, &mut progress, notes)?);
    }
    Ok(operators)
}

/// What the operators are measured in: f32, and on a card bf16 where it has it.
fn precisions(backend: &Backend) -> Vec<Backend> {
    let low = (backend.residence() == Residence::Device).then(|| backend.in_precision(Dtype::Bf16).ok()).flatten();
    std::iter::once(backend.clone()).chain(low).collect()
}

/// Links through the host, where they need not go through it.
fn staged_links(
    backend: &Backend,
    ranks: usize,
    progress: &mut dyn FnMut(f64),
) -> Result<Option<StagedLinks>, RuntimeError> {
    if ranks < 2 || !backend.shares_device(backend) {
        return Ok(None);
    }
    let (messages, all_reduce) = measure_links(backend, ranks, Transfers::Staged, progress)?;
    Ok(Some(StagedLinks { messages, all_reduce }))
}

/// Told the share that is done and what is measured now.
type Progress<'a> = dyn FnMut(f32, &str) + Send + 'a;

/// Lets a device compile and choose the kernels of all cases; the number of cases for which there was time.
fn warm_up(
    cases: &[Case],
    backend: &Backend,
    pool: &Pool,
    time: Seconds,
    progress: &mut Progress<'_>,
) -> Result<usize, RuntimeError> {
    let started = Instant::now();
    for (index, case) in cases.iter().enumerate() {
        if backend.residence() == Residence::Device {
            if started.elapsed().as_secs_f64() > time.warm_up {
                return Ok(index);
            }
            progress(WARM_UP_SHARE * index as f32 / cases.len() as f32, case.key.operator);
            Bench::new(case, backend, pool, None).warm_up()?;
        }
    }
    Ok(cases.len())
}

/// Measures all cases, in rounds.
fn curves(
    cases: &[Case],
    backend: &Backend,
    pool: &Pool,
    time: Seconds,
    progress: &mut Progress<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<OperatorCurve>, RuntimeError> {
    let known = warm_up(cases, backend, pool, time, progress)?;
    if known < cases.len() {
        let (missing, precision) = (cases.len() - known, backend.precision());
        notes.push(format!("{missing} of {} points were left out in {precision}: out of time", cases.len()));
    }
    let cases = &cases[..known];
    let before = if backend.residence() == Residence::Device { WARM_UP_SHARE } else { 0.0 };
    let memory = RankMemory::enter();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    let started = Instant::now();
    for round in 0.. {
        let (spent, rounds) = (started.elapsed().as_secs_f64(), f64::from(round));
        // Another round is begun only if it will end in time.
        if round as usize >= LEAST_ROUNDS && spent * (rounds + 1.0) / rounds > time.rounds {
            break;
        }
        let takes_part = |case: &Case| case.every_round || (round as usize) < LEAST_ROUNDS;
        for (index, (case, samples)) in
            cases.iter().zip(&mut samples).enumerate().filter(|(_, (case, _))| takes_part(case))
        {
            if index % 16 == 0 {
                let of_rounds = (rounds + index as f64 / cases.len() as f64) / LEAST_ROUNDS as f64;
                let of_time = started.elapsed().as_secs_f64() / time.rounds;
                let done = of_rounds.min(of_time).min(1.0) as f32;
                progress(before + (1.0 - before) * done, case.key.operator);
            }
            samples.extend(Bench::new(case, backend, pool, memory).samples(IN_FLIGHT)?);
        }
    }
    let mut curves: BTreeMap<&str, Vec<OperatorPoint>> = BTreeMap::new();
    for (case, samples) in cases.iter().zip(&samples) {
        curves.entry(case.key.operator).or_default().push(point(case, samples));
    }
    let precision = backend.precision();
    let curve = |(operator, points): (&str, _)| OperatorCurve { operator: operator.to_owned(), precision, points };
    Ok(curves.into_iter().map(curve).collect())
}

/// Gives every point the factor of its case.
fn join(curves: &mut [OperatorCurve], cases: &[Case], factors: &[f64]) {
    for (case, factor) in cases.iter().zip(factors) {
        let points = curves.iter_mut().filter(|curve| curve.operator == case.key.operator);
        for point in points.flat_map(|curve| &mut curve.points).filter(|point| point.axes == case.key.axes) {
            point.beside_factor = Some(*factor);
        }
    }
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
        beside_factor: None,
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{ModelGraph, ModelSource, Overrides};

    use super::*;
    use crate::backend::run_pinned;

    fn model(name: &str, layers: u64, sequence_length: u64) -> ModelGraph {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let source = ModelSource::BuiltIn { name: name.to_owned(), overrides, sequence_length };
        cutplane_zoo::build(&source).expect("a built-in model")
    }

    fn tiny(warm_up: f64) -> (Vec<OperatorCurve>, Vec<String>) {
        let (mut notes, cases) = (Vec::new(), cases::all(&cases::TINY).expect("well formed"));
        let twin = Backend::cpu_as_card();
        let time = Seconds { rounds: 0.0, warm_up };
        let curves = operators(&cases, &twin, &Pool::new(), time, &mut |_, _| (), &mut notes).expect("measures");
        (curves, notes)
    }

    #[test]
    fn a_card_has_every_curve_in_both_precisions() {
        let (curves, notes) = tiny(f64::INFINITY);
        let full = cases::all(&cases::TINY).expect("well formed").len();
        for precision in [Dtype::F32, Dtype::Bf16] {
            let curves: Vec<_> = curves.iter().filter(|curve| curve.precision == precision).collect();
            let points: Vec<_> = curves.iter().flat_map(|curve| &curve.points).collect();
            assert_eq!((curves.len(), points.len()), (65, full), "{precision}: {notes:?}");
            assert!(points.iter().any(|point| point.forward_ns > 0.0 && point.backward_ns > 0.0), "{points:?}");
        }
    }

    #[test]
    fn points_without_time_are_left_out_with_a_word() {
        let (curves, notes) = tiny(0.0);
        assert!(curves.is_empty(), "{curves:?}");
        assert!(notes[0].contains("left out in f32") && notes[1].contains("left out in bf16"), "{notes:?}");
    }

    #[test]
    fn bytes_are_those_of_the_buffers() {
        crate::allocator::keep_freed_memory();
        let kept_and_workspace = |name: &str| {
            let sample = run_pinned(0, || {
                let (memory, pool, model) = (RankMemory::enter(), Pool::new(), model("gpt-mini", 1, 128));
                let op = model.ops().iter().find(|op| op.name.ends_with(name)).expect("an operator of GPT");
                let case = Case::new(op.kind.clone(), 4, &model.value(op.inputs[0]).ty.dims).expect("as in the model");
                let samples = Bench::new(&case, &Backend::cpu(), &pool, memory).turn(2).expect("no device");
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
