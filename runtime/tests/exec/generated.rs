//! Plans made up from all axes, over a small twin of each kind of model: each trains as one rank does.
//!
//! The one rank takes the same micro-batches, since batch normalisation and expert capacity depend on them. What differs is
//! the order of sums. Losses of five steps may differ by 1e-5 relative; parameters after them by a tenth of the learning
//! rate under AdamW, which makes up to a whole learning rate of a gradient that is nearly zero, and by 1e-5 of the largest
//! one under plain gradient descent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_graph::{Dtype, ModelGraph};
use cutplane_plan::{Execution, Optimizer, Program, Recompute, Schedule, Synchronisation, lower, verify};
use cutplane_runtime::exec::{RankTensors, Run};
use cutplane_units::Bytes;

use crate::families::{image, sequence};
use crate::plans::{GLOBAL_BATCH, Subject, cut, options, plan_at, settings};

const STEPS: usize = 5;

/// One plan of the set.
#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    replicas: usize,
    micro_batches: u64,
    schedule: Schedule,
    execution: Execution,
}

/// All plans of up to eight ranks that the axes give and `verify` allows.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, replicas) in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (1, 4), (2, 4), (4, 2), (1, 8), (8, 1)] {
        for schedule in [Schedule::FillDrain, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZeroBubble] {
            for micro_batches in [1, 2, 4] {
                for execution in executions() {
                    all.push(Case { rows, replicas, micro_batches, schedule, execution });
                }
            }
        }
    }
    all.retain(is_legal);
    all
}

fn executions() -> Vec<Execution> {
    use Synchronisation::{AllReduce, ParameterServer, Zero1, Zero2, Zero3};
    let mut all = Vec::new();
    for synchronisation in [AllReduce, Zero1, Zero2, Zero3, ParameterServer] {
        for recompute in [Recompute::None, Recompute::Stages, Recompute::Layers] {
            for bucket_bytes in [None, Some(Bytes::new(4096))] {
                all.push(Execution {
                    recompute: recompute.clone(),
                    synchronisation,
                    bucket_bytes,
                    ..Execution::default()
                });
            }
        }
    }
    all
}

fn is_legal(case: &Case) -> bool {
    let Case { rows, replicas, micro_batches, schedule, execution } = case;
    let divides = GLOBAL_BATCH.is_multiple_of(*replicas as u64 * micro_batches);
    let interleaves = *schedule != Schedule::Interleaved || (*rows <= 4 && micro_batches.is_multiple_of(*rows as u64));
    let whole = *schedule != Schedule::ZeroBubble || execution.recompute == Recompute::None;
    let alone = *replicas > 1 || execution.synchronisation == Synchronisation::AllReduce;
    let zero3 = execution.synchronisation != Synchronisation::Zero3 || execution.recompute == Recompute::Stages;
    divides && interleaves && whole && alone && zero3
}

/// Where stages may begin: operators before which few values cross, so that no gradient is summed in another order.
fn boundaries(model: &ModelGraph) -> Vec<usize> {
    let ops = model.ops().len();
    let crosses = |at: usize| {
        let values = model.values().iter().filter(|value| value.producer.is_some_and(|op| op.index() < at));
        values.filter(|value| value.consumers.iter().any(|op| op.index() >= at)).count()
    };
    let counts: Vec<usize> = (0..ops).map(crosses).collect();
    (1..ops).filter(|at| counts[*at] <= 1).collect()
}

fn program_of(subject: &Subject, case: &Case, rule: Optimizer) -> Option<Arc<Program>> {
    let stages = if case.schedule == Schedule::Interleaved { 2 * case.rows } else { case.rows };
    let (ops, places) = (subject.model.ops().len(), boundaries(&subject.model));
    if places.len() < stages {
        return None;
    }
    let first_op = |stage: usize| match stage {
        0 => 0,
        last if last == stages => ops,
        stage => places[(places.len() * stage / stages).max(stage - 1)],
    };
    let cut = cut("generated", stages, case.replicas, case.micro_batches, case.schedule);
    let (plan, devices) = plan_at(Dtype::F32, subject, cut, rule, case.execution.clone(), first_op);
    let verified = verify(&plan, &subject.model, &devices).unwrap_or_else(|found| panic!("{case:?}: {found:?}"));
    Some(Arc::new(lower(&verified).unwrap_or_else(|error| panic!("{case:?}: {error}"))))
}

#[derive(Debug)]
struct Trained {
    losses: Vec<f64>,
    ranks: Vec<RankTensors>,
}

fn train(subject: &Subject, program: Arc<Program>, rule: Optimizer, what: &str) -> Trained {
    let (model, batches) = (subject.model.clone(), subject.batches.clone());
    let run = Run::start(model, program, batches, &options(rule));
    let mut run = run.unwrap_or_else(|error| panic!("{what}: {error}"));
    let step = |_| run.step().unwrap_or_else(|error| panic!("{what}: {error}")).loss;
    let losses = (0..STEPS).map(step).collect();
    Trained { losses, ranks: run.parameters().expect("alive") }
}

/// A model with what one rank makes of it, by the number of micro-batches.
struct Family {
    subject: Subject,
    rule: Optimizer,
    single: BTreeMap<u64, Trained>,
}

impl Family {
    fn new(subject: Subject, rule: Optimizer) -> Self {
        Self { subject, rule, single: BTreeMap::new() }
    }

    /// Trains under the plan; the largest relative difference of a loss, if the model can be cut so often.
    fn check(&mut self, case: &Case) -> Option<f64> {
        let Self { subject, rule, single } = self;
        let program = program_of(subject, case, *rule)?;
        let micro_batches = case.micro_batches * case.replicas as u64;
        let expected = single.entry(micro_batches).or_insert_with(|| {
            let (rows, replicas, schedule) = (1, 1, Schedule::FillDrain);
            let alone = Case { rows, replicas, micro_batches, schedule, execution: Execution::default() };
            train(subject, program_of(subject, &alone, *rule).expect("one stage"), *rule, "single")
        });
        let what = format!("{} {case:?}", subject.model.name());
        let trained = train(subject, program, *rule, &what);
        let mut worst = 0.0f64;
        for (loss, expected) in trained.losses.iter().zip(&expected.losses) {
            let off = (loss - expected).abs() / expected.abs();
            assert!(off <= 1e-5, "{what}: losses {:?} for {:?}", trained.losses, expected);
            worst = worst.max(off);
        }
        compare(&trained.ranks, &expected.ranks[0], *rule, &what);
        Some(worst)
    }
}

fn compare(ranks: &[RankTensors], expected: &RankTensors, rule: Optimizer, what: &str) {
    let numbers = |tensors: &RankTensors, id| tensors[id].to_f32().expect("floats");
    let largest = expected.keys().flat_map(|id| numbers(expected, id)).map(f32::abs).fold(0.0, f32::max);
    let bound = match rule {
        Optimizer::AdamW => 0.1 * settings(rule).learning_rate as f32,
        Optimizer::Sgd => 1e-5 * largest,
    };
    for id in expected.keys() {
        let mut held = 0;
        for rank in ranks.iter().filter(|rank| rank.contains_key(id)) {
            held += 1;
            let pairs = numbers(rank, id).into_iter().zip(numbers(expected, id));
            let off = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(off <= bound, "{what}: {id} is off by {off:e}, allowed {bound:e}");
        }
        assert!(held > 0, "{what}: nobody holds {id}");
    }
}

/// Every `stride`-th case from `first` on; how many ran.
fn check_some(subject: Subject, rule: Optimizer, first: usize, least: usize) -> usize {
    let (mut family, all, began) = (Family::new(subject, rule), cases(), Instant::now());
    let stride = all.len() / (least + 4);
    let offs: Vec<f64> = all.iter().skip(first).step_by(stride).filter_map(|case| family.check(case)).collect();
    let worst = offs.iter().copied().fold(0.0, f64::max);
    let name = family.subject.model.name();
    println!("{name}: {} plans, losses off by {worst:.1e}, {:.1?}", offs.len(), began.elapsed());
    assert!(offs.len() >= least, "{name}: {} plans", offs.len());
    offs.len()
}

/// Fourteen plans of each of five families.
#[test]
fn generated_plans_train_as_one_rank_does() {
    let families = [
        (sequence("gpt2", 16, Some(4), 8), Optimizer::AdamW),
        (sequence("bert-base", 16, Some(4), 14), Optimizer::AdamW),
        (sequence("lstm-stacked", 12, None, 8), Optimizer::AdamW),
        (sequence("mixtral-8x7b", 16, Some(4), 8), Optimizer::AdamW),
        (image("resnet18", 4, 64), Optimizer::Sgd),
    ];
    let runs = families.into_iter().enumerate().map(|(i, (subject, rule))| check_some(subject, rule, 5 * i, 13));
    assert!(runs.sum::<usize>() >= 60);
}

/// As many random plans as fit in a few seconds, from a fixed seed.
#[test]
fn random_plans_train_as_one_rank_does() {
    let (mut family, all) = (Family::new(sequence("gpt2", 16, Some(4), 8), Optimizer::AdamW), cases());
    let (deadline, mut state, mut ran) = (Instant::now() + Duration::from_secs(4), 17u64, 0);
    while Instant::now() < deadline || ran < 3 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ran += usize::from(family.check(&all[(state >> 33) as usize % all.len()]).is_some());
    }
    println!("{ran} random plans of {}", all.len());
}
