//! What flows between pipeline ranks: one message for each pair of stages, place in them and micro-batch.

use std::collections::BTreeMap;

use cutplane_graph::ValueId;

use super::segments::Stages;
use crate::program::{Direction, Message, MessageId, Rank};
use crate::verify::VerifiedPlan;

/// Values that one stage writes and another, on other devices, is the first to read.
pub(super) struct Cut {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) values: Vec<ValueId>,
    /// Those that a gradient comes back for.
    pub(super) gradients: Vec<ValueId>,
}

impl Cut {
    fn values(&self, direction: Direction) -> &[ValueId] {
        match direction {
            Direction::Activation => &self.values,
            Direction::Gradient => &self.gradients,
        }
    }
}

/// All cuts and their messages.
pub(super) struct Traffic {
    pub(super) cuts: Vec<Cut>,
    pub(super) messages: Vec<Message>,
    ids: BTreeMap<(usize, usize, u64, Direction), MessageId>,
}

impl Traffic {
    pub(super) fn new(plan: &VerifiedPlan<'_>, stages: &Stages) -> Self {
        let mut traffic = Self { cuts: cuts(plan, stages), messages: Vec::new(), ids: BTreeMap::new() };
        let places = plan.plan().data_degree() * plan.plan().execution.tensor_degree();
        let micro_batches = plan.plan().micro_batches;
        for cut in 0..traffic.cuts.len() {
            for place in 0..places {
                for micro_batch in 0..micro_batches {
                    for direction in [Direction::Activation, Direction::Gradient] {
                        traffic.add(plan, (cut, place, micro_batch, direction));
                    }
                }
            }
        }
        traffic
    }

    fn add(&mut self, plan: &VerifiedPlan<'_>, key: (usize, usize, u64, Direction)) {
        let (cut, place, micro_batch, direction) = key;
        let cut = &self.cuts[cut];
        let values = cut.values(direction).to_vec();
        if values.is_empty() {
            return;
        }
        let ranks = plan.plan().pipeline_ranks();
        let places = plan.plan().data_degree() * plan.plan().execution.tensor_degree();
        let rank = |stage: usize| Rank((stage % ranks * places + place) as u32);
        let (from, to) = match direction {
            Direction::Activation => (rank(cut.from), rank(cut.to)),
            Direction::Gradient => (rank(cut.to), rank(cut.from)),
        };
        let (batch, precision) = (plan.plan().micro_batch_size(), plan.plan().workload.precision);
        let bytes = values.iter().map(|value| plan.model().value(*value).ty.bytes_in(batch, precision)).sum();
        self.ids.insert(key, MessageId(self.messages.len() as u32));
        self.messages.push(Message { from, to, values, direction, micro_batch, bytes });
    }

    /// The message of a cut; `None` where nothing of that direction crosses it.
    pub(super) fn message(&self, key: (usize, usize, u64, Direction)) -> Option<MessageId> {
        self.ids.get(&key).copied()
    }
}

/// A value goes once to each pipeline rank that reads it, for the first of its stages to do so.
fn cuts(plan: &VerifiedPlan<'_>, stages: &Stages) -> Vec<Cut> {
    let ranks = plan.plan().pipeline_ranks();
    let mut by_stages: BTreeMap<(usize, usize), Vec<ValueId>> = BTreeMap::new();
    for (index, value) in plan.model().values().iter().enumerate() {
        let Some(from) = value.producer.map(|op| plan.stage_of(op)) else { continue };
        let mut first: BTreeMap<usize, usize> = BTreeMap::new();
        for to in value.consumers.iter().map(|op| plan.stage_of(*op)).filter(|to| to % ranks != from % ranks) {
            let known = first.entry(to % ranks).or_insert(to);
            *known = to.min(*known);
        }
        for to in first.into_values() {
            by_stages.entry((from, to)).or_default().push(ValueId::new(index));
        }
    }
    let cut = |((from, to), values): ((usize, usize), Vec<ValueId>)| {
        let gradients = values.iter().copied().filter(|value| stages.needs_gradient[value.index()]).collect();
        Cut { from, to, values, gradients }
    };
    by_stages.into_iter().map(cut).collect()
}
