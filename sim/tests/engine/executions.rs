//! What plans ask beyond stages and schedules, priced.

use cutplane_graph::DeviceKind::{self, Cpu, Gpu};
use cutplane_plan::Schedule::OneFOneB;
use cutplane_plan::{Action, Execution, OpSet, Rank, Synchronisation, TensorSplit, lower, verify};
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;

use crate::fake::{Fake, WIDTH, chain, cluster, plan};

/// Times of the optimizer on two replicas of one layer of 72 numbers, 1 ns each.
fn updates(synchronisation: Synchronisation) -> Vec<u64> {
    let (model, devices) = (chain(1), cluster(Cpu, &[2]));
    let execution = Execution { synchronisation, ..Execution::default() };
    let plan = cutplane_plan::Plan { execution, ..plan(&model, &devices, 1, 1, 1, OneFOneB) };
    let verified = verify(&plan, &model, &devices).unwrap();
    let program = lower(&verified).unwrap();
    let cost = Fake { update: 1, ..Fake::default() };
    let timeline = simulate(&verified, &program, &cost, MemoryModel::Framework).unwrap();
    let step = |rank: usize| {
        let list = &program.ranks[rank].instructions;
        let step = list.iter().find(|instruction| matches!(instruction.action, Action::OptimizerStep)).unwrap().id;
        let span = timeline.rank_spans(Rank(rank as u32)).find(|span| span.instruction == step).unwrap();
        (span.end - span.start).get()
    };
    (0..2).map(step).collect()
}

#[test]
fn ranks_that_divide_the_update_take_their_share_of_its_time() {
    assert_eq!(updates(Synchronisation::AllReduce), [72, 72]);
    assert_eq!(updates(Synchronisation::Zero1), [36, 36]);
    assert_eq!(updates(Synchronisation::Zero2), [36, 36]);
    let mut served = updates(Synchronisation::ParameterServer);
    served.sort_unstable();
    assert_eq!(served, [0, 72]);
}

/// The step of four layers on a device, 10 ns forward and 20 back each, and 1 ns of the update for each of their 72 numbers.
fn frozen_step(layers: usize) -> u64 {
    let (model, devices) = (chain(4), cluster(Cpu, &[1]));
    let execution = Execution { frozen: OpSet::range(0, layers), ..Execution::default() };
    let plan = cutplane_plan::Plan { execution, ..plan(&model, &devices, 1, 1, 1, OneFOneB) };
    let verified = verify(&plan, &model, &devices).unwrap();
    let program = lower(&verified).unwrap();
    let cost = Fake { update: 1, ..Fake::default() };
    simulate(&verified, &program, &cost, MemoryModel::Framework).unwrap().makespan().get()
}

#[test]
fn frozen_layers_before_those_that_are_trained_cost_their_forward_pass_alone() {
    assert_eq!([0, 1, 3].map(frozen_step), [4 * (30 + 72), 4 * 10 + 3 * (20 + 72), 4 * 10 + 20 + 72]);
}

/// The step of a column and a row split over two devices, when a copy takes 1 ns a byte.
fn split_step(kind: DeviceKind, copy: u64) -> u64 {
    let (model, devices) = (chain(2), cluster(kind, &[2]));
    let mut plan = plan(&model, &devices, 1, 1, 1, OneFOneB);
    plan.workload.global_batch = 1;
    plan.execution.tensor = Some(TensorSplit::tensor(&model, 2, false));
    let verified = verify(&plan, &model, &devices).unwrap();
    let program = lower(&verified).unwrap();
    let cost = Fake { copy, all_reduce: 7, ..Fake::default() };
    simulate(&verified, &program, &cost, MemoryModel::Framework).unwrap().makespan().get()
}

#[test]
fn a_core_copies_values_into_and_out_of_an_exchange() {
    let loaded = 4 * WIDTH + 4;
    let exchanged = 4 * WIDTH;
    assert_eq!(split_step(Cpu, 1) - split_step(Cpu, 0), loaded + 2 * exchanged);
    // A card loads beside its work, and so do its exchanges.
    assert!(split_step(Gpu, 1) - split_step(Gpu, 0) <= loaded);
}
