//! What a plan asks of its ranks besides its stages: how it is lowered, refused, and written.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::common::{cores, listing, model, plan};
use cutplane_graph::sharding::Split;
use cutplane_graph::{DeviceGraph, ModelGraph, OpId};
use cutplane_plan::{
    Action, Execution, OpSet, Plan, PlanViolation, Program, Recompute, Schedule, Synchronisation, TensorSplit,
    check_program, lower, read_plan, verify, write_plan,
};
use cutplane_units::Bytes;
use proptest::prelude::*;

/// A plan over stages that take turns on `rows` groups of devices, each of `places`.
pub(crate) fn made(
    (model, stages): (&ModelGraph, &[Range<usize>]),
    (rows, places): (usize, usize),
    (schedule, micro_batches): (Schedule, u64),
    execution: Execution,
) -> (Plan, DeviceGraph) {
    let devices = cores(rows * places, 1.0);
    let mut plan = plan(model, &devices, stages, places, schedule, micro_batches);
    plan.workload.global_batch = 2 * micro_batches * (places / execution.tensor_degree()) as u64;
    for (index, stage) in plan.stages.iter_mut().enumerate() {
        stage.devices = (0..places).map(|place| format!("cpu:{}", index % rows * places + place)).collect();
    }
    plan.execution = execution;
    (plan, devices)
}

pub(crate) fn lowered(
    stages: &[Range<usize>],
    shape: (usize, usize),
    schedule: (Schedule, u64),
    execution: Execution,
) -> Program {
    let model = model(false);
    let (plan, devices) = made((&model, stages), shape, schedule, execution);
    lower(&verify(&plan, &model, &devices).unwrap()).unwrap()
}

/// What a rank does, without numbers and dependencies.
pub(crate) fn deeds(program: &Program, rank: usize) -> Vec<String> {
    let line = |line: String| {
        let deed = line.split(" <- ").next().unwrap_or_default();
        deed.split_once(' ').map(|(_, deed)| deed.to_owned()).unwrap_or_default()
    };
    listing(program, &program.ranks[rank]).into_iter().map(line).collect()
}

pub(crate) fn synchronised(synchronisation: Synchronisation, recompute: Recompute) -> Execution {
    Execution { synchronisation, recompute, ..Execution::default() }
}

#[test]
fn two_stages_on_one_rank_need_no_messages() {
    let program = lowered(&[0..2, 2..4], (1, 1), (Schedule::Interleaved, 1), Execution::default());
    assert_eq!(deeds(&program, 0), ["load 0", "F0", "load 0", "F0", "B0", "B0", "step"]);
    assert!(program.messages.is_empty());
}

#[test]
fn interleaved_stages_take_turns_on_their_devices() {
    let stages = [0..1, 1..2, 2..3, 3..4];
    let program = lowered(&stages, (2, 1), (Schedule::Interleaved, 2), Execution::default());
    let segments = |rank: usize| program.segments_of(program.ranks[rank].rank).iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!((segments(0), segments(1)), (vec![0, 2], vec![1, 3]));
    assert_eq!(program.ranks.len(), 2);
}

#[test]
fn weight_gradients_fill_the_drain_of_a_zero_bubble_pipeline() {
    let program = lowered(&[0..2, 2..4], (2, 1), (Schedule::ZeroBubble, 2), Execution::default());
    let passes = |rank| deeds(&program, rank).into_iter().filter(|deed| deed.len() == 2).collect::<Vec<_>>();
    assert_eq!(passes(0), ["F0", "F1", "I0", "W0", "I1", "W1"]);
    assert_eq!(passes(1), ["F0", "I0", "F1", "I1", "W0", "W1"]);
}

#[test]
fn an_asynchronous_pipeline_updates_after_every_micro_batch() {
    let program = lowered(&[0..2, 2..4], (2, 1), (Schedule::Asynchronous, 2), Execution::default());
    let deeds = deeds(&program, 1);
    let kept: Vec<_> = deeds.iter().filter(|deed| deed.len() == 2 || *deed == "step").collect();
    assert_eq!(kept, ["F0", "B0", "step", "F1", "B1", "step"]);
    assert_eq!(program.accumulated, 1);
}

#[test]
fn only_what_is_named_is_computed_again() {
    let again = synchronised(Synchronisation::AllReduce, Recompute::Ops(OpSet::range(1, 3)));
    let program = lowered(std::slice::from_ref(&(0..4)), (1, 1), (Schedule::FillDrain, 1), again);
    let expected = ["load 0", "F0", "F0", "load 0", "F0", "B0", "again 0 of segment 1", "B0", "B0", "step"];
    assert_eq!(deeds(&program, 0), expected);
}

#[test]
fn what_is_frozen_before_anything_is_trained_only_runs_forward() {
    let frozen = Execution { frozen: OpSet::range(0, 2), ..Execution::default() };
    let program = lowered(std::slice::from_ref(&(0..4)), (1, 2), (Schedule::FillDrain, 1), frozen);
    assert_eq!(deeds(&program, 0), ["load 0", "F0", "load 0", "F0", "B0", "all-reduce 0", "step"]);
    let sizes: Vec<usize> = program.segments.iter().map(|segment| segment.ops.len()).collect();
    assert_eq!(sizes, [2, 2]);
    // The gradients of what is frozen are not exchanged.
    assert!(!program.frozen.is_empty());
    assert!(program.groups.iter().all(|group| group.params.iter().all(|param| !program.frozen.contains(param))));
}

#[test]
fn zero_gathers_scatters_and_forgets() {
    use Synchronisation::{ParameterServer, Zero1, Zero2, Zero3};
    let steps = |synchronisation, recompute| {
        let program = lowered(
            std::slice::from_ref(&(0..4)),
            (1, 2),
            (Schedule::FillDrain, 1),
            synchronised(synchronisation, recompute),
        );
        deeds(&program, 1)
    };
    assert_eq!(steps(Zero1, Recompute::None), ["load 0", "F0", "B0", "all-reduce 0", "step", "all-gather 0"]);
    assert_eq!(steps(Zero2, Recompute::None), ["load 0", "F0", "B0", "reduce-scatter 0", "step", "all-gather 0"]);
    assert_eq!(steps(ParameterServer, Recompute::None), ["load 0", "F0", "B0", "reduce 0", "step", "broadcast 0"]);
    let forward = ["all-gather 0", "load 0", "F0", "release 0"];
    let backward = ["all-gather 0", "again 0 of segment 0", "B0", "release 0", "reduce-scatter 0", "step"];
    assert_eq!(steps(Zero3, Recompute::Stages), [&forward[..], &backward[..]].concat());
}

#[test]
fn segments_end_where_a_tensor_axis_exchanges() {
    let split = |split, op| (split, [OpId::new(op)].into_iter().collect::<OpSet>());
    let splits = BTreeMap::from([split(Split::Column, 1), split(Split::Row, 2)]);
    let execution = Execution { tensor: Some(TensorSplit { degree: 2, splits }), ..Execution::default() };
    let program = lowered(std::slice::from_ref(&(0..4)), (1, 2), (Schedule::FillDrain, 1), execution);
    let expected = [
        "load 0",
        "F0",
        "relayout Activation 0",
        "F0",
        "all-reduce Activation 0",
        "load 0",
        "F0",
        "B0",
        "relayout Gradient 0",
        "B0",
        "all-reduce Gradient 0",
        "B0",
        "step",
    ];
    assert_eq!(deeds(&program, 0), expected);
    // The embedding is whole on both ranks, which compute the same gradient; the others are apart.
    assert!(program.groups.iter().all(|group| group.params.is_empty()));
}

#[test]
fn a_rank_that_leaves_an_exchange_out_is_found() {
    let execution = Execution { tensor: Some(TensorSplit::tensor(&model(false), 2, false)), ..Execution::default() };
    let mut program = lowered(std::slice::from_ref(&(0..4)), (1, 2), (Schedule::FillDrain, 1), execution);
    let exchanges = |action: Action| matches!(action, Action::Exchange { group: Some(_), .. });
    let place = program.ranks[1].instructions.iter().position(|i| exchanges(i.action)).unwrap();
    let removed = program.ranks[1].instructions.remove(place).id;
    for instruction in &mut program.ranks[1].instructions {
        instruction.depends_on.retain(|id| *id != removed);
    }
    assert!(check_program(&program).is_err());
}

fn refused(schedule: (Schedule, u64), shape: (usize, usize), execution: Execution) -> Vec<String> {
    let model = model(false);
    let (plan, devices) = made((&model, &[0..2, 2..4]), shape, schedule, execution);
    let found: Vec<PlanViolation> = verify(&plan, &model, &devices).map(|_| ()).unwrap_err();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_executed_is_refused_with_its_remedy() {
    let plain = Execution::default;
    let one = |found: Vec<String>, expected: &str| {
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    };
    one(refused((Schedule::Interleaved, 3), (2, 1), plain()), "needs a multiple of it");
    let zero3 = synchronised(Synchronisation::Zero3, Recompute::None);
    one(refused((Schedule::OneFOneB, 2), (2, 2), zero3), "set execution.recompute to \"stages\"");
    let again = synchronised(Synchronisation::AllReduce, Recompute::Layers);
    one(refused((Schedule::ZeroBubble, 2), (2, 1), again), "choose the schedule 1f1b");
    let server = synchronised(Synchronisation::ParameterServer, Recompute::None);
    one(refused((Schedule::Asynchronous, 2), (2, 2), server), "set execution.synchronisation to \"all-reduce\"");
    let frozen = |ops| Execution { frozen: ops, ..plain() };
    one(refused((Schedule::OneFOneB, 2), (2, 1), frozen(OpSet::range(0, 4))), "leaves nothing to train");
    one(
        refused((Schedule::OneFOneB, 2), (2, 1), frozen(OpSet::range(0, 9))),
        "names operators that the model does not",
    );
    let buckets = Execution { bucket_bytes: Some(Bytes::ZERO), ..plain() };
    one(refused((Schedule::OneFOneB, 2), (2, 1), buckets), "holds no gradient");
    let tensor = |degree, splits| Execution { tensor: Some(TensorSplit { degree, splits }), ..plain() };
    one(refused((Schedule::OneFOneB, 2), (2, 4), tensor(3, BTreeMap::new())), "does not divide the devices");
    let loss = BTreeMap::from([(Split::Heads, OpSet::range(3, 4))]);
    one(refused((Schedule::OneFOneB, 2), (2, 2), tensor(2, loss)), "operator 'loss' cannot be split by Heads");
}

#[test]
fn a_stage_on_devices_of_its_own_is_no_interleaved_one() {
    let model = model(false);
    let stages = [0..1, 1..2, 2..3, 3..4];
    let (mut plan, devices) = made((&model, &stages), (4, 1), (Schedule::Interleaved, 4), Execution::default());
    plan.stages[2].devices = plan.stages[0].devices.clone();
    let found = verify(&plan, &model, &devices).map(|_| ()).unwrap_err();
    assert_eq!(found, [PlanViolation::NotInterleaved { stage: 3, of: 1, ranks: 2 }]);
}

#[test]
fn files_say_what_is_asked_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path().join("plan.json"), model(false));
    let execution = Execution {
        recompute: Recompute::Stages,
        synchronisation: Synchronisation::Zero3,
        tensor: Some(TensorSplit::tensor(&model, 2, true)),
        ..Execution::default()
    };
    let (plan, _) = made((&model, &[0..2, 2..4]), (2, 4), (Schedule::OneFOneB, 2), execution);
    write_plan(&path, &plan).unwrap();
    assert_eq!(read_plan(&path).unwrap(), plan);
    let text = std::fs::read_to_string(&path).unwrap();
    for line in ["\"recompute\": \"stages\"", "\"synchronisation\": \"zero-3\"", "\"degree\": 2"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let plain = Plan { execution: Execution::default(), ..plan };
    write_plan(&path, &plain).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("execution"));
}

fn execution(model: &ModelGraph) -> impl Strategy<Value = Execution> + use<> {
    use Synchronisation::{AllReduce, AsynchronousServer, ParameterServer, StaleServer, Zero1, Zero2, Zero3};
    let axes = vec![None, Some(TensorSplit::tensor(model, 2, true)), Some(TensorSplit::context(model, 2))];
    let recompute = prop_oneof![
        Just(Recompute::None),
        Just(Recompute::Stages),
        Just(Recompute::Layers),
        Just(Recompute::Ops(OpSet::range(1, 3)))
    ];
    let synchronisation =
        vec![AllReduce, Zero1, Zero2, Zero3, ParameterServer, AsynchronousServer, StaleServer { bound: 1 }];
    let synchronisation = prop::sample::select(synchronisation);
    let (buckets, frozen) = (prop::option::of(1u64..500), prop::option::of(0usize..2));
    (recompute, synchronisation, buckets, frozen, prop::sample::select(axes)).prop_map(
        |(recompute, synchronisation, bucket, frozen, tensor)| Execution {
            recompute,
            synchronisation,
            bucket_bytes: bucket.map(Bytes::new),
            tensor,
            frozen: frozen.map_or_else(OpSet::default, |end| OpSet::range(0, end + 1)),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever `verify` lets through runs to its end, with every message matched and collectives in one order.
    #[test]
    fn every_legal_execution_lowers_to_a_program_that_ends(
        execution in execution(&model(true)),
        tied: bool,
        rows in 1usize..5,
        replicas in 1usize..3,
        schedule in 0usize..5,
        micro_batches in 1u64..6,
    ) {
        use Schedule::{Asynchronous, FillDrain, Interleaved, OneFOneB, ZeroBubble};
        let schedule = [FillDrain, OneFOneB, Interleaved, ZeroBubble, Asynchronous][schedule];
        let (model, stages) = (model(tied), if schedule == Interleaved { 4 } else { rows });
        let bounds: Vec<usize> = (0..=stages).map(|stage| 4 * stage / stages).collect();
        let stages: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let places = replicas * execution.tensor_degree();
        let (plan, devices) = made((&model, &stages), (rows, places), (schedule, micro_batches), execution);
        if let Ok(verified) = verify(&plan, &model, &devices) {
            let program = lower(&verified).unwrap();
            prop_assert_eq!(check_program(&program), Ok(()));
            let updates = |rank: &cutplane_plan::RankProgram| {
                rank.instructions.iter().filter(|i| i.action == Action::OptimizerStep).count() as u64
            };
            let pushed = plan.execution.synchronisation.is_pushed();
            let expected = if pushed { 0 } else { micro_batches / program.accumulated };
            prop_assert!(program.ranks.iter().all(|rank| updates(rank) == expected));
        }
    }
}
