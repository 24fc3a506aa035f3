//! The forward part of a program: inference.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::{Action, Direction, Instruction, InstructionId, MessageId, Program, RankProgram};

impl Program {
    /// The same partition running forward only: loads, forward passes and messages of activations, in the program's order;
    /// instructions and messages are numbered anew. A rank that it is executed on keeps nothing for a backward pass.
    #[must_use]
    pub fn forward_only(&self) -> Self {
        let activation = |id: &usize| self.messages[*id].direction == Direction::Activation;
        let kept: Vec<usize> = (0..self.messages.len()).filter(activation).collect();
        let number = |(new, old): (usize, &usize)| (MessageId(*old as u32), MessageId(new as u32));
        let messages: BTreeMap<MessageId, MessageId> = kept.iter().enumerate().map(number).collect();
        let mut next = 0;
        let ranks = self.ranks.iter().map(|rank| forward_rank(rank, &messages, &mut next)).collect();
        Self {
            messages: kept.into_iter().map(|id| self.messages[id].clone()).collect(),
            // Only exchanges over a tensor axis meet in a group.
            groups: if self.tensor.is_some() { self.groups.clone() } else { Vec::new() },
            ranks,
            ..self.clone()
        }
    }
}

fn forward_rank(rank: &RankProgram, messages: &BTreeMap<MessageId, MessageId>, next: &mut u32) -> RankProgram {
    let action = |action: Action| match action {
        Action::Load { .. } | Action::Forward { .. } | Action::Exchange { direction: Direction::Activation, .. } => {
            Some(action)
        }
        Action::Send { message } => messages.get(&message).map(|message| Action::Send { message: *message }),
        Action::Recv { message } => messages.get(&message).map(|message| Action::Recv { message: *message }),
        _ => None,
    };
    let mut numbers: BTreeMap<InstructionId, InstructionId> = BTreeMap::new();
    let mut instructions = Vec::new();
    for instruction in &rank.instructions {
        let Some(action) = action(instruction.action) else { continue };
        let id = InstructionId(*next);
        *next += 1;
        let depends_on: BTreeSet<InstructionId> =
            instruction.depends_on.iter().filter_map(|old| numbers.get(old).copied()).collect();
        numbers.insert(instruction.id, id);
        instructions.push(Instruction { id, action, depends_on: depends_on.into_iter().collect() });
    }
    RankProgram { instructions, ..rank.clone() }
}
