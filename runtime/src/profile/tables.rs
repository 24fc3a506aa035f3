//! The tables beside the operators: boundaries of segments, loading, optimizers, contention.

use std::sync::Barrier;
use std::time::Instant;

use cutplane_graph::{ActivationKind, OpKind, WeightLayout};
use cutplane_plan::Optimizer;
use cutplane_record::{ContentionPoint, OperatorCurve, OperatorPoint, OptimizerPoint, Summary};

use super::cases::{Case, linear_kind};
use super::turn::{Bench, Pool, time_seed};
use crate::backend::{Backend, run_pinned};
use crate::error::RuntimeError;
use crate::ops::Matrix;
use crate::optimizer::OptimizerSettings;
use crate::segment::Slot;
use crate::tensor::HostTensor;

/// Elements of a segment's outputs or of a micro-batch's inputs.
const ELEMENTS: [usize; 7] = [1, 1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22];
/// Elements of a parameter.
const PARAMETERS: [usize; 6] = [1 << 8, 1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22];
/// More than the caches hold, bytes: what an optimizer step walks through has long left them.
const BEYOND_CACHES: usize = 96 << 20;
const ROUNDS: usize = 9;

/// Median and median absolute deviation; zeros for no times.
pub(crate) fn median(times_ns: &[f64]) -> (f64, f64) {
    Summary::of(times_ns).map_or((0.0, 0.0), |summary| (summary.median_ns, summary.mad_ns))
}

/// Both curves over elements. `boundary`: forward, the outputs of a segment go to the host; backward, the
/// vector-Jacobian product is seeded. `load`: forward, the tokens of a micro-batch are copied.
pub(crate) fn boundary_and_load(backend: &Backend, pool: &Pool) -> [OperatorCurve; 2] {
    let mut times = vec![[const { Vec::new() }; 3]; ELEMENTS.len()];
    for _ in 0..ROUNDS {
        for (elements, [forward, backward, load]) in ELEMENTS.iter().zip(&mut times) {
            let matrix = Matrix::from_host(vec![1, *elements], pool.floats(*elements), &backend.autodiff());
            forward.push(time(|| matrix.to_host()));
            backward.push(time_seed([1, *elements], pool, &backend.autodiff()));
            let tokens = vec![1i32; *elements];
            load.push(time(|| HostTensor::i32([*elements], tokens.clone())));
        }
    }
    let point = |elements: usize, forward: &[f64], backward: &[f64]| {
        let ((forward_ns, forward_mad_ns), (backward_ns, backward_mad_ns)) = (median(forward), median(backward));
        OperatorPoint {
            axes: vec![elements as u64],
            work: elements as f64,
            forward_ns,
            forward_mad_ns,
            backward_ns,
            backward_mad_ns,
            kept_bytes: 0.0,
            workspace_bytes: 0.0,
        }
    };
    let rows = || ELEMENTS.iter().zip(&times);
    let boundary = rows().map(|(elements, [forward, backward, _])| point(*elements, forward, backward)).collect();
    let load = rows().map(|(elements, [.., load])| point(*elements, load, &[])).collect();
    [("boundary", boundary), ("load", load)]
        .map(|(operator, points)| OperatorCurve { operator: operator.to_owned(), points })
}

fn time<T>(work: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    let result = work();
    let time = started.elapsed().as_nanos() as f64;
    drop(result);
    time
}

/// Time of an update of one parameter, in a model that the caches do not hold.
pub(crate) fn optimizers(backend: &Backend, pool: &Pool) -> Vec<OptimizerPoint> {
    let mut points = Vec::new();
    for elements in PARAMETERS {
        let copies = (BEYOND_CACHES / (16 * elements)).clamp(1, 256);
        for rule in [Optimizer::AdamW, Optimizer::Sgd] {
            let mut slots: Vec<Slot> =
                (0..copies).map(|_| Slot::new(vec![1, elements], pool.floats(elements), backend)).collect();
            let settings = OptimizerSettings::new(rule, 1e-4);
            let mut times = Vec::new();
            for step in 1..=4 {
                for slot in &mut slots {
                    slot.gradient = Some(pool.floats(elements));
                }
                let started = Instant::now();
                for slot in &mut slots {
                    slot.update(&settings, step, backend);
                }
                times.push(started.elapsed().as_nanos() as f64 / copies as f64);
            }
            // The first step creates the optimizer's state.
            let (step_ns, step_mad_ns) = median(&times[1..]);
            points.push(OptimizerPoint { optimizer: rule, elements: elements as u64, step_ns, step_mad_ns });
        }
    }
    points
}

/// How much slower a rank is when 1 to `ranks` of them do the same work at once.
///
/// # Errors
/// [`RuntimeError::Thread`].
pub(crate) fn contention(backend: &Backend, ranks: usize) -> Result<Vec<ContentionPoint>, RuntimeError> {
    let mut times = vec![[const { Vec::new() }; 2]; ranks];
    for _ in 0..ROUNDS {
        for (index, [compute, memory]) in times.iter_mut().enumerate() {
            for [first, second] in busy(backend, index + 1)? {
                compute.push(first);
                memory.push(second);
            }
        }
    }
    let alone = times[0].clone().map(|times| median(&times).0);
    let point = |(index, both): (usize, &[Vec<f64>; 2])| ContentionPoint {
        busy_ranks: index as u32 + 1,
        compute_factor: (median(&both[0]).0 / alone[0].max(1.0)).max(1.0),
        memory_factor: (median(&both[1]).0 / alone[1].max(1.0)).max(1.0),
    };
    Ok(times.iter().enumerate().map(point).collect())
}

/// Times of compute-bound and of memory-bound work on each of `ranks` cores at once, ns.
fn busy(backend: &Backend, ranks: usize) -> Result<Vec<[f64; 2]>, RuntimeError> {
    let barrier = Barrier::new(ranks);
    let rank = |core: usize| {
        run_pinned(core, || {
            let pool = Pool::new();
            let compute = Case::new(linear_kind(384, 768, WeightLayout::InOut), 8, &[64, 384]);
            let memory = Case::new(OpKind::Activation { function: ActivationKind::Relu }, 1024, &[4, 256]);
            [compute, memory].map(|case| {
                let case = case.expect("both are well formed");
                let mut bench = Bench::new(&case, backend, &pool, None);
                bench.turn(2);
                barrier.wait();
                let samples = (0..4).flat_map(|_| bench.turn(2));
                samples.map(|sample| sample.forward_ns + sample.backward_ns).sum()
            })
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|core| scope.spawn(move || rank(core))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the work of a rank does not panic")).collect()
    })
}
