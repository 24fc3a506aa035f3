//! Lowering: from a verified plan to one instruction list a rank.

use std::collections::BTreeMap;

use cutplane_graph::{ModelGraph, OpId, ParamId, ValueId};
use cutplane_units::Bytes;

use crate::check::{ProgramError, check_program};
use crate::program::{
    Action, Direction, GroupId, Instruction, InstructionId, Message, MessageId, Program, Rank, RankProgram, Segment,
    SegmentId, SyncGroup,
};
use crate::schedule::{Slot, schedule_slots};
use crate::verify::VerifiedPlan;

/// Lowers a plan: one segment a stage, one message for each pair of stages that share values and each micro-batch, one
/// gradient group for each set of ranks that hold the same parameters. Rank = stage * replicas + replica.
///
/// # Errors
/// [`ProgramError`] when the program could not run to its end; a defect of the lowering, never of a verified plan.
pub fn lower(plan: &VerifiedPlan<'_>) -> Result<Program, ProgramError> {
    let program = Lowering::new(plan).program();
    check_program(&program)?;
    Ok(program)
}

/// Values that flow from one stage to another, by (from, to).
type Cuts = BTreeMap<(usize, usize), Vec<ValueId>>;

struct Lowering<'p, 'a> {
    plan: &'p VerifiedPlan<'a>,
    stages: usize,
    replicas: usize,
    micro_batches: u64,
    segments: Vec<Segment>,
    cuts: Cuts,
    messages: Vec<Message>,
    message_ids: BTreeMap<(usize, usize, usize, u64, bool), MessageId>,
    groups: Vec<SyncGroup>,
    next_instruction: u32,
}

impl<'p, 'a> Lowering<'p, 'a> {
    fn new(plan: &'p VerifiedPlan<'a>) -> Self {
        let mut lowering = Self {
            plan,
            stages: plan.plan().pipeline_degree(),
            replicas: plan.plan().data_degree(),
            micro_batches: plan.plan().micro_batches,
            segments: (0..plan.plan().pipeline_degree()).map(|stage| segment(plan, stage)).collect(),
            cuts: cuts(plan),
            messages: Vec::new(),
            message_ids: BTreeMap::new(),
            groups: Vec::new(),
            next_instruction: 0,
        };
        lowering.add_messages();
        lowering.groups = sync_groups(plan.model(), &lowering.segments, lowering.replicas);
        lowering
    }

    fn rank(&self, stage: usize, replica: usize) -> Rank {
        Rank((stage * self.replicas + replica) as u32)
    }

    fn add_messages(&mut self) {
        let (batch, precision) = (self.plan.plan().micro_batch_size(), self.plan.plan().workload.precision);
        let model = self.plan.model();
        for (&(from, to), values) in &self.cuts {
            let floats: Vec<ValueId> =
                values.iter().copied().filter(|value| model.value(*value).ty.dtype.is_float()).collect();
            for (replica, micro_batch) in (0..self.replicas).flat_map(|r| (0..self.micro_batches).map(move |m| (r, m)))
            {
                for (gradient, values) in [(false, values), (true, &floats)] {
                    if values.is_empty() {
                        continue;
                    }
                    let (source, target) = if gradient { (to, from) } else { (from, to) };
                    let id = MessageId(self.messages.len() as u32);
                    self.message_ids.insert((from, to, replica, micro_batch, gradient), id);
                    let bytes = values.iter().map(|value| model.value(*value).ty.bytes_in(batch, precision)).sum();
                    self.messages.push(Message {
                        from: self.rank(source, replica),
                        to: self.rank(target, replica),
                        values: values.clone(),
                        direction: if gradient { Direction::Gradient } else { Direction::Activation },
                        micro_batch,
                        bytes,
                    });
                }
            }
        }
    }

    fn program(mut self) -> Program {
        let places: Vec<_> = (0..self.stages).flat_map(|s| (0..self.replicas).map(move |r| (s, r))).collect();
        let ranks = places.into_iter().map(|(stage, replica)| self.rank_program(stage, replica)).collect();
        let plan = self.plan.plan();
        Program {
            plan_name: plan.name.clone(),
            plan_digest: plan.digest(),
            micro_batch_size: plan.micro_batch_size(),
            micro_batches: self.micro_batches,
            replicas: self.replicas,
            precision: plan.workload.precision,
            segments: self.segments,
            messages: self.messages,
            groups: self.groups,
            ranks,
        }
    }

    fn rank_program(&mut self, stage: usize, replica: usize) -> RankProgram {
        let mut list = Vec::new();
        let slots = schedule_slots(self.plan.plan().schedule, stage, self.stages, self.micro_batches);
        let mut forwards = BTreeMap::new();
        let mut last_backward = None;
        for slot in slots {
            match slot {
                Slot::Forward(mb) => {
                    let id = self.forward(&mut list, stage, replica, mb);
                    forwards.insert(mb, id);
                }
                Slot::Backward(mb) => last_backward = Some(self.backward(&mut list, stage, replica, mb, forwards[&mb])),
            }
        }
        self.synchronise(&mut list, stage, replica, last_backward);
        let device = self.plan.device(stage, replica);
        RankProgram { rank: self.rank(stage, replica), device, stage, replica, instructions: list }
    }

    fn push(&mut self, list: &mut Vec<Instruction>, action: Action, depends_on: Vec<InstructionId>) -> InstructionId {
        let id = InstructionId(self.next_instruction);
        self.next_instruction += 1;
        list.push(Instruction { id, action, depends_on });
        id
    }

    /// Messages of one micro-batch between `stage` and its upstream (`incoming`) or downstream neighbours.
    fn messages_of(&self, stage: usize, replica: usize, mb: u64, gradient: bool, upstream: bool) -> Vec<MessageId> {
        let touching = self.cuts.keys().filter(|(from, to)| if upstream { *to == stage } else { *from == stage });
        touching.filter_map(|&(from, to)| self.message_ids.get(&(from, to, replica, mb, gradient)).copied()).collect()
    }

    fn forward(&mut self, list: &mut Vec<Instruction>, stage: usize, replica: usize, mb: u64) -> InstructionId {
        let segment = SegmentId(stage as u32);
        let mut needs = Vec::new();
        let model = self.plan.model();
        if self.segments[stage].inputs.iter().any(|value| model.value(*value).producer.is_none()) {
            needs.push(self.push(list, Action::Load { micro_batch: mb, segment }, Vec::new()));
        }
        for message in self.messages_of(stage, replica, mb, false, true) {
            needs.push(self.push(list, Action::Recv { message }, Vec::new()));
        }
        let id = self.push(list, Action::Forward { micro_batch: mb, segment }, needs);
        for message in self.messages_of(stage, replica, mb, false, false) {
            self.push(list, Action::Send { message }, vec![id]);
        }
        id
    }

    fn backward(
        &mut self,
        list: &mut Vec<Instruction>,
        stage: usize,
        replica: usize,
        mb: u64,
        forward: InstructionId,
    ) -> InstructionId {
        let mut needs = vec![forward];
        for message in self.messages_of(stage, replica, mb, true, false) {
            needs.push(self.push(list, Action::Recv { message }, Vec::new()));
        }
        let action = Action::Backward { micro_batch: mb, segment: SegmentId(stage as u32) };
        let id = self.push(list, action, needs);
        for message in self.messages_of(stage, replica, mb, true, true) {
            self.push(list, Action::Send { message }, vec![id]);
        }
        id
    }

    fn synchronise(
        &mut self,
        list: &mut Vec<Instruction>,
        stage: usize,
        replica: usize,
        last_backward: Option<InstructionId>,
    ) {
        let rank = self.rank(stage, replica);
        let mut needs: Vec<InstructionId> = last_backward.into_iter().collect();
        let mine: Vec<GroupId> = (0..self.groups.len())
            .filter(|group| self.groups[*group].ranks.contains(&rank))
            .map(|group| GroupId(group as u32))
            .collect();
        for group in mine {
            let after = last_backward.into_iter().collect();
            needs.push(self.push(list, Action::AllReduce { group }, after));
        }
        self.push(list, Action::OptimizerStep, needs);
    }
}

fn segment(plan: &VerifiedPlan<'_>, stage: usize) -> Segment {
    let model = plan.model();
    let ops: Vec<OpId> = plan.plan().stages[stage].ops.iter().collect();
    let inside = |op: OpId| plan.stage_of(op) == stage;
    let mut inputs: Vec<ValueId> = ops.iter().flat_map(|op| model.op(*op).inputs.iter().copied()).collect();
    inputs.retain(|value| !model.value(*value).producer.is_some_and(inside));
    let mut params: Vec<ParamId> = ops.iter().flat_map(|op| model.op(*op).params.iter().copied()).collect();
    let mut outputs: Vec<ValueId> = ops.iter().map(|op| model.op(*op).output).collect();
    outputs.retain(|value| {
        model.outputs().contains(value) || model.value(*value).consumers.iter().any(|consumer| !inside(*consumer))
    });
    for list in [&mut inputs, &mut outputs] {
        list.sort_unstable();
        list.dedup();
    }
    params.sort_unstable();
    params.dedup();
    Segment { stage, ops, inputs, outputs, params }
}

fn cuts(plan: &VerifiedPlan<'_>) -> Cuts {
    let mut cuts = Cuts::new();
    for (index, value) in plan.model().values().iter().enumerate() {
        let Some(from) = value.producer.map(|op| plan.stage_of(op)) else { continue };
        let mut targets: Vec<usize> =
            value.consumers.iter().map(|op| plan.stage_of(*op)).filter(|to| *to != from).collect();
        targets.sort_unstable();
        targets.dedup();
        for to in targets {
            cuts.entry((from, to)).or_default().push(ValueId::new(index));
        }
    }
    cuts
}

/// Parameters grouped by the set of ranks that hold them; sets of one rank need no synchronisation.
fn sync_groups(model: &ModelGraph, segments: &[Segment], replicas: usize) -> Vec<SyncGroup> {
    let mut holders: BTreeMap<ParamId, Vec<usize>> = BTreeMap::new();
    for segment in segments {
        for param in &segment.params {
            holders.entry(*param).or_default().push(segment.stage);
        }
    }
    let mut by_ranks: BTreeMap<Vec<Rank>, Vec<ParamId>> = BTreeMap::new();
    for (param, stages) in holders {
        let ranks: Vec<Rank> =
            stages.iter().flat_map(|stage| (0..replicas).map(move |r| Rank((stage * replicas + r) as u32))).collect();
        if ranks.len() > 1 {
            by_ranks.entry(ranks).or_default().push(param);
        }
    }
    let group = |(ranks, params): (Vec<Rank>, Vec<ParamId>)| {
        let bytes: Bytes = params.iter().map(|param| model.param(*param).bytes()).sum();
        SyncGroup { ranks, params, bytes }
    };
    by_ranks.into_iter().map(group).collect()
}
