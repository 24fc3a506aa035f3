//! The instruction list of one rank.

use std::collections::{BTreeMap, BTreeSet};

use cutplane_graph::ValueId;

use super::Lowering;
use super::messages::Cut;
use crate::execution::Synchronisation;
use crate::program::{Action, Direction, GroupId, Instruction, InstructionId, MessageId, Rank, RankProgram, SegmentId};
use crate::schedule::{Slot, rank_slots};

pub(super) struct RankLowering<'l, 'p, 'a> {
    pub(super) all: &'l Lowering<'p, 'a>,
    row: usize,
    /// Its place in the device list of its stages: replica and place on the tensor axis.
    place: usize,
    pub(super) rank: Rank,
    next: &'l mut u32,
    list: Vec<Instruction>,
    /// What gives each value of a micro-batch, and what gives the parts of its gradient.
    given: BTreeMap<(u64, ValueId), InstructionId>,
    gradients: BTreeMap<(u64, ValueId), Vec<InstructionId>>,
    forwards: BTreeMap<(u64, SegmentId), InstructionId>,
    /// Input halves of backward passes whose weight halves are to come.
    halves: BTreeMap<(u64, SegmentId), InstructionId>,
    /// Passes to come before the gradients of a segment's parameters are whole.
    left: BTreeMap<SegmentId, u64>,
    pub(super) last_backward: Option<InstructionId>,
    /// What the next pass is to wait for, if its parameters come from a server.
    pub(super) pulled: Vec<InstructionId>,
    /// Groups of this rank whose gradients are yet to be summed, and the sums since the last update.
    waiting: BTreeSet<GroupId>,
    sums: Vec<InstructionId>,
}

impl<'l, 'p, 'a> RankLowering<'l, 'p, 'a> {
    pub(super) fn new(all: &'l Lowering<'p, 'a>, row: usize, place: usize, next: &'l mut u32) -> Self {
        let plan = all.plan.plan();
        let rank = Rank((row * plan.data_degree() * plan.execution.tensor_degree() + place) as u32);
        let stages = (0..plan.stages.len()).filter(|stage| stage % plan.pipeline_ranks() == row);
        let segments = stages.flat_map(|stage| all.stages.of_stage[stage].iter().copied());
        let left = segments.map(|segment| (segment, plan.micro_batches)).collect();
        Self {
            all,
            row,
            place,
            rank,
            next,
            list: Vec::new(),
            given: BTreeMap::new(),
            gradients: BTreeMap::new(),
            forwards: BTreeMap::new(),
            halves: BTreeMap::new(),
            left,
            last_backward: None,
            pulled: Vec::new(),
            waiting: mine(all, rank).collect(),
            sums: Vec::new(),
        }
    }

    pub(super) fn lower(mut self) -> RankProgram {
        let plan = self.all.plan.plan();
        let rows = plan.pipeline_ranks();
        let chunks = plan.stages.len() / rows;
        let slots = rank_slots(plan.schedule, self.row, rows, chunks, plan.micro_batches);
        let updates = slots.iter().any(|(_, slot)| *slot == Slot::Update);
        for (chunk, slot) in slots {
            let stage = chunk * rows + self.row;
            match slot {
                Slot::Forward(mb) => {
                    self.pull(mb);
                    self.forward(stage, mb);
                }
                Slot::Backward(mb) => {
                    self.backward(stage, mb, false);
                    self.push_gradients(mb);
                }
                Slot::BackwardInput(mb) => self.backward(stage, mb, true),
                Slot::BackwardWeight(mb) => self.backward_weight(stage, mb),
                Slot::Update => {
                    self.update();
                    self.waiting = mine(self.all, self.rank).collect();
                }
            }
        }
        if plan.execution.synchronisation.is_pushed() {
            self.pull(plan.micro_batches);
        } else if !updates {
            self.update();
        }
        let device = self.all.plan.device(self.row, self.place);
        let replica = self.replica();
        RankProgram { rank: self.rank, device, stage: self.row, replica, instructions: self.list }
    }

    fn replica(&self) -> usize {
        self.place / self.all.plan.plan().execution.tensor_degree()
    }

    /// What takes the place of a pass of a segment that is an exchange.
    fn exchange(&self, segment: SegmentId, micro_batch: u64, direction: Direction) -> Option<Action> {
        let exchange = self.all.stages.exchanges.get(&segment)?;
        let collective = match direction {
            Direction::Activation => exchange.forward(),
            Direction::Gradient => exchange.backward(),
        };
        let group = self.all.groups.exchange(segment, self.replica(), direction);
        Some(Action::Exchange { micro_batch, segment, direction, collective, group })
    }

    pub(super) fn push(
        &mut self,
        action: Action,
        depends_on: impl IntoIterator<Item = InstructionId>,
    ) -> InstructionId {
        let id = InstructionId(*self.next);
        *self.next += 1;
        let depends_on: BTreeSet<InstructionId> = depends_on.into_iter().collect();
        self.list.push(Instruction { id, action, depends_on: depends_on.into_iter().collect() });
        id
    }

    fn forward(&mut self, stage: usize, micro_batch: u64) {
        let all = self.all;
        for &segment in &all.stages.of_stage[stage] {
            let facts = &all.stages.segments[segment.index()];
            self.serve();
            let mut needs = self.gather(segment);
            needs.extend(&self.pulled);
            if facts.inputs.iter().any(|value| all.plan.model().value(*value).producer.is_none()) {
                needs.push(self.push(Action::Load { micro_batch, segment }, []));
            }
            for (cut, message) in self.messages(|cut| cut.to == stage, micro_batch, Direction::Activation) {
                // A message comes when the first of the stage's segments reads a value of it.
                if self.first_reader(cut, stage, &cut.values) == Some(segment) {
                    let id = self.push(Action::Recv { message }, []);
                    self.given.extend(cut.values.iter().map(|value| ((micro_batch, *value), id)));
                }
            }
            needs.extend(facts.inputs.iter().filter_map(|value| self.given.get(&(micro_batch, *value))));
            let action = self.exchange(segment, micro_batch, Direction::Activation);
            let id = self.push(action.unwrap_or(Action::Forward { micro_batch, segment }), needs);
            self.release(segment, id);
            self.forwards.insert((micro_batch, segment), id);
            self.given.extend(facts.outputs.iter().map(|value| ((micro_batch, *value), id)));
            for (cut, message) in self.messages(|cut| cut.from == stage, micro_batch, Direction::Activation) {
                if self.last_writer(&cut.values) == Some(segment) {
                    let needs: Vec<_> =
                        cut.values.iter().filter_map(|value| self.given.get(&(micro_batch, *value)).copied()).collect();
                    self.push(Action::Send { message }, needs);
                }
            }
        }
    }

    fn backward(&mut self, stage: usize, micro_batch: u64, only_inputs: bool) {
        let all = self.all;
        for &segment in all.stages.of_stage[stage].iter().rev().filter(|id| all.stages.goes_back[id.index()]) {
            self.serve();
            let facts = &all.stages.segments[segment.index()];
            let mut needs = vec![self.forwards[&(micro_batch, segment)]];
            for (cut, message) in self.messages(|cut| cut.from == stage, micro_batch, Direction::Gradient) {
                if self.last_writer(&cut.gradients) == Some(segment) {
                    let id = self.push(Action::Recv { message }, []);
                    self.add_gradients(micro_batch, &cut.gradients, id);
                }
            }
            needs.extend(
                facts.outputs.iter().filter_map(|value| self.gradients.remove(&(micro_batch, *value))).flatten(),
            );
            let recomputed = all.stages.recomputed[segment.index()];
            if recomputed {
                let gathered = self.gather(segment).into_iter().chain([needs[0]]);
                needs.push(self.push(Action::Recompute { micro_batch, segment }, gathered));
            }
            let exchange = self.exchange(segment, micro_batch, Direction::Gradient);
            let action = match exchange {
                Some(exchange) => exchange,
                None if only_inputs => Action::BackwardInput { micro_batch, segment },
                None => Action::Backward { micro_batch, segment },
            };
            let id = self.push(action, needs);
            if recomputed {
                self.release(segment, id);
            }
            self.add_gradients(micro_batch, &facts.inputs, id);
            for (cut, message) in self.messages(|cut| cut.to == stage, micro_batch, Direction::Gradient) {
                if self.last_to_go_back(cut, stage) == Some(segment) {
                    let needs = cut.gradients.iter().filter_map(|value| self.gradients.remove(&(micro_batch, *value)));
                    let needs: Vec<_> = needs.flatten().collect();
                    self.push(Action::Send { message }, needs);
                }
            }
            if only_inputs && exchange.is_none() {
                self.halves.insert((micro_batch, segment), id);
            } else {
                self.through(segment, id);
            }
        }
    }

    fn backward_weight(&mut self, stage: usize, micro_batch: u64) {
        let all = self.all;
        for &segment in all.stages.of_stage[stage].iter().rev().filter(|id| all.stages.goes_back[id.index()]) {
            let Some(half) = self.halves.remove(&(micro_batch, segment)) else { continue };
            let id = self.push(Action::BackwardWeight { micro_batch, segment }, [half]);
            self.through(segment, id);
        }
    }

    fn add_gradients(&mut self, micro_batch: u64, values: &[ValueId], from: InstructionId) {
        for value in values.iter().filter(|value| self.all.stages.needs_gradient[value.index()]) {
            self.gradients.entry((micro_batch, *value)).or_default().push(from);
        }
    }

    /// The messages of a micro-batch over the cuts that `touches` picks.
    fn messages(
        &self,
        touches: impl Fn(&Cut) -> bool,
        micro_batch: u64,
        direction: Direction,
    ) -> Vec<(&'l Cut, MessageId)> {
        let traffic = &self.all.traffic;
        let cuts = traffic.cuts.iter().enumerate().filter(|(_, cut)| touches(cut));
        let message = |(index, cut)| Some((cut, traffic.message((index, self.place, micro_batch, direction))?));
        cuts.filter_map(message).collect()
    }

    fn first_reader(&self, cut: &Cut, stage: usize, values: &[ValueId]) -> Option<SegmentId> {
        debug_assert_eq!(cut.to, stage, "a message is for its first stage");
        let stages = &self.all.stages;
        let reads = |id: &&SegmentId| {
            values.iter().any(|value| stages.segments[id.index()].inputs.binary_search(value).is_ok())
        };
        stages.of_stage[stage].iter().find(reads).copied()
    }

    /// The reader of the cut's gradients whose backward pass comes last: the first of those that have one.
    fn last_to_go_back(&self, cut: &Cut, stage: usize) -> Option<SegmentId> {
        let stages = &self.all.stages;
        let reads = |id: &&SegmentId| {
            let inputs = &stages.segments[id.index()].inputs;
            stages.goes_back[id.index()] && cut.gradients.iter().any(|value| inputs.binary_search(value).is_ok())
        };
        stages.of_stage[stage].iter().find(reads).copied()
    }

    fn last_writer(&self, values: &[ValueId]) -> Option<SegmentId> {
        values.iter().filter_map(|value| self.all.stages.producer(self.all.plan.model(), *value)).max()
    }

    /// A backward pass of a segment is done; gradients that are whole by it may leave in their bucket.
    fn through(&mut self, segment: SegmentId, pass: InstructionId) {
        self.last_backward = Some(pass);
        if let Some(left) = self.left.get_mut(&segment) {
            *left -= 1;
        }
        let plan = self.all.plan.plan();
        if plan.execution.bucket_bytes.is_none() || plan.updates_often() {
            return;
        }
        let whole = |group: &&GroupId| self.is_own(**group) && self.is_whole(**group);
        for group in self.waiting.iter().filter(whole).copied().collect::<Vec<_>>() {
            self.sum(group);
        }
    }

    /// Whether only replicas of this rank hold the group's parameters.
    fn is_own(&self, group: GroupId) -> bool {
        let places = self.all.plan.plan().data_degree() * self.all.plan.plan().execution.tensor_degree();
        self.all.groups.all[group.index()].ranks.iter().all(|rank| rank.index() / places == self.row)
    }

    fn is_whole(&self, group: GroupId) -> bool {
        let params = &self.all.groups.all[group.index()].params;
        let uses = |segment: &SegmentId| {
            let held = &self.all.stages.segments[segment.index()].params;
            params.iter().any(|param| held.binary_search(param).is_ok())
        };
        self.left.iter().all(|(segment, left)| *left == 0 || !uses(segment))
    }

    /// Sums the gradients of a group, as far as its ranks need them.
    fn sum(&mut self, group: GroupId) {
        let action = match self.all.plan.plan().execution.synchronisation {
            Synchronisation::AllReduce | Synchronisation::Zero1 => Action::AllReduce { group },
            Synchronisation::Zero2 | Synchronisation::Zero3 => Action::ReduceScatter { group },
            // A server that takes pushes is never asked for a sum.
            Synchronisation::ParameterServer
            | Synchronisation::AsynchronousServer
            | Synchronisation::StaleServer { .. } => Action::Reduce { group },
        };
        let id = self.push(action, self.last_backward);
        self.sums.push(id);
        self.waiting.remove(&group);
    }

    /// Sums what is left, updates, and gives the others what this rank has updated for them.
    fn update(&mut self) {
        for group in self.waiting.clone() {
            self.sum(group);
        }
        let needs: Vec<InstructionId> = self.last_backward.into_iter().chain(std::mem::take(&mut self.sums)).collect();
        let step = self.push(Action::OptimizerStep, needs);
        for group in mine(self.all, self.rank).collect::<Vec<_>>() {
            match self.all.plan.plan().execution.synchronisation {
                Synchronisation::AllReduce => {}
                Synchronisation::Zero3 if self.is_own(group) => {}
                Synchronisation::Zero1 | Synchronisation::Zero2 | Synchronisation::Zero3 => {
                    self.push(Action::AllGather { group }, [step]);
                }
                Synchronisation::ParameterServer
                | Synchronisation::AsynchronousServer
                | Synchronisation::StaleServer { .. } => {
                    self.push(Action::Broadcast { group }, [step]);
                }
            }
        }
    }

    /// The groups of a segment's parameters that ranks keep in shares between passes (ZeRO stage 3).
    fn scattered(&self, segment: SegmentId) -> Vec<GroupId> {
        if self.all.plan.plan().execution.synchronisation != Synchronisation::Zero3 {
            return Vec::new();
        }
        let held = &self.all.stages.segments[segment.index()].params;
        let uses = |group: &GroupId| {
            let mut params = self.all.groups.all[group.index()].params.iter();
            self.is_own(*group) && params.any(|param| held.binary_search(param).is_ok())
        };
        mine(self.all, self.rank).filter(uses).collect()
    }

    /// Gathers what a segment needs of scattered parameters.
    fn gather(&mut self, segment: SegmentId) -> Vec<InstructionId> {
        self.scattered(segment).into_iter().map(|group| self.push(Action::AllGather { group }, [])).collect()
    }

    /// Forgets what was gathered for a pass.
    fn release(&mut self, segment: SegmentId, pass: InstructionId) {
        for group in self.scattered(segment) {
            self.push(Action::Release { group }, [pass]);
        }
    }
}

/// The groups of parameters that a rank belongs to, in order.
pub(super) fn mine<'l>(all: &'l Lowering<'_, '_>, rank: Rank) -> impl Iterator<Item = GroupId> + 'l {
    let groups = all.groups.all.iter().enumerate();
    let groups = groups.filter(move |(_, group)| !group.params.is_empty() && group.ranks.contains(&rank));
    groups.map(|(id, _)| GroupId(id as u32))
}
