//! The engine against timelines written out by hand, closed forms, and laws that hold for every timeline.

#![allow(clippy::unwrap_used, reason = "tests")]

mod closed_forms;
mod executions;
mod experts;
mod fake;
mod laws;
mod served;
mod step_goldens;
mod step_noise;
mod step_replicas;
mod step_support;

use cutplane_graph::DeviceKind::{Cpu, Gpu};
use cutplane_graph::Pass;
use cutplane_plan::Schedule::{FillDrain, OneFOneB};
use cutplane_plan::{lower, verify};
use cutplane_sim::cost::memory::{MemoryModel, predict_memory};
use cutplane_sim::engine::{SimError, simulate};

use fake::{Fake, chain, cluster, plan, run, run_batch, text};

#[test]
fn vanilla_model_parallelism_on_three_devices() {
    let (program, timeline) = run(&cluster(Cpu, &[3]), 3, 1, FillDrain, &Fake::default());
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-10, Rg0 10-70 w60, B0 70-90, O 90-90",
        "Ra0 0-10 w10, F0 10-20, Sa0 20-20, Rg0 20-50 w30, B0 50-70, Sg0 70-70, O 70-70",
        "L0 0-0, Ra0 0-20 w20, F0 20-30, B0 30-50, Sg0 50-50, O 50-50",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn fill_drain_on_two_devices() {
    let (program, timeline) = run(&cluster(Cpu, &[2]), 2, 2, FillDrain, &Fake::default());
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-10, L1 10-10, F1 10-20, Sa1 20-20, Rg1 20-50 w30, B1 50-70, Rg0 70-70, B0 70-90, O 90-90",
        "L0 0-0, Ra0 0-10 w10, F0 10-20, L1 20-20, Ra1 20-20, F1 20-30, B1 30-50, Sg1 50-50, B0 50-70, Sg0 70-70, O 70-70",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn one_f_one_b_on_two_devices() {
    let (program, timeline) = run(&cluster(Cpu, &[2]), 2, 3, OneFOneB, &Fake::default());
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-10, L1 10-10, F1 10-20, Sa1 20-20, Rg0 20-40 w20, B0 40-60, L2 60-60, F2 60-70, \
         Sa2 70-70, Rg1 70-70, B1 70-90, Rg2 90-100 w10, B2 100-120, O 120-120",
        "L0 0-0, Ra0 0-10 w10, F0 10-20, B0 20-40, Sg0 40-40, L1 40-40, Ra1 40-40, F1 40-50, B1 50-70, Sg1 70-70, \
         L2 70-70, Ra2 70-70, F2 70-80, B2 80-100, Sg2 100-100, O 100-100",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn unequal_stages() {
    // The second stage takes three times as long as the first.
    let op = |op, pass, _: &str| if pass == Pass::Forward { 10 } else { 20 } * if op == 1 { 3 } else { 1 };
    let (program, timeline) = run(&cluster(Cpu, &[2]), 2, 2, FillDrain, &Fake { op: Box::new(op), ..Fake::default() });
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-10, L1 10-10, F1 10-20, Sa1 20-20, Rg1 20-130 w110, B1 130-150, Rg0 150-190 w40, \
         B0 190-210, O 210-210",
        "L0 0-0, Ra0 0-10 w10, F0 10-40, L1 40-40, Ra1 40-40, F1 40-70, B1 70-130, Sg1 130-130, B0 130-190, \
         Sg0 190-190, O 190-190",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn a_message_costs_the_sender_the_wire_and_the_receiver() {
    // Two hosts, 4 samples of 32 bytes over 1 byte a nanosecond.
    let cost = Fake { send: 1, recv: 2, latency: 5, wire: true, ..Fake::default() };
    let (program, timeline) = run_batch(&cluster(Cpu, &[1, 1]), 2, 1, 4, FillDrain, &cost);
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-11, Rg0 11-312 w299, B0 312-332, O 332-332",
        "L0 0-0, Ra0 0-146 w144, F0 146-156, B0 156-176, Sg0 176-177, O 177-177",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn data_parallel_ranks_meet_in_the_all_reduce() {
    // The second device is half as fast.
    let op = |_, pass, device: &str| if pass == Pass::Forward { 10 } else { 20 } * if device == "d1" { 2 } else { 1 };
    let cost = Fake { op: Box::new(op), all_reduce: 50, optimizer: 7, ..Fake::default() };
    let (program, timeline) = run(&cluster(Cpu, &[2]), 1, 1, FillDrain, &cost);
    let expected =
        ["L0 0-0, F0 0-10, B0 10-30, A 30-110 w30, O 110-117", "L0 0-0, F0 0-20, B0 20-60, A 60-110, O 110-117"];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn two_flows_that_start_together_share_a_link_equally() {
    // Two replicas of two stages; both messages of 320 bytes cross the one link between the hosts.
    let cost = Fake { wire: true, ..Fake::default() };
    let (program, timeline) = run_batch(&cluster(Cpu, &[2, 2]), 2, 1, 10, FillDrain, &cost);
    let first = "L0 0-0, F0 0-10, Sa0 10-10, Rg0 10-1320 w1310, B0 1320-1340, A 1340-1340, O 1340-1340";
    let second = "L0 0-0, Ra0 0-650 w650, F0 650-660, B0 660-680, Sg0 680-680, A 680-680, O 680-680";
    assert_eq!(text(&program, &timeline), [first, first, second, second]);
}

#[test]
fn a_flow_speeds_up_when_the_other_ends() {
    // The second replica starts its message 100 ns later. First: 100 bytes alone, 220 at half rate, there after 540 ns.
    // Second: 220 bytes until then, the last 100 alone.
    let op = |op, pass, device: &str| match (op, pass, device) {
        (0, Pass::Forward, "d1") => 110,
        (0, Pass::Forward, _) => 10,
        _ => 0,
    };
    let cost = Fake { op: Box::new(op), wire: true, ..Fake::default() };
    let (program, timeline) = run_batch(&cluster(Cpu, &[2, 2]), 2, 1, 10, FillDrain, &cost);
    let lines = text(&program, &timeline);
    assert!(lines[2].starts_with("L0 0-0, Ra0 0-550 w550, F0 550-550"), "{}", lines[2]);
    assert!(lines[3].starts_with("L0 0-0, Ra0 0-650 w650, F0 650-650"), "{}", lines[3]);
}

#[test]
fn an_all_reduce_and_a_message_share_a_link_equally() {
    // The second stage spans both hosts: its all-reduce (100 ns alone) and the second replica's gradient (320 bytes) start
    // together at 360. Half the rate each: the all-reduce ends at 560, and the other 220 bytes go alone.
    let cost = Fake { wire: true, all_reduce: 100, ..Fake::default() };
    let (program, timeline) = run_batch(&cluster(Cpu, &[3, 1]), 2, 1, 10, FillDrain, &cost);
    let expected = [
        "L0 0-0, F0 0-10, Sa0 10-10, Rg0 10-42 w32, B0 42-62, A 62-900 w738, O 900-900",
        "L0 0-0, F0 0-10, Sa0 10-10, Rg0 10-780 w770, B0 780-800, A 800-900, O 900-900",
        "L0 0-0, Ra0 0-11 w11, F0 11-21, B0 21-41, Sg0 41-41, A 41-560 w319, O 560-560",
        "L0 0-0, Ra0 0-330 w330, F0 330-340, B0 340-360, Sg0 360-360, A 360-560, O 560-560",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn busy_neighbours_slow_each_other_down_only_while_both_are_busy() {
    // Factor 2 while both compute. The second device has three times the work: when the first is through with its 30 ns
    // (at 60), the second has done 30 of its 90, and does the other 60 alone.
    let op = |_, pass, device: &str| if pass == Pass::Forward { 10 } else { 20 } * if device == "d1" { 3 } else { 1 };
    let cost = Fake { op: Box::new(op), contention: 1.0, ..Fake::default() };
    let (program, timeline) = run(&cluster(Cpu, &[2]), 1, 1, FillDrain, &cost);
    let expected =
        ["L0 0-0, F0 0-20, B0 20-60, A 60-120 w60, O 120-120", "L0 0-0, F0 0-60, B0 60-120, A 120-120, O 120-120"];
    assert_eq!(text(&program, &timeline), expected);
    // On two hosts nobody is slowed down.
    let (program, timeline) = run(&cluster(Cpu, &[1, 1]), 1, 1, FillDrain, &cost);
    assert!(text(&program, &timeline)[1].starts_with("L0 0-0, F0 0-30, B0 30-90"));
}

#[test]
fn an_accelerator_sends_while_it_computes() {
    let cost = Fake { send: 5, recv: 3, ..Fake::default() };
    let (program, timeline) = run(&cluster(Gpu, &[2]), 2, 2, FillDrain, &cost);
    // Receives are posted as soon as their queue is free; what they wait for is in `w`.
    let expected = [
        "L0 0-0, F0 0-10, Rg1 0-66 w63, Sa0 10-15, L1 10-10, F1 10-20, Sa1 20-25, B1 66-86, Rg0 66-86 w17, B0 86-106, \
         O 106-106",
        "L0 0-0, Ra0 0-18 w15, F0 18-28, Ra1 18-28 w7, L1 28-28, F1 28-38, B1 38-58, Sg1 58-63, B0 58-78, Sg0 78-83, \
         O 78-78",
    ];
    assert_eq!(text(&program, &timeline), expected);
}

#[test]
fn a_program_of_another_plan_is_refused() {
    let (devices, model) = (cluster(Cpu, &[2]), chain(2));
    let (one, two) = (plan(&model, &devices, 2, 1, 1, FillDrain), plan(&model, &devices, 2, 2, 1, FillDrain));
    let program = lower(&verify(&one, &model, &devices).unwrap()).unwrap();
    let verified = verify(&two, &model, &devices).unwrap();
    let error = simulate(&verified, &program, &Fake::default(), MemoryModel::Framework).unwrap_err();
    assert!(matches!(error, SimError::ForeignProgram { .. }), "{error}");
}

#[test]
fn a_program_that_cannot_end_is_an_error() {
    let (devices, model) = (cluster(Cpu, &[2]), chain(2));
    let plan = plan(&model, &devices, 2, 1, 1, FillDrain);
    let verified = verify(&plan, &model, &devices).unwrap();
    let mut program = lower(&verified).unwrap();
    // The first rank waits for the gradient before it sends the activation.
    program.ranks[0].instructions.swap(2, 3);
    let error = simulate(&verified, &program, &Fake::default(), MemoryModel::Framework).unwrap_err();
    let expected = "deadlock: rank 0 never finishes its instruction 'recv': check the program with `check_program`";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_schedule_decides_how_many_micro_batches_are_held() {
    let (devices, model) = (cluster(Cpu, &[3]), chain(3));
    for (schedule, expected) in [(FillDrain, [5, 5, 5]), (OneFOneB, [3, 2, 1])] {
        let plan = plan(&model, &devices, 3, 5, 1, schedule);
        let verified = verify(&plan, &model, &devices).unwrap();
        let program = lower(&verified).unwrap();
        let ranks = predict_memory(&verified, &program, MemoryModel::Framework).unwrap();
        assert_eq!(ranks.iter().map(|rank| rank.in_flight).collect::<Vec<_>>(), expected);
        let timeline = simulate(&verified, &program, &Fake::default(), MemoryModel::Framework).unwrap();
        assert_eq!(timeline.peak_memory, ranks.iter().map(|rank| rank.total).collect::<Vec<_>>());
        // The first stage: 72 parameters of 16 bytes; input and output of each micro-batch, 32 bytes each; workspace for
        // the gradients of both.
        let first = 72 * 16 + 64 * expected[0] + 64;
        assert_eq!(timeline.peak_memory[0].get(), first);
    }
}
