//! The tables beside the operators: boundaries of segments, loading, optimizers, contention.

use std::sync::Barrier;

use cutplane_graph::{ActivationKind, Dtype, OpKind, WeightLayout};
use cutplane_plan::Optimizer;
use cutplane_record::{ContentionPoint, OperatorCurve, OperatorPoint, OptimizerPoint, Summary};

use super::batch::timed;
use super::cases::{Case, linear_kind};
use super::turn::{Bench, Pool, time_seed};
use crate::backend::{Backend, run_rank};
use crate::error::RuntimeError;
use crate::ops::Value;
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
///
/// # Errors
/// [`RuntimeError::Device`].
pub(crate) fn boundary_and_load(backend: &Backend, pool: &Pool) -> Result<[OperatorCurve; 2], RuntimeError> {
    let mut times = vec![[const { Vec::new() }; 3]; ELEMENTS.len()];
    for _ in 0..ROUNDS {
        for (elements, [forward, backward, load]) in ELEMENTS.iter().zip(&mut times) {
            let floats = HostTensor::f32([1, *elements], pool.floats(*elements));
            if let Value::Float(matrix) = Value::enter(floats, backend).recorded(false) {
                forward.push(timed(backend, || matrix.leave(backend))?.1);
            }
            backward.push(time_seed([1, *elements], pool, backend)?);
            let tokens = vec![1i32; *elements];
            load.push(timed(backend, || HostTensor::i32([*elements], tokens.clone()))?.1);
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
            beside_factor: None,
        }
    };
    let rows = || ELEMENTS.iter().zip(&times);
    let boundary = rows().map(|(elements, [forward, backward, _])| point(*elements, forward, backward)).collect();
    let load = rows().map(|(elements, [.., load])| point(*elements, load, &[])).collect();
    let curve =
        |(operator, points): (&str, _)| OperatorCurve { operator: operator.to_owned(), precision: Dtype::F32, points };
    Ok([("boundary", boundary), ("load", load)].map(curve))
}

/// Time of an update of one parameter, in a model that the caches do not hold.
///
/// # Errors
/// [`RuntimeError::Device`].
pub(crate) fn optimizers(backend: &Backend, pool: &Pool) -> Result<Vec<OptimizerPoint>, RuntimeError> {
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
                    slot.set_gradient(&pool.floats(elements), backend);
                }
                let update = || slots.iter_mut().for_each(|slot| slot.update(&settings, step, None, backend));
                times.push(timed(backend, update)?.1 / copies as f64);
            }
            // The first step creates the optimizer's state.
            let (step_ns, step_mad_ns) = median(&times[1..]);
            points.push(OptimizerPoint { optimizer: rule, elements: elements as u64, step_ns, step_mad_ns });
        }
    }
    Ok(points)
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
        run_rank(core, backend, || {
            let pool = Pool::new();
            let compute = Case::new(linear_kind(384, 768, WeightLayout::InOut), 8, &[64, 384]);
            let memory = Case::new(OpKind::Activation { function: ActivationKind::Relu }, 1024, &[4, 256]);
            let times: [Result<f64, RuntimeError>; 2] = [compute, memory].map(|case| {
                let case = case.expect("both are well formed");
                let mut bench = Bench::new(&case, backend, &pool, None);
                let ready = bench.warm_up().and_then(|()| bench.samples(2));
                barrier.wait();
                ready?;
                let mut total = 0.0;
                for _ in 0..4 {
                    total += bench.samples(2)?.iter().map(|sample| sample.forward_ns + sample.backward_ns).sum::<f64>();
                }
                Ok(total)
            });
            let [compute, memory] = times;
            Ok([compute?, memory?])
        })?
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|core| scope.spawn(move || rank(core))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the work of a rank does not panic")).collect()
    })
}
