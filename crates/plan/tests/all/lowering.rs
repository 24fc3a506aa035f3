//! Lowering: whole instruction lists, written out.

use std::ops::Range;

use crate::common::{cores, listing, model, plan};
use cutplane_graph::{DeviceGraph, Dtype, ParamId, ValueId};
use cutplane_plan::{Direction, Program, Rank, Schedule, check_program, lower, verify};
use cutplane_units::Bytes;

fn program(tied: bool, stages: &[Range<usize>], replicas: usize, schedule: Schedule, micro_batches: u64) -> Program {
    let (model, devices) = (model(tied), cores(stages.len() * replicas, 1.0));
    let plan = plan(&model, &devices, stages, replicas, schedule, micro_batches);
    lower(&verify(&plan, &model, &devices).unwrap()).unwrap()
}

fn lists(program: &Program) -> Vec<Vec<String>> {
    program.ranks.iter().map(|rank| listing(program, rank)).collect()
}

#[test]
fn two_stages_of_1f1b_over_three_micro_batches() {
    let program = program(false, &[0..2, 2..4], 1, Schedule::OneFOneB, 3);
    let first = [
        "i0 load 0",
        "i1 F0 <- i0",
        "i2 send 0 Activation 0 to 1 <- i1",
        "i3 load 1",
        "i4 F1 <- i3",
        "i5 send 2 Activation 1 to 1 <- i4",
        "i6 recv 1",
        "i7 B0 <- i1 i6",
        "i8 load 2",
        "i9 F2 <- i8",
        "i10 send 4 Activation 2 to 1 <- i9",
        "i11 recv 3",
        "i12 B1 <- i4 i11",
        "i13 recv 5",
        "i14 B2 <- i9 i13",
        "i15 step <- i14",
    ];
    // The loss reads the targets, a graph input: the last stage loads too.
    let second = [
        "i16 load 0",
        "i17 recv 0",
        "i18 F0 <- i16 i17",
        "i19 B0 <- i18",
        "i20 send 1 Gradient 0 to 0 <- i19",
        "i21 load 1",
        "i22 recv 2",
        "i23 F1 <- i21 i22",
        "i24 B1 <- i23",
        "i25 send 3 Gradient 1 to 0 <- i24",
        "i26 load 2",
        "i27 recv 4",
        "i28 F2 <- i26 i27",
        "i29 B2 <- i28",
        "i30 send 5 Gradient 2 to 0 <- i29",
        "i31 step <- i29",
    ];
    assert_eq!(lists(&program), [first, second]);
    assert!(program.groups.is_empty());
}

#[test]
fn two_stages_of_fill_drain_over_three_micro_batches() {
    let program = program(false, &[0..2, 2..4], 1, Schedule::FillDrain, 3);
    let first = [
        "i0 load 0",
        "i1 F0 <- i0",
        "i2 send 0 Activation 0 to 1 <- i1",
        "i3 load 1",
        "i4 F1 <- i3",
        "i5 send 2 Activation 1 to 1 <- i4",
        "i6 load 2",
        "i7 F2 <- i6",
        "i8 send 4 Activation 2 to 1 <- i7",
        "i9 recv 5",
        "i10 B2 <- i7 i9",
        "i11 recv 3",
        "i12 B1 <- i4 i11",
        "i13 recv 1",
        "i14 B0 <- i1 i13",
        "i15 step <- i14",
    ];
    let second = [
        "i16 load 0",
        "i17 recv 0",
        "i18 F0 <- i16 i17",
        "i19 load 1",
        "i20 recv 2",
        "i21 F1 <- i19 i20",
        "i22 load 2",
        "i23 recv 4",
        "i24 F2 <- i22 i23",
        "i25 B2 <- i24",
        "i26 send 5 Gradient 2 to 0 <- i25",
        "i27 B1 <- i21",
        "i28 send 3 Gradient 1 to 0 <- i27",
        "i29 B0 <- i18",
        "i30 send 1 Gradient 0 to 0 <- i29",
        "i31 step <- i29",
    ];
    assert_eq!(lists(&program), [first, second]);
}

#[test]
fn two_replicas_of_one_stage_reduce_once_after_two_micro_batches() {
    let program = program(false, std::slice::from_ref(&(0..4)), 2, Schedule::OneFOneB, 2);
    let first = [
        "i0 load 0",
        "i1 F0 <- i0",
        "i2 B0 <- i1",
        "i3 load 1",
        "i4 F1 <- i3",
        "i5 B1 <- i4",
        "i6 all-reduce 0 <- i5",
        "i7 step <- i5 i6",
    ];
    let second = [
        "i8 load 0",
        "i9 F0 <- i8",
        "i10 B0 <- i9",
        "i11 load 1",
        "i12 F1 <- i11",
        "i13 B1 <- i12",
        "i14 all-reduce 0 <- i13",
        "i15 step <- i13 i14",
    ];
    assert_eq!(lists(&program), [first, second]);
    let [group] = &program.groups[..] else { panic!("one group") };
    assert_eq!(group.ranks, [Rank(0), Rank(1)]);
    // embed 80, mid 72, head 80.
    assert_eq!((group.params.len(), group.bytes), (4, Bytes::new(4 * 232)));
    assert!(program.messages.is_empty());
}

#[test]
fn a_tied_parameter_spans_the_stages_of_a_replicated_pipeline() {
    let program = program(true, &[0..2, 2..4], 2, Schedule::OneFOneB, 1);
    let expected: [&[&str]; 4] = [
        &[
            "i0 load 0",
            "i1 F0 <- i0",
            "i2 send 0 Activation 0 to 2 <- i1",
            "i3 recv 1",
            "i4 B0 <- i1 i3",
            "i5 all-reduce 0 <- i4",
            "i6 all-reduce 1 <- i4",
            "i7 step <- i4 i5 i6",
        ],
        &[
            "i8 load 0",
            "i9 F0 <- i8",
            "i10 send 2 Activation 0 to 3 <- i9",
            "i11 recv 3",
            "i12 B0 <- i9 i11",
            "i13 all-reduce 0 <- i12",
            "i14 all-reduce 1 <- i12",
            "i15 step <- i12 i13 i14",
        ],
        &[
            "i16 load 0",
            "i17 recv 0",
            "i18 F0 <- i16 i17",
            "i19 B0 <- i18",
            "i20 send 1 Gradient 0 to 0 <- i19",
            "i21 all-reduce 1 <- i19",
            "i22 step <- i19 i21",
        ],
        &[
            "i23 load 0",
            "i24 recv 2",
            "i25 F0 <- i23 i24",
            "i26 B0 <- i25",
            "i27 send 3 Gradient 0 to 1 <- i26",
            "i28 all-reduce 1 <- i26",
            "i29 step <- i26 i28",
        ],
    ];
    assert_eq!(lists(&program), expected);
    let groups: Vec<(Vec<u32>, usize, u64)> = program
        .groups
        .iter()
        .map(|group| (group.ranks.iter().map(|rank| rank.0).collect(), group.params.len(), group.bytes.get()))
        .collect();
    // mid's weight and bias on the first stage; the embedding on all.
    assert_eq!(groups, [(vec![0, 1], 2, 4 * 72), (vec![0, 1, 2, 3], 1, 4 * 80)]);
}

#[test]
fn one_stage_on_one_device_only_computes() {
    let program = program(true, std::slice::from_ref(&(0..4)), 1, Schedule::FillDrain, 1);
    assert_eq!(lists(&program), [["i0 load 0", "i1 F0 <- i0", "i2 B0 <- i1", "i3 step <- i2"]]);
    assert!(program.groups.is_empty() && program.messages.is_empty());
}

#[test]
fn segments_and_messages_carry_what_crosses_the_cut() {
    let program = program(true, &[0..2, 2..4], 1, Schedule::OneFOneB, 1);
    // Values: tokens 0, targets 1, embed 2, mid 3, head 4, loss 5. Parameters: embed 0, mid 1 and 2.
    let values = |ids: &[usize]| ids.iter().copied().map(ValueId::new).collect::<Vec<_>>();
    let [first, second] = &program.segments[..] else { panic!("two segments") };
    assert_eq!((&first.inputs, &first.outputs), (&values(&[0]), &values(&[3])));
    assert_eq!((&second.inputs, &second.outputs), (&values(&[1, 3]), &values(&[5])));
    assert_eq!(first.params, [0, 1, 2].map(ParamId::new));
    assert_eq!(second.params, [ParamId::new(0)]);
    // 2 samples of 4 tokens of width 8 in f32.
    let [down, up] = &program.messages[..] else { panic!("two messages") };
    assert_eq!(
        (down.direction, down.from, down.to, down.bytes),
        (Direction::Activation, Rank(0), Rank(1), Bytes::new(256))
    );
    assert_eq!((up.direction, up.from, up.to, up.bytes), (Direction::Gradient, Rank(1), Rank(0), Bytes::new(256)));
    assert_eq!((&down.values, &up.values), (&values(&[3]), &values(&[3])));
}

#[test]
fn messages_are_as_long_as_the_precision_makes_them() {
    let model = model(true);
    let mut spec = cores(2, 1.0).spec().clone();
    for device in spec.device_models.values_mut() {
        device.peak_tflop_per_s.insert(Dtype::Bf16, 0.1);
    }
    let devices = DeviceGraph::build(spec).unwrap();
    let mut plan = plan(&model, &devices, &[0..2, 2..4], 1, Schedule::OneFOneB, 1);
    plan.workload.precision = Dtype::Bf16;
    let program = lower(&verify(&plan, &model, &devices).unwrap()).unwrap();
    assert_eq!(program.precision, Dtype::Bf16);
    // 2 samples of 4 tokens of width 8, 2 bytes each; gradients of the tied weight stay in f32: 10 by 8.
    assert_eq!(program.messages.iter().map(|message| message.bytes.get()).collect::<Vec<_>>(), [128, 128]);
    assert_eq!(program.groups[0].bytes, Bytes::new(4 * 80));
}

#[test]
fn the_forward_part_has_loads_passes_and_activations() {
    let program = program(true, &[0..2, 2..4], 1, Schedule::OneFOneB, 2).forward_only();
    check_program(&program).unwrap();
    let first = ["i0 load 0", "i1 F0 <- i0", "i2 send 0 Activation 0 to 1 <- i1"];
    let first = first.into_iter().chain(["i3 load 1", "i4 F1 <- i3", "i5 send 1 Activation 1 to 1 <- i4"]);
    let second = ["i6 load 0", "i7 recv 0", "i8 F0 <- i6 i7", "i9 load 1", "i10 recv 1", "i11 F1 <- i9 i10"];
    assert_eq!(lists(&program), [first.collect::<Vec<_>>(), second.to_vec()]);
    assert!(program.groups.is_empty());
}
