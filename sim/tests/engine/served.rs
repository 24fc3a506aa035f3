//! Servers that take gradients as they come, in virtual time, against timelines by hand and laws of bounded staleness.

use cutplane_graph::DeviceKind::Cpu;
use cutplane_graph::Pass;
use cutplane_plan::Schedule::OneFOneB;
use cutplane_plan::{Action, Execution, Plan, Program, Synchronisation, lower, verify};
use cutplane_record::Timeline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;
use cutplane_units::Bytes;

use crate::fake::{Fake, chain, cluster, plan, text};

fn served(how: Synchronisation, workers: usize, micro_batches: u64, cost: &Fake) -> (Program, Timeline) {
    let execution = Execution { synchronisation: how, ..Execution::default() };
    executed(execution, workers, micro_batches, cost)
}

fn executed(execution: Execution, workers: usize, micro_batches: u64, cost: &Fake) -> (Program, Timeline) {
    let (model, devices) = (chain(2), cluster(Cpu, &[workers]));
    let plan = Plan { execution, ..plan(&model, &devices, 1, micro_batches, 1, OneFOneB) };
    let verified = verify(&plan, &model, &devices).unwrap();
    let program = lower(&verified).unwrap();
    let timeline = simulate(&verified, &program, cost, MemoryModel::Framework).unwrap();
    (program, timeline)
}

/// Two layers: 20 ns forward and 40 back, on the second device three times as long.
fn uneven() -> Fake {
    let op = |_, pass, device: &str| if pass == Pass::Forward { 10 } else { 20 } * if device == "d1" { 3 } else { 1 };
    Fake { op: Box::new(op), ..Fake::default() }
}

#[test]
fn a_server_takes_a_push_at_its_next_instruction_and_while_it_waits() {
    // Taking costs 2 and handing out 3; the parameters are updated in 5.
    let cost = Fake { recv: 2, send: 3, optimizer: 5, ..uneven() };
    let (program, timeline) = served(Synchronisation::AsynchronousServer, 2, 2, &cost);
    let lines = text(&program, &timeline);
    // Alone with its gradients the server updates (5) and goes on at once; at 125 it waits for the other, whose push of 180
    // comes at 183, is taken (2), applied with its own (5) and answered (3); that of 375 likewise.
    let server = "O 0-0, L0 0-0, F0 0-20, O 20-20, B0 20-60, O 60-60, O 60-65, O 65-65, L1 65-65, F1 65-85, O 85-85, \
                  B1 85-125, O 125-125, O 125-388 w243";
    assert_eq!(lines[0], server);
    let worker = "L0 0-0, F0 0-60, B0 60-180, O 180-183, O 183-195 w10, L1 195-195, F1 195-255, B1 255-375, O 375-378, \
                  O 378-390 w10";
    assert_eq!(lines[1], worker);
}

#[test]
fn a_bound_makes_the_fast_wait_for_the_slow() {
    let fast_waits = |timeline: &Timeline, program: &Program| -> u64 {
        let last = program.ranks[0].instructions.last().unwrap().id;
        let pulls =
            program.ranks[0].instructions.iter().filter(|i| matches!(i.action, Action::Pull { .. }) && i.id != last);
        let ids: Vec<_> = pulls.map(|instruction| instruction.id).collect();
        timeline.spans.iter().filter(|span| ids.contains(&span.instruction)).map(|span| span.waited.get()).sum()
    };
    let waits = [0u32, 1, 3].map(|bound| {
        let (program, timeline) = served(Synchronisation::StaleServer { bound }, 2, 6, &uneven());
        fast_waits(&timeline, &program)
    });
    assert!(waits.windows(2).all(|pair| pair[0] > pair[1]), "{waits:?}");
    let (program, free) = served(Synchronisation::AsynchronousServer, 2, 6, &uneven());
    assert_eq!(fast_waits(&free, &program), 0);
    // The step ends with the slowest whatever the bound.
    let bound = served(Synchronisation::StaleServer { bound: 0 }, 2, 6, &uneven()).1;
    assert_eq!(free.makespan(), bound.makespan());
}

#[test]
fn without_a_bound_to_spare_the_step_is_that_of_the_synchronous_server() {
    let synchronous = served(Synchronisation::ParameterServer, 4, 1, &uneven()).1;
    let bound = served(Synchronisation::StaleServer { bound: 0 }, 4, 1, &uneven()).1;
    assert_eq!(bound.makespan(), synchronous.makespan());
}

#[test]
fn several_servers_serve_while_they_wait_for_each_other() {
    let execution = Execution {
        synchronisation: Synchronisation::StaleServer { bound: 1 },
        bucket_bytes: Some(Bytes::new(1)),
        ..Execution::default()
    };
    let cost = Fake { send: 1, recv: 1, wire: true, latency: 2, optimizer: 3, ..uneven() };
    let (program, timeline) = executed(execution, 3, 4, &cost);
    assert!(program.groups.len() > 1);
    assert_eq!(timeline.spans.len(), program.instruction_count());
}
