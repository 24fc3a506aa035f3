//! Plans made up from all axes, over a small twin of each kind of model: each trains as one rank does.
//!
//! The one rank takes the same micro-batches, since batch normalisation and expert capacity depend on them. What differs is
//! the order of sums. Losses of five steps may differ by 1e-5 relative; parameters after them by a tenth of the learning
//! rate under AdamW, which makes up to a whole learning rate of a gradient that is nearly zero, and by 1e-5 of the largest
//! one under plain gradient descent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_graph::{Dtype, LocalGraph, ModelGraph, OpKind};
use cutplane_plan::{
    Execution, OpSet, Optimizer, Program, Recompute, Schedule, Synchronisation, TensorSplit, lower, verify,
};
use cutplane_runtime::comm::Processes;
use cutplane_runtime::exec::{RankTensors, Run, RunOptions};
use cutplane_units::Bytes;

use crate::families::{image, sequence};
use crate::plans::{GLOBAL_BATCH, Subject, cut, options, plan_at, settings};

const STEPS: usize = 5;

/// One plan of the set.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) rows: usize,
    pub(crate) replicas: usize,
    pub(crate) micro_batches: u64,
    pub(crate) schedule: Schedule,
    pub(crate) tensor: Axis,
    pub(crate) execution: Execution,
}

/// What the ranks of a tensor axis split: two of them, but for experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// There is none.
    None,
    /// Weights.
    Tensor,
    /// Weights, and positions between them.
    Sequence,
    /// Positions, and heads of attentions.
    Context,
    /// These, and experts, over so many ranks. Models without experts have no such plan.
    Experts(usize),
}

impl Axis {
    fn degree(self) -> usize {
        match self {
            Self::None => 1,
            Self::Tensor | Self::Sequence | Self::Context => 2,
            Self::Experts(ranks) => ranks,
        }
    }

    pub(crate) fn split(self, model: &ModelGraph) -> Option<TensorSplit> {
        match self {
            Self::None => None,
            Self::Tensor => Some(TensorSplit::tensor(model, 2, false)),
            Self::Sequence => Some(TensorSplit::tensor(model, 2, true)),
            Self::Context => Some(TensorSplit::context(model, 2)),
            Self::Experts(ranks) => TensorSplit::experts(model, ranks as u64).ok(),
        }
    }
}

/// What the list of cases, which knows no model, says for the first third of a model's operators.
const FROZEN: Range<usize> = 0..1;

const AXES: [Axis; 5] = [Axis::None, Axis::Tensor, Axis::Sequence, Axis::Context, Axis::Experts(2)];

/// All plans of up to eight ranks that the axes give and `verify` allows.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, replicas) in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (1, 4), (2, 4), (4, 2), (1, 8), (8, 1)] {
        for schedule in [Schedule::FillDrain, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZeroBubble] {
            for micro_batches in [1, 2, 4] {
                for tensor in AXES {
                    for execution in executions() {
                        all.push(Case { rows, replicas, micro_batches, schedule, tensor, execution });
                    }
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
                for frozen in [OpSet::default(), OpSet::range(FROZEN.start, FROZEN.end)] {
                    let recompute = recompute.clone();
                    all.push(Execution { recompute, synchronisation, bucket_bytes, frozen, ..Execution::default() });
                }
            }
        }
    }
    all
}

fn is_legal(case: &Case) -> bool {
    let Case { rows, replicas, micro_batches, schedule, tensor, execution } = case;
    let fits = rows * replicas * tensor.degree() <= 8;
    let divides = GLOBAL_BATCH.is_multiple_of(*replicas as u64 * micro_batches);
    let interleaves = *schedule != Schedule::Interleaved || (*rows <= 4 && micro_batches.is_multiple_of(*rows as u64));
    let whole = *schedule != Schedule::ZeroBubble || execution.recompute == Recompute::None;
    let alone = *replicas > 1 || execution.synchronisation == Synchronisation::AllReduce;
    let zero3 = execution.synchronisation != Synchronisation::Zero3 || execution.recompute == Recompute::Stages;
    fits && divides && interleaves && whole && alone && zero3
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

pub(crate) fn program_of(subject: &Subject, case: &Case, rule: Optimizer, precision: Dtype) -> Option<Arc<Program>> {
    let stages = if case.schedule == Schedule::Interleaved { 2 * case.rows } else { case.rows };
    let (ops, places) = (subject.model.ops().len(), boundaries(&subject.model));
    let tensor = case.tensor.split(&subject.model);
    if places.len() < stages || (tensor.is_none() && case.tensor != Axis::None) {
        return None;
    }
    let first_op = |stage: usize| match stage {
        0 => 0,
        last if last == stages => ops,
        stage => places[(places.len() * stage / stages).max(stage - 1)],
    };
    let cut = cut("generated", stages, case.replicas, case.micro_batches, case.schedule);
    let frozen = if case.execution.frozen.is_empty() { OpSet::default() } else { OpSet::range(0, ops / 3) };
    let execution = Execution { tensor, frozen, ..case.execution.clone() };
    let (plan, devices) = plan_at(precision, subject, cut, rule, execution, first_op);
    let verified = verify(&plan, &subject.model, &devices).unwrap_or_else(|found| panic!("{case:?}: {found:?}"));
    Some(Arc::new(lower(&verified).unwrap_or_else(|error| panic!("{case:?}: {error}"))))
}

#[derive(Debug)]
struct Trained {
    losses: Vec<f64>,
    ranks: Vec<RankTensors>,
}

fn train(subject: &Subject, program: Arc<Program>, options: &RunOptions, what: &str) -> Trained {
    let (model, batches) = (subject.model.clone(), subject.batches.clone());
    let run = Run::start(model, program, batches, options);
    let mut run = run.unwrap_or_else(|error| panic!("{what}: {error}"));
    if !run.leads() {
        run.serve().unwrap_or_else(|error| panic!("{what}: {error}"));
        return Trained { losses: Vec::new(), ranks: Vec::new() };
    }
    let step = |_| run.step().unwrap_or_else(|error| panic!("{what}: {error}")).loss;
    let losses = (0..STEPS).map(step).collect();
    Trained { losses, ranks: run.parameters().expect("alive") }
}

/// A model with what one rank makes of it, by the number of micro-batches and what is frozen.
pub(crate) struct Family {
    subject: Subject,
    rule: Optimizer,
    single: BTreeMap<(u64, String), Trained>,
    /// Who executes the ranks, if not this process alone.
    processes: Option<Arc<dyn Processes>>,
}

impl Family {
    pub(crate) fn new(subject: Subject, rule: Optimizer) -> Self {
        Self { subject, rule, single: BTreeMap::new(), processes: None }
    }

    /// Whose ranks are in several processes. All of them make the same checks; the one that leads compares.
    #[cfg(feature = "mpi")]
    pub(crate) fn of_processes(subject: Subject, rule: Optimizer, processes: Arc<dyn Processes>) -> Self {
        Self { processes: Some(processes), ..Self::new(subject, rule) }
    }

    /// Trains under the plan; the largest relative difference of a loss, if the model can be cut so often.
    pub(crate) fn check(&mut self, case: &Case) -> Option<f64> {
        let Self { subject, rule, single, processes } = self;
        let program = program_of(subject, case, *rule, Dtype::F32)?;
        let micro_batches = case.micro_batches * case.replicas as u64;
        let alike = (micro_batches, case.execution.frozen.to_string());
        let what = format!("{} {case:?}", subject.model.name());
        let together = RunOptions { processes: processes.clone(), ..options(*rule) };
        if processes.as_ref().is_some_and(|processes| processes.index() > 0) {
            train(subject, program, &together, &what);
            return Some(0.0);
        }
        let expected = single.entry(alike).or_insert_with(|| {
            let (rows, replicas, schedule) = (1, 1, Schedule::FillDrain);
            let execution = Execution { frozen: case.execution.frozen.clone(), ..Execution::default() };
            let tensor = Axis::None;
            let alone = Case { rows, replicas, micro_batches, schedule, tensor, execution };
            train(
                subject,
                program_of(subject, &alone, *rule, Dtype::F32).expect("one stage"),
                &options(*rule),
                "single",
            )
        });
        let local = program.local(&subject.model).expect("the same model");
        let trained = train(subject, program, &together, &what);
        let mut worst = 0.0f64;
        for (loss, expected) in trained.losses.iter().zip(&expected.losses) {
            let off = (loss - expected).abs() / expected.abs();
            assert!(off <= 1e-5, "{what}: losses {:?} for {:?}", trained.losses, expected);
            worst = worst.max(off);
        }
        compare(&trained.ranks, &expected.ranks[0], local.as_ref(), *rule, &what);
        Some(worst)
    }
}

/// Every rank's part of every parameter against the same part of the expected one.
fn compare(ranks: &[RankTensors], expected: &RankTensors, local: Option<&LocalGraph>, rule: Optimizer, what: &str) {
    let degree = local.map_or(1, |local| local.ranks() as usize);
    let numbers = |tensors: &RankTensors, id| tensors[id].to_f32().expect("floats");
    let largest = expected.keys().flat_map(|id| numbers(expected, id)).map(f32::abs).fold(0.0, f32::max);
    let bound = match rule {
        Optimizer::AdamW => 0.1 * settings(rule).learning_rate as f32,
        Optimizer::Sgd => 1e-5 * largest,
    };
    for id in expected.keys() {
        let mut held = 0;
        for (index, rank) in ranks.iter().enumerate().filter(|(_, rank)| rank.contains_key(id)) {
            held += 1;
            let whole = numbers(expected, id);
            let part = local.map_or(whole.clone(), |local| local.slice_param(*id, (index % degree) as u64, &whole));
            let own = numbers(rank, id);
            assert_eq!(own.len(), part.len(), "{what}: {id}");
            let pairs = own.into_iter().zip(part);
            let off = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(off <= bound, "{what}: {id} is off by {off:e}, allowed {bound:e}");
        }
        assert!(held > 0, "{what}: nobody holds {id}");
    }
}

/// Cases far apart in the list, of one kind of axis after another, until as many as asked have run.
fn check_some(subject: Subject, rule: Optimizer, first: usize, least: usize) -> usize {
    let (mut family, all, began) = (Family::new(subject, rule), cases(), Instant::now());
    let by_axis = AXES.map(|axis| all.iter().filter(|case| case.tensor == axis).collect::<Vec<_>>());
    let spread = (0..all.len()).map(|turn| {
        let cases = &by_axis[turn % AXES.len()];
        cases[(first + turn * 7919) % cases.len()]
    });
    let ran: Vec<(&Case, f64)> =
        spread.filter_map(|case| family.check(case).map(|off| (case, off))).take(least).collect();
    let worst = ran.iter().map(|(_, off)| *off).fold(0.0, f64::max);
    let model = &family.subject.model;
    let name = model.name();
    println!("{name}: {} plans, losses off by {worst:.1e}, {:.1?}", ran.len(), began.elapsed());
    assert!(ran.len() >= least, "{name}: {} plans", ran.len());
    let has_experts = model.ops().iter().any(|op| matches!(op.kind, OpKind::ExpertLinear(_)));
    assert_eq!(ran.iter().any(|(case, _)| case.tensor == Axis::Experts(2)), has_experts, "{name}");
    ran.len()
}

/// Sixteen plans of each of five families.
#[test]
fn generated_plans_train_as_one_rank_does() {
    let families = [
        (sequence("gpt2", 16, Some(4), 8), Optimizer::AdamW),
        (sequence("bert-base", 16, Some(4), 14), Optimizer::AdamW),
        (sequence("lstm-stacked", 12, None, 8), Optimizer::AdamW),
        (sequence("mixtral-8x7b", 16, Some(4), 8), Optimizer::AdamW),
        (image("resnet18", 4, 64), Optimizer::Sgd),
    ];
    let runs = families.into_iter().enumerate().map(|(i, (subject, rule))| check_some(subject, rule, 5 * i, 16));
    assert_eq!(runs.sum::<usize>(), 80);
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

/// Each kind of axis alone and under everything else, over models whose attention, feed-forward layer and head differ.
#[test]
fn tensor_axes_train_as_one_rank_does() {
    let families = [
        sequence("gpt2", 16, Some(4), 8),
        sequence("bert-base", 16, Some(4), 14),
        sequence("llama-3.1-8b", 16, Some(4), 8),
        sequence("falcon-40b", 16, Some(4), 8),
        sequence("mixtral-8x7b", 16, Some(4), 8),
    ];
    for subject in families {
        let model = subject.model.clone();
        let mut family = Family::new(subject, Optimizer::AdamW);
        for tensor in [Axis::Tensor, Axis::Sequence, Axis::Context] {
            let split = tensor.split(&model).expect("an axis");
            assert!(!split.splits.is_empty(), "{} {tensor:?}", model.name());
            let plain = Execution::default();
            let alone = Case {
                rows: 1,
                replicas: 1,
                micro_batches: 2,
                schedule: Schedule::OneFOneB,
                tensor,
                execution: plain.clone(),
            };
            let product = Case { rows: 2, replicas: 2, micro_batches: 1, ..alone.clone() };
            let halves = Case { rows: 2, schedule: Schedule::ZeroBubble, ..alone.clone() };
            let again = Execution { recompute: Recompute::Layers, ..plain };
            let again = Case { execution: again, ..alone.clone() };
            for case in [alone, product, halves, again] {
                family.check(&case);
            }
        }
    }
}

/// Vocabularies that two ranks share, up to the loss: two numbers a row are exchanged in place of the logits, also where some
/// targets are masked.
#[test]
fn losses_over_shared_vocabularies_train_as_one_rank_does() {
    for name in ["gpt-nano", "bert-nano"] {
        let subject = crate::plans::subject(name);
        let split = Axis::Tensor.split(&subject.model).expect("an axis");
        let local = split.local(&subject.model).expect("it can be split");
        let classes = local.graph().ops().iter().find_map(|op| match &op.kind {
            OpKind::CrossEntropyShare(share) => Some(share.classes),
            _ => None,
        });
        assert_eq!(classes, Some(128), "half of the bytes");
        let exchanged = local.graph().ops().iter().filter(|op| matches!(op.kind, OpKind::Exchange(_)));
        let widest = exchanged.map(|op| local.graph().value(op.output).ty.last()).max();
        assert!(widest < classes, "{name} exchanges logits: {widest:?}");
        let mut family = Family::new(subject, Optimizer::AdamW);
        let alone = Case {
            rows: 1,
            replicas: 1,
            micro_batches: 2,
            schedule: Schedule::OneFOneB,
            tensor: Axis::Tensor,
            execution: Execution::default(),
        };
        let execution =
            Execution { synchronisation: Synchronisation::Zero3, recompute: Recompute::Stages, ..Execution::default() };
        let product = Case { rows: 2, replicas: 2, execution, ..alone.clone() };
        let halves = Case { rows: 2, schedule: Schedule::ZeroBubble, tensor: Axis::Sequence, ..alone.clone() };
        for case in [alone, product, halves] {
            family.check(&case).expect("a model of many operators");
        }
    }
}
