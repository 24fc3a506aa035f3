//! Sixteen bits under every kind of plan: operators compute and messages carry them, weights and optimizer stay in f32.
//!
//! Plans are held to one rank in the same precision. Where ranks only share the batch, or the layers, each operator computes what
//! it computes there, and only sums of gradients, in f32, and sums where a cut value has several readers come in another order.
//! Ranks of a tensor axis round their summands before they add them up: an error of 2^-9 in bf16 and 2^-12 in f16 of each value
//! there. By how much losses and what the parameters have moved by may differ says [`bounds`]; a tenth of it was measured.

use cutplane_graph::{Dtype, OpKind};
use cutplane_plan::{Execution, Optimizer, Recompute, Schedule, Synchronisation};
use cutplane_runtime::exec::{RankTensors, Run};
use cutplane_runtime::init::initial_weight;

use crate::executions::synchronised;
use crate::families::sequence;
use crate::generated::{Axis, Case, program_of};
use crate::plans::{SEED, Subject, options};

const STEPS: usize = 3;

/// Losses, parameters by rank, and whether a step was left out for an overflow.
struct Trained {
    losses: Vec<f64>,
    ranks: Vec<RankTensors>,
    skipped: usize,
}

fn train(subject: &Subject, case: &Case, precision: Dtype) -> Trained {
    let program = program_of(subject, case, Optimizer::Sgd, precision).expect("can be cut so often");
    let run = Run::start(subject.model.clone(), program, subject.batches.clone(), &options(Optimizer::Sgd));
    let mut run = run.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    let steps: Vec<_> = (0..STEPS).map(|_| run.step().unwrap_or_else(|error| panic!("{case:?}: {error}"))).collect();
    let losses = steps.iter().map(|step| step.loss).collect();
    let skipped = steps.iter().filter(|step| step.skipped).count();
    Trained { losses, ranks: run.parameters().expect("alive"), skipped }
}

/// Relative difference of a loss, and of what the parameters have moved by in the root mean square.
const fn bounds(precision: Dtype, case: &Case) -> (f64, f64) {
    match (case.tensor, precision) {
        (Axis::None, _) => (1e-6, 1e-6),
        (_, Dtype::F16) => (2e-5, 2e-3),
        _ => (2e-4, 2e-2),
    }
}

/// Norm of the difference of what parameters moved by, over the norm of what they moved by.
fn apart(subject: &Subject, case: &Case, got: &Trained, expected: &Trained) -> f64 {
    let split = case.tensor.split(&subject.model);
    let local = split.map(|split| split.local(&subject.model).expect("an axis"));
    let degree = local.as_ref().map_or(1, |local| local.ranks() as usize);
    let (mut difference, mut movement) = (0.0, 0.0);
    for (index, rank) in got.ranks.iter().enumerate() {
        for (id, tensor) in rank {
            let part = |whole: Vec<f32>| match &local {
                Some(local) => local.slice_param(*id, (index % degree) as u64, &whole),
                None => whole,
            };
            let begun = part(initial_weight(subject.model.param(*id), SEED).to_f32().expect("floats"));
            let there = part(expected.ranks[0][id].to_f32().expect("floats"));
            for ((x, y), z) in tensor.to_f32().expect("floats").iter().zip(&there).zip(&begun) {
                difference += f64::from(x - y).powi(2);
                movement += f64::from(y - z).powi(2);
            }
        }
    }
    (difference / movement).sqrt()
}

fn cases(subject: &Subject) -> Vec<Case> {
    let plain = Case {
        rows: 1,
        replicas: 1,
        micro_batches: 2,
        schedule: Schedule::OneFOneB,
        tensor: Axis::None,
        execution: Execution::default(),
    };
    let is_mixture = subject.model.ops().iter().any(|op| matches!(op.kind, OpKind::ExpertLinear(_)));
    if is_mixture {
        return vec![Case { tensor: Axis::Experts(2), ..plain }];
    }
    let axis = |tensor| Case { tensor, ..plain.clone() };
    let divided = |how| Case { replicas: 2, micro_batches: 1, execution: synchronised(how), ..plain.clone() };
    let again = Execution { recompute: Recompute::Layers, ..Execution::default() };
    vec![
        axis(Axis::Tensor),
        axis(Axis::Sequence),
        axis(Axis::Context),
        divided(Synchronisation::Zero1),
        divided(Synchronisation::Zero2),
        divided(Synchronisation::Zero3),
        divided(Synchronisation::ParameterServer),
        Case { execution: again, ..plain.clone() },
        Case { rows: 2, ..plain.clone() },
        Case { rows: 2, schedule: Schedule::Interleaved, ..plain.clone() },
        Case { rows: 2, schedule: Schedule::ZeroBubble, ..plain },
    ]
}

#[test]
fn sixteen_bits_train_under_every_plan_as_on_one_rank() {
    for name in ["gpt2", "mixtral-8x7b"] {
        let subject = sequence(name, 16, Some(4), 8);
        let alone = Case {
            rows: 1,
            replicas: 1,
            micro_batches: 2,
            schedule: Schedule::FillDrain,
            tensor: Axis::None,
            execution: Execution::default(),
        };
        for precision in [Dtype::Bf16, Dtype::F16] {
            let expected = train(&subject, &alone, precision);
            assert!(expected.skipped < STEPS, "{name} {precision}: every step has overflown");
            for case in cases(&subject) {
                let got = train(&subject, &case, precision);
                let (most, furthest) = bounds(precision, &case);
                let pairs = got.losses.iter().zip(&expected.losses);
                let off = pairs.map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
                let moved = apart(&subject, &case, &got, &expected);
                let what = format!("{name} {precision} {:?} {:?}", case.tensor, case.execution.synchronisation);
                println!("{what}: losses off by {off:.1e}, movement by {moved:.1e}");
                assert_eq!(got.skipped, expected.skipped, "{what}");
                assert!(off <= most, "{what}: losses {:?} for {:?}", got.losses, expected.losses);
                assert!(moved <= furthest, "{what}: {moved} of the movement apart");
            }
        }
    }
}
