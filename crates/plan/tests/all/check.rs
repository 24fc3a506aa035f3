//! One failing example for each way in which a program could hang or go wrong: a good program with one thing broken.

use crate::common::{cores, model, plan};
use cutplane_plan::{
    Action, GroupId, InstructionId, MessageId, Program, ProgramError, Rank, Schedule, SyncGroup, check_program, lower,
    verify,
};

/// Two stages, two replicas, a tied parameter: groups {0, 1} and {0, 1, 2, 3}.
fn good() -> Program {
    let (model, devices) = (model(true), cores(4, 1.0));
    let plan = plan(&model, &devices, &[0..2, 2..4], 2, Schedule::OneFOneB, 1);
    lower(&verify(&plan, &model, &devices).unwrap()).unwrap()
}

fn broken(change: impl FnOnce(&mut Program)) -> ProgramError {
    let mut program = good();
    change(&mut program);
    check_program(&program).unwrap_err()
}

fn position(program: &Program, rank: usize, action: Action) -> usize {
    let found = program.ranks[rank].instructions.iter().position(|instruction| instruction.action == action);
    found.unwrap_or_else(|| panic!("rank {rank} has no {action:?}"))
}

fn send(message: u32) -> Action {
    Action::Send { message: MessageId(message) }
}

fn recv(message: u32) -> Action {
    Action::Recv { message: MessageId(message) }
}

fn all_reduce(group: u32) -> Action {
    Action::AllReduce { group: GroupId(group) }
}

#[test]
fn the_unchanged_program_passes() {
    assert_eq!(check_program(&good()), Ok(()));
}

#[test]
fn a_message_never_sent() {
    let error = broken(|program| {
        let at = position(program, 0, send(0));
        program.ranks[0].instructions.remove(at);
    });
    let (from, to) = (Rank(0), Rank(2));
    assert_eq!(error, ProgramError::UnmatchedMessage { message: MessageId(0), from, to, sends: 0, receives: 1 });
}

#[test]
fn a_message_received_twice() {
    let error = broken(|program| {
        let at = position(program, 2, recv(0));
        let again = program.ranks[2].instructions[at].clone();
        program.ranks[2].instructions.insert(at, again);
    });
    let (from, to) = (Rank(0), Rank(2));
    assert_eq!(error, ProgramError::UnmatchedMessage { message: MessageId(0), from, to, sends: 1, receives: 2 });
}

#[test]
fn a_stranger_sends_a_message() {
    let error = broken(|program| {
        let at = position(program, 0, send(0));
        program.ranks[0].instructions[at].action = send(2);
    });
    assert_eq!(error, ProgramError::Stranger { rank: Rank(0), what: "message 2".into() });
}

#[test]
fn a_stranger_joins_a_collective() {
    let error = broken(|program| {
        let at = position(program, 2, all_reduce(1));
        program.ranks[2].instructions[at].action = all_reduce(0);
    });
    assert_eq!(error, ProgramError::Stranger { rank: Rank(2), what: "group 0".into() });
}

#[test]
fn collectives_in_two_orders() {
    let error = broken(|program| {
        let (a, b) = (position(program, 0, all_reduce(0)), position(program, 0, all_reduce(1)));
        program.ranks[0].instructions[a].action = all_reduce(1);
        program.ranks[0].instructions[b].action = all_reduce(0);
    });
    assert_eq!(error, ProgramError::CollectiveOrder { first: Rank(0), second: Rank(1), group: GroupId(1) });
}

#[test]
fn a_collective_that_one_rank_leaves_out() {
    let error = broken(|program| {
        let at = position(program, 3, all_reduce(1));
        let removed = program.ranks[3].instructions.remove(at).id;
        for instruction in &mut program.ranks[3].instructions {
            instruction.depends_on.retain(|id| *id != removed);
        }
    });
    assert_eq!(error, ProgramError::CollectiveOrder { first: Rank(2), second: Rank(3), group: GroupId(1) });
}

#[test]
fn a_dependency_on_what_comes_later() {
    let error = broken(|program| program.ranks[0].instructions[1].depends_on.push(InstructionId(4)));
    assert_eq!(error, ProgramError::Dependency { rank: Rank(0), instruction: 1, dependency: 4 });
}

#[test]
fn a_dependency_on_another_rank() {
    let error = broken(|program| program.ranks[1].instructions[0].depends_on.push(InstructionId(0)));
    assert_eq!(error, ProgramError::Dependency { rank: Rank(1), instruction: 8, dependency: 0 });
}

#[test]
fn a_deadlock_of_messages_names_who_waits_for_what() {
    let error = broken(|program| {
        let (send, recv) = (position(program, 0, send(0)), position(program, 0, recv(1)));
        program.ranks[0].instructions.swap(send, recv);
    });
    let ProgramError::Deadlock { waiting } = &error else { panic!("{error}") };
    assert_eq!(
        *waiting,
        [
            "rank 0 waits for message 1 from rank 2",
            "rank 1 waits in group 0",
            "rank 2 waits for message 0 from rank 0",
            "rank 3 waits in group 1",
        ]
    );
}

#[test]
fn a_deadlock_of_collectives_that_no_pair_of_ranks_can_see() {
    // Each pair shares one group, so no two ranks disagree on an order; together they form a ring.
    let (model, devices) = (model(false), cores(3, 1.0));
    let plan = plan(&model, &devices, std::slice::from_ref(&(0..4)), 3, Schedule::FillDrain, 1);
    let mut program = lower(&verify(&plan, &model, &devices).unwrap()).unwrap();
    let group = |a: u32, b: u32| SyncGroup { ranks: vec![Rank(a), Rank(b)], ..program.groups[0].clone() };
    program.groups = vec![group(0, 1), group(1, 2), group(0, 2)];
    for (rank, [first, second]) in [[2, 0], [0, 1], [1, 2]].into_iter().enumerate() {
        let at = position(&program, rank, all_reduce(0));
        let list = &mut program.ranks[rank].instructions;
        let mut extra = list[at].clone();
        extra.id = InstructionId(100 + rank as u32);
        extra.action = all_reduce(second);
        list[at].action = all_reduce(first);
        list.insert(at + 1, extra);
    }
    let error = check_program(&program).unwrap_err();
    let ProgramError::Deadlock { waiting } = &error else { panic!("{error}") };
    assert_eq!(*waiting, ["rank 0 waits in group 2", "rank 1 waits in group 0", "rank 2 waits in group 1"]);
}
