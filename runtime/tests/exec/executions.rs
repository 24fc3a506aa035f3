//! What a plan may ask of its ranks besides where its stages are, each held to the unpartitioned model.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutplane_graph::{Dtype, ValueId};
use cutplane_plan::{
    Action, Execution, OpSet, Optimizer, Program, Recompute, Schedule, Slot, Synchronisation, lower, rank_slots, verify,
};
use cutplane_units::Bytes;

use cutplane_runtime::exec::{RankTensors, Run};
use cutplane_runtime::init::initial_weight;
use cutplane_runtime::{Backend, HostTensor, SegmentRunner};

use crate::equality::check_program;
use crate::families::sequence;
use crate::plans::{Cut, Reference, SEED, Subject, cut, options, plan_at, reference, settings, subject};

const STEPS: u64 = 5;

pub(crate) fn program(subject: &Subject, cut: Cut, execution: Execution) -> Arc<Program> {
    let ops = subject.model.ops().len();
    let (plan, devices) =
        plan_at(Dtype::F32, subject, cut, Optimizer::AdamW, execution, |stage| ops * stage / cut.stages);
    let verified = verify(&plan, &subject.model, &devices).unwrap_or_else(|found| panic!("{}: {found:?}", cut.name));
    Arc::new(lower(&verified).unwrap_or_else(|error| panic!("{}: {error}", cut.name)))
}

fn check(subject: &Subject, reference: &Reference, cut: Cut, execution: Execution) {
    let program = program(subject, cut, execution);
    check_program(subject, &options(Optimizer::AdamW), reference, program, cut.name);
}

fn decoder() -> (Subject, Reference) {
    let subject = subject("gpt-nano");
    let reference = reference(&subject, Optimizer::AdamW, STEPS);
    (subject, reference)
}

fn recompute(recompute: Recompute) -> Execution {
    Execution { recompute, ..Execution::default() }
}

pub(crate) fn synchronised(synchronisation: Synchronisation) -> Execution {
    let recompute = if synchronisation == Synchronisation::Zero3 { Recompute::Stages } else { Recompute::None };
    Execution { synchronisation, recompute, ..Execution::default() }
}

#[test]
fn schedules() {
    let (subject, reference) = decoder();
    let cuts = [
        cut("vanilla", 3, 1, 1, Schedule::FillDrain),
        cut("accumulation", 1, 1, 8, Schedule::FillDrain),
        cut("interleaved", 4, 1, 4, Schedule::Interleaved),
        cut("interleaved-dp2", 4, 2, 2, Schedule::Interleaved),
        cut("interleaved-1", 2, 1, 2, Schedule::Interleaved),
        cut("zero-bubble-pp2", 2, 1, 4, Schedule::ZeroBubble),
        cut("zero-bubble-pp4", 4, 1, 8, Schedule::ZeroBubble),
        cut("zero-bubble-pp4-short", 4, 1, 2, Schedule::ZeroBubble),
        cut("zero-bubble-dp2", 2, 2, 2, Schedule::ZeroBubble),
    ];
    for cut in cuts {
        check(&subject, &reference, cut, Execution::default());
    }
}

#[test]
fn recomputed_passes() {
    let (subject, reference) = decoder();
    let middle = OpSet::range(3, 9);
    for (again, stages) in
        [(Recompute::Stages, 1), (Recompute::Stages, 3), (Recompute::Layers, 2), (Recompute::Ops(middle), 2)]
    {
        check(&subject, &reference, cut("recompute", stages, 1, 2, Schedule::OneFOneB), recompute(again));
    }
    let interleaved = cut("recompute-interleaved", 4, 1, 4, Schedule::Interleaved);
    check(&subject, &reference, interleaved, recompute(Recompute::Layers));
}

#[test]
fn divided_state() {
    use Synchronisation::{ParameterServer, Zero1, Zero2, Zero3};
    let (subject, reference) = decoder();
    for synchronisation in [Zero1, Zero2, Zero3, ParameterServer] {
        for cut in [
            cut("divided-dp2", 1, 2, 2, Schedule::OneFOneB),
            cut("divided-dp4", 1, 4, 1, Schedule::FillDrain),
            cut("divided-dp2-pp2", 2, 2, 2, Schedule::OneFOneB),
        ] {
            check(&subject, &reference, cut, synchronised(synchronisation));
        }
    }
}

#[test]
fn gradients_in_buckets() {
    use Synchronisation::{AllReduce, ParameterServer, Zero2, Zero3};
    let (subject, reference) = decoder();
    for synchronisation in [AllReduce, Zero2, Zero3, ParameterServer] {
        let execution = Execution { bucket_bytes: Some(Bytes::new(40_000)), ..synchronised(synchronisation) };
        let program = program(&subject, cut("buckets", 1, 2, 2, Schedule::OneFOneB), execution);
        assert!(program.groups.len() > 1, "{:?}", program.groups);
        check_program(&subject, &options(Optimizer::AdamW), &reference, program, "buckets");
    }
}

/// Losses of some steps, and the parameters after them.
fn train(subject: &Subject, program: &Arc<Program>) -> (Vec<f64>, Vec<RankTensors>) {
    let (model, batches) = (subject.model.clone(), subject.batches.clone());
    let mut run = Run::start(model, program.clone(), batches, &options(Optimizer::AdamW)).expect("starts");
    let losses = (0..STEPS).map(|_| run.step().expect("a step").loss).collect();
    (losses, run.parameters().expect("alive"))
}

fn close(left: &[f64], right: &[f64], plan: &str) {
    assert_eq!(left.len(), right.len(), "{plan}");
    let near = left.iter().zip(right).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs());
    assert!(near, "{plan}: losses {left:?} instead of {right:?}");
}

/// Frozen operators keep their parameters under every plan, and stages before which nothing is trained never go back.
#[test]
fn frozen_operators() {
    let subject = sequence("lstm-stacked", 12, None, 8);
    let ops = subject.model.ops().len();
    let frozen = || Execution { frozen: OpSet::range(0, ops / 2), ..Execution::default() };
    let single = program(&subject, cut("single", 1, 1, 2, Schedule::FillDrain), frozen());
    let (expected, _) = train(&subject, &single);
    for cut in [
        cut("frozen-pp2", 2, 1, 2, Schedule::OneFOneB),
        cut("frozen-dp2-pp2", 2, 2, 1, Schedule::FillDrain),
        cut("frozen-zero-bubble", 2, 1, 2, Schedule::ZeroBubble),
    ] {
        let program = program(&subject, cut, frozen());
        let back = |action| matches!(action, Action::Backward { .. } | Action::BackwardInput { .. });
        let goes_back = |rank: usize| program.ranks[rank].instructions.iter().any(|i| back(i.action));
        assert!(!goes_back(0) && goes_back(cut.replicas), "{}", cut.name);
        let (losses, ranks) = train(&subject, &program);
        close(&losses, &expected, cut.name);
        for (id, tensor) in ranks.iter().flatten() {
            let same = *tensor == initial_weight(subject.model.param(*id), SEED);
            assert_eq!(same, program.frozen.contains(id), "{}: {}", cut.name, subject.model.param(*id).name);
        }
    }
}

/// A pipeline that never drains is held to its definition: every stage takes its micro-batches in the schedule's order,
/// goes back through the weights that it went forward through, and updates the newest ones after each.
#[test]
fn asynchronous_pipeline() {
    let subject = sequence("lstm-stacked", 12, None, 8);
    for (stages, micro_batches) in [(1, 4), (2, 4), (3, 8)] {
        let cut = cut("async", stages, 1, micro_batches, Schedule::Asynchronous);
        let program = program(&subject, cut, Execution::default());
        let (losses, ranks) = train(&subject, &program);
        let (expected, parameters) = delayed(&subject, &program);
        assert_eq!(losses, expected, "{stages} stages");
        assert_eq!(ranks, parameters, "{stages} stages");
    }
    let replicas = cut("async-dp2", 2, 2, 2, Schedule::Asynchronous);
    let (losses, ranks) = train(&subject, &program(&subject, replicas, Execution::default()));
    assert!(losses[STEPS as usize - 1] < losses[0], "{losses:?}");
    assert_eq!((&ranks[0], &ranks[2]), (&ranks[1], &ranks[3]), "replicas stay equal");
}

/// Asynchronous training of a pipeline without replicas, by hand: stages take turns as their inputs come.
fn delayed(subject: &Subject, program: &Program) -> (Vec<f64>, Vec<RankTensors>) {
    let weights = |id| initial_weight(subject.model.param(id), SEED);
    let stage = |segment: &cutplane_plan::Segment| {
        let (model, settings) = (subject.model.clone(), settings(Optimizer::AdamW));
        SegmentRunner::new(model, segment.clone(), &Backend::cpu(), &weights, settings).expect("its own shapes")
    };
    let mut stages: Vec<SegmentRunner> = program.segments.iter().map(stage).collect();
    let losses = (0..STEPS).map(|step| delayed_step(subject, program, &mut stages, step)).collect();
    let parameters = stages.iter().map(|stage| stage.params().iter().map(|id| (*id, stage.parameter(*id))).collect());
    (losses, parameters.collect())
}

/// Values between stages, by micro-batch.
type Flowing = BTreeMap<(u64, ValueId), HostTensor>;

fn delayed_step(subject: &Subject, program: &Program, stages: &mut [SegmentRunner], step: u64) -> f64 {
    let (count, m) = (stages.len(), program.micro_batches);
    let mut slots: Vec<_> =
        (0..count).map(|stage| rank_slots(Schedule::Asynchronous, stage, count, 1, m).into_iter().peekable()).collect();
    let (mut values, mut gradients, mut loss) = (Flowing::new(), Flowing::new(), 0.0);
    while slots.iter_mut().any(|slots| slots.peek().is_some()) {
        for stage in 0..count {
            let Some((_, slot)) = slots[stage].peek().copied() else { continue };
            let segment = &program.segments[stage];
            match slot {
                Slot::Forward(mb) => {
                    let (inner, outer): (Vec<_>, Vec<_>) =
                        segment.inputs.iter().partition(|id| subject.model.value(**id).producer.is_some());
                    if !inner.iter().all(|id| values.contains_key(&(mb, *id))) {
                        continue;
                    }
                    let size = program.micro_batch_size;
                    let mut inputs = subject.batches.inputs(step, mb * size, size, &outer).expect("inputs");
                    inputs.extend(inner.into_iter().map(|id| (id, values[&(mb, id)].clone())));
                    let outputs = stages[stage].forward(mb, inputs).expect("forward");
                    values.extend(outputs.into_iter().map(|(id, tensor)| ((mb, id), tensor)));
                    loss += f64::from(stages[stage].loss(mb).unwrap_or(0.0)) / m as f64;
                }
                Slot::Backward(mb) => {
                    let wanted = segment.outputs.iter().filter(|id| subject.model.loss() != Some(**id));
                    let wanted: Vec<_> = wanted.collect();
                    if !wanted.iter().all(|id| gradients.contains_key(&(mb, **id))) {
                        continue;
                    }
                    let upstream =
                        wanted.iter().map(|id| (**id, gradients.remove(&(mb, **id)).expect("there"))).collect();
                    let down = stages[stage].backward(mb, upstream, 1.0).expect("backward");
                    gradients.extend(down.into_iter().map(|(id, tensor)| ((mb, id), tensor)));
                }
                _ => stages[stage].optimizer_step(),
            }
            slots[stage].next();
        }
    }
    loss
}
