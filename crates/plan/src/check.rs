//! The deadlock check: can every rank of a program run to its end?
//!
//! Sends and pushes do not wait; receives wait for their send; a collective waits until every rank of its group has reached it,
//! a pull until every rank of its group has pushed as often as it needs: a server serves whatever it waits for.
//! Under these rules the order in which ranks advance does not matter, so running the program once without a clock
//! decides it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::program::{Action, GroupId, MessageId, Program, Rank};

/// Why a program could not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// A message that is not sent exactly once by its sender and received exactly once by its receiver.
    #[error("{message} from {from} to {to} is sent {sends} times and received {receives} times")]
    UnmatchedMessage {
        /// The message.
        message: MessageId,
        /// Its sender.
        from: Rank,
        /// Its receiver.
        to: Rank,
        /// Sends by the sender.
        sends: usize,
        /// Receives by the receiver.
        receives: usize,
    },
    /// An instruction of a rank that is not part of the message or group.
    #[error("{rank} takes part in {what}, which it does not belong to")]
    Stranger {
        /// The rank.
        rank: Rank,
        /// The message or group.
        what: String,
    },
    /// Two ranks issue the collectives that they share in different orders.
    #[error("{first} and {second} disagree on the order of {group}")]
    CollectiveOrder {
        /// One rank.
        first: Rank,
        /// The other.
        second: Rank,
        /// The group where they part.
        group: GroupId,
    },
    /// An instruction that depends on a later one, or on one of another rank.
    #[error("{rank}: instruction {instruction} depends on {dependency}, which does not come before it")]
    Dependency {
        /// The rank.
        rank: Rank,
        /// The instruction.
        instruction: u32,
        /// What it depends on.
        dependency: u32,
    },
    /// Ranks that wait for each other for ever.
    #[error("deadlock: {}", waiting.join("; "))]
    Deadlock {
        /// What each stuck rank waits for.
        waiting: Vec<String>,
    },
}

/// Checks that a program can run to its end.
///
/// # Errors
/// The first [`ProgramError`] found.
pub fn check_program(program: &Program) -> Result<(), ProgramError> {
    check_dependencies(program)?;
    check_messages(program)?;
    check_collective_order(program)?;
    check_progress(program)
}

fn check_dependencies(program: &Program) -> Result<(), ProgramError> {
    for rank in &program.ranks {
        let mut seen = BTreeSet::new();
        for instruction in &rank.instructions {
            if let Some(missing) = instruction.depends_on.iter().find(|id| !seen.contains(*id)) {
                let (instruction, dependency) = (instruction.id.0, missing.0);
                return Err(ProgramError::Dependency { rank: rank.rank, instruction, dependency });
            }
            seen.insert(instruction.id);
        }
    }
    Ok(())
}

fn check_messages(program: &Program) -> Result<(), ProgramError> {
    let mut counts = vec![(0usize, 0usize); program.messages.len()];
    for rank in &program.ranks {
        for instruction in &rank.instructions {
            let (message, sending) = match instruction.action {
                Action::Send { message } => (message, true),
                Action::Recv { message } => (message, false),
                _ => continue,
            };
            let facts = program.message(message);
            if rank.rank != if sending { facts.from } else { facts.to } {
                return Err(ProgramError::Stranger { rank: rank.rank, what: message.to_string() });
            }
            let count = &mut counts[message.index()];
            if sending { count.0 += 1 } else { count.1 += 1 }
        }
    }
    match counts.iter().position(|count| *count != (1, 1)) {
        None => Ok(()),
        Some(index) => {
            let message = MessageId(index as u32);
            let (sends, receives) = counts[index];
            let facts = program.message(message);
            Err(ProgramError::UnmatchedMessage { message, from: facts.from, to: facts.to, sends, receives })
        }
    }
}

/// The collectives that a rank takes part in, in order: which group, and what it does.
fn collectives(program: &Program, rank: usize) -> impl Iterator<Item = (GroupId, &'static str)> + '_ {
    let actions = program.ranks[rank].instructions.iter().map(|instruction| instruction.action);
    actions.filter_map(|action| action.collective().map(|group| (group, action.label())))
}

fn check_collective_order(program: &Program) -> Result<(), ProgramError> {
    for rank in 0..program.ranks.len() {
        let id = Rank(rank as u32);
        let served = program.ranks[rank].instructions.iter().filter_map(|instruction| instruction.action.served());
        let mut groups = collectives(program, rank).map(|(group, _)| group).chain(served);
        if let Some(group) = groups.find(|group| !program.group(*group).ranks.contains(&id)) {
            return Err(ProgramError::Stranger { rank: id, what: group.to_string() });
        }
    }
    let pairs = program.groups.iter().flat_map(|group| group.ranks.windows(2).map(|pair| (pair[0], pair[1])));
    for (first, second) in pairs.collect::<BTreeSet<_>>() {
        let shared = |mine: Rank, other: Rank| -> Vec<(GroupId, &str)> {
            let both = |(group, _): &(GroupId, &str)| program.group(*group).ranks.contains(&other);
            collectives(program, mine.index()).filter(both).collect()
        };
        let (a, b) = (shared(first, second), shared(second, first));
        if a != b {
            let parted = a.iter().zip(&b).find(|(x, y)| x != y).map(|(x, _)| *x);
            let parted = parted.or_else(|| a.get(b.len()).copied()).or_else(|| b.get(a.len()).copied());
            let group = parted.map_or(GroupId(0), |(group, _)| group);
            return Err(ProgramError::CollectiveOrder { first, second, group });
        }
    }
    Ok(())
}

/// What has been sent, and who has come to which round of which group.
#[derive(Default)]
struct Progress {
    sent: BTreeSet<MessageId>,
    reached: BTreeMap<(GroupId, usize), BTreeSet<Rank>>,
    rounds: BTreeMap<(GroupId, Rank), usize>,
    pushes: BTreeMap<(GroupId, Rank), u64>,
}

impl Progress {
    /// Whether `rank` can do `action` now, and whether trying has changed anything for others.
    fn attempt(&mut self, program: &Program, rank: Rank, action: Action) -> (bool, bool) {
        match action {
            Action::Recv { message } => (self.sent.contains(&message), false),
            Action::Send { message } => (true, self.sent.insert(message)),
            Action::Push { group, .. } => {
                *self.pushes.entry((group, rank)).or_default() += 1;
                (true, true)
            }
            Action::Pull { group, needs, .. } => {
                let pushes = |rank: &Rank| self.pushes.get(&(group, *rank)).copied().unwrap_or(0);
                (program.group(group).ranks.iter().all(|rank| pushes(rank) >= needs), false)
            }
            other => other.collective().map_or((true, false), |group| self.meet(program, rank, group)),
        }
    }

    fn meet(&mut self, program: &Program, rank: Rank, group: GroupId) -> (bool, bool) {
        let round = self.rounds.entry((group, rank)).or_default();
        let there = self.reached.entry((group, *round)).or_default();
        let new = there.insert(rank);
        let complete = there.len() == program.group(group).ranks.len();
        *round += usize::from(complete);
        (complete, new)
    }
}

fn check_progress(program: &Program) -> Result<(), ProgramError> {
    let mut next = vec![0usize; program.ranks.len()];
    let mut progress = Progress::default();
    loop {
        let mut moved = false;
        for rank in &program.ranks {
            let at = &mut next[rank.rank.index()];
            while let Some(instruction) = rank.instructions.get(*at) {
                let (passes, changed) = progress.attempt(program, rank.rank, instruction.action);
                moved |= changed;
                if !passes {
                    break;
                }
                *at += 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let waiting: Vec<String> = program
        .ranks
        .iter()
        .filter_map(|rank| rank.instructions.get(next[rank.rank.index()]).map(|stuck| (rank.rank, stuck.action)))
        .map(|(rank, action)| match action {
            Action::Recv { message } => format!("{rank} waits for {message} from {}", program.message(message).from),
            other => match other.collective() {
                Some(group) => format!("{rank} waits in {group}"),
                None => match other.served() {
                    Some(group) => format!("{rank} waits for the server of {group}"),
                    None => format!("{rank} waits in {}", other.label()),
                },
            },
        })
        .collect();
    if waiting.is_empty() { Ok(()) } else { Err(ProgramError::Deadlock { waiting }) }
}
