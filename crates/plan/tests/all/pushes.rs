//! Servers that take gradients as they come: what ranks do for them, and the rules by which they answer.

use std::collections::BTreeMap;

use crate::common::{cores, model, plan};
use crate::executions::{deeds, lowered, made, synchronised};
use cutplane_graph::Dtype;
use cutplane_plan::{
    Action, Execution, GroupId, Program, ProgramError, Push, PushLedger, Rank, Recompute, Schedule, Synchronisation,
    TensorSplit, check_program, lower, verify,
};
use cutplane_units::Bytes;
use proptest::prelude::*;

const STALE: Synchronisation = Synchronisation::StaleServer { bound: 1 };

fn pushed(how: Synchronisation, replicas: usize, micro_batches: u64) -> Program {
    let execution = synchronised(how, Recompute::None);
    lowered(std::slice::from_ref(&(0..4)), (1, replicas), (Schedule::OneFOneB, micro_batches), execution)
}

#[test]
fn workers_push_after_each_micro_batch_and_pull_before_the_next() {
    let program = pushed(STALE, 2, 3);
    let worker = [
        "load 0",
        "F0",
        "B0",
        "push 0 0",
        "pull 0 1 of 0",
        "load 1",
        "F1",
        "B1",
        "push 0 1",
        "pull 0 2 of 1",
        "load 2",
        "F2",
        "B2",
        "push 0 2",
        "pull 0 3 of 3",
    ];
    assert_eq!(deeds(&program, 1), worker);
    let served = deeds(&program, 0);
    assert_eq!(served[..5], ["serve 0", "load 0", "F0", "serve 0", "B0"]);
    assert_eq!(served.iter().filter(|deed| *deed == "serve 0").count(), 6);
    assert_eq!(program.accumulated, 1);
    let needs = |how| {
        let actions = pushed(how, 2, 3).ranks[1].instructions.iter().map(|i| i.action).collect::<Vec<_>>();
        actions.into_iter().filter_map(|action| match action {
            Action::Pull { needs, .. } => Some(needs),
            _ => None,
        })
    };
    assert!(needs(Synchronisation::AsynchronousServer).eq([0, 0, 3]));
    assert!(needs(Synchronisation::StaleServer { bound: 0 }).eq([1, 2, 3]));
}

#[test]
fn buckets_have_servers_of_their_own() {
    let execution = Execution { bucket_bytes: Some(Bytes::new(1)), ..synchronised(STALE, Recompute::None) };
    let program = lowered(std::slice::from_ref(&(0..4)), (1, 2), (Schedule::OneFOneB, 2), execution);
    let serves = |rank: usize| deeds(&program, rank).iter().any(|deed| deed.starts_with("serve"));
    assert!(program.groups.len() > 1 && serves(0) && serves(1));
}

fn refusal(change: impl FnOnce(&mut cutplane_plan::Plan), rows: usize, replicas: usize) -> String {
    let (model, whole, halves) = (model(false), 0..4, [0..2, 2..4]);
    let stages = if rows == 1 { std::slice::from_ref(&whole) } else { &halves[..] };
    let execution = synchronised(STALE, Recompute::None);
    let (mut plan, devices) = made((&model, stages), (rows, replicas), (Schedule::OneFOneB, 2), execution);
    change(&mut plan);
    let found = verify(&plan, &model, &devices).map(|_| ()).unwrap_err();
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_has_no_meaning_with_pushes_is_refused() {
    assert!(refusal(|_| (), 1, 1).contains("is for several replicas"));
    assert!(refusal(|_| (), 2, 2).contains("several stages"));
    let tensor = Some(TensorSplit { degree: 2, splits: BTreeMap::new() });
    assert!(refusal(|plan| plan.execution.tensor = tensor, 1, 4).contains("tensor axis"));
    assert!(refusal(|plan| plan.schedule = Schedule::FillDrain, 1, 2).contains("choose the schedule 1f1b"));
    assert!(refusal(|plan| plan.workload.precision = Dtype::F16, 1, 2).contains("choose bf16 or f32"));
}

#[test]
fn a_pull_that_needs_more_than_is_pushed_is_a_deadlock() {
    let mut program = pushed(STALE, 2, 2);
    assert_eq!(check_program(&program), Ok(()));
    for instruction in &mut program.ranks[1].instructions {
        if let Action::Pull { needs, .. } = &mut instruction.action {
            *needs = 2;
        }
    }
    let error = check_program(&program).unwrap_err();
    let waiting =
        vec!["rank 0 waits for the server of group 0".into(), "rank 1 waits for the server of group 0".into()];
    assert_eq!(error, ProgramError::Deadlock { waiting });
}

#[test]
fn a_stranger_to_a_server_is_refused() {
    let (model, devices) = (model(true), cores(4, 1.0));
    let plan = plan(&model, &devices, &[0..2, 2..4], 2, Schedule::OneFOneB, 1);
    let mut program = lower(&verify(&plan, &model, &devices).unwrap()).unwrap();
    let alien = program.groups.iter().position(|group| !group.ranks.contains(&Rank(3))).unwrap();
    program.ranks[3].instructions[0].action = Action::Serve { group: GroupId(alien as u32) };
    let error = check_program(&program).unwrap_err();
    assert_eq!(error, ProgramError::Stranger { rank: Rank(3), what: format!("group {alien}") });
}

/// Lets pushes arrive in an order that `choices` picks, as workers may make them, until nobody has any left.
fn play(bound: Option<u64>, workers: usize, clocks: u64, choices: &[usize]) -> PushLedger {
    let needs = |clock: u64| match bound {
        _ if clock == clocks => clocks,
        None => 0,
        Some(bound) => clock.saturating_sub(bound),
    };
    let mut server = PushLedger::of_needs(&(1..=clocks).map(needs).collect::<Vec<_>>(), workers as u32);
    for turn in 0.. {
        let ready: Vec<usize> = (0..workers).filter(|place| server.expects(*place)).collect();
        if ready.is_empty() {
            break;
        }
        server.take(ready[choices[turn % choices.len()] % ready.len()]);
        // A server does not look after every push.
        if choices[(turn + 1) % choices.len()].is_multiple_of(3) || (0..workers).all(|place| !server.expects(place)) {
            server.answer();
        }
    }
    server
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order pushes come: all are applied once, nobody computes with parameters that lack more than the bound
    /// allows, and without a bound somebody may be ahead by all that there is.
    #[test]
    fn no_worker_is_further_ahead_than_the_bound(
        bound in prop::option::of(0u64..4),
        workers in 2usize..5,
        clocks in 1u64..6,
        choices in prop::collection::vec(0usize..60, 1..40),
    ) {
        let server = play(bound, workers, clocks, &choices);
        let pushes = server.pushes();
        prop_assert_eq!(pushes.len() as u64, workers as u64 * clocks);
        for worker in 0..workers as u32 {
            let own: Vec<_> = pushes.iter().filter(|push| push.worker == Rank(worker)).collect();
            prop_assert!(own.iter().map(|push| push.clock).eq(0..clocks));
            prop_assert!(own.windows(2).all(|pair| pair[0].read < pair[1].read), "parameters move on");
        }
        let most = bound.unwrap_or(clocks);
        prop_assert!(pushes.iter().all(|push| push.lead() <= most && push.read <= push.before));
        if bound == Some(0) {
            // Every update is that of a whole round, from the parameters before it.
            prop_assert!(pushes.iter().all(|push| push.staleness() == 0 && push.before == push.clock * workers as u64));
        }
    }
}

#[test]
fn without_a_bound_a_worker_may_be_ahead_by_all_that_there_is() {
    let mut server = PushLedger::of_needs(&[0, 0, 0, 4], 2);
    for _ in 0..3 {
        server.take(1);
        assert_eq!(server.answer().unwrap().readers, [1]);
    }
    server.take(1);
    assert_eq!(server.answer(), None);
    (0..4).for_each(|_| {
        server.take(0);
        server.answer();
    });
    let pushes = server.pushes();
    assert_eq!(pushes.iter().map(Push::lead).max(), Some(3));
    let straggler = pushes.iter().find(|push| push.worker == Rank(0)).unwrap();
    assert_eq!((straggler.read, straggler.before, straggler.staleness()), (0, 3, 3));
}
