//! Memory of a program's ranks over a step.

use std::collections::{HashMap, HashSet};

use cutplane_graph::OpId;
use cutplane_plan::{Action, GroupId, Ownership, Program, Rank, RankProgram, SegmentId, Synchronisation, VerifiedPlan};
use cutplane_units::Bytes;

use super::{MemoryModel, StageMemory, StageUse};
use crate::cost::CostError;

/// Peak memory of each rank of a program, from the passes that its list holds in flight at once.
///
/// # Errors
/// [`CostError`] when the profile does not know an operator.
pub fn predict_peaks(
    plan: &VerifiedPlan<'_>,
    program: &Program,
    memory: MemoryModel<'_>,
) -> Result<Vec<Bytes>, CostError> {
    predict_memory(plan, program, memory).map(|ranks| ranks.into_iter().map(|rank| rank.total).collect())
}

/// Memory of each rank of a program, by use.
///
/// Under [`MemoryModel::Profiled`] the total follows the runtime over the step: a gradient exists from the end of the
/// first backward pass to the update, so the peak is the larger of the moment before (all micro-batches in flight, no
/// gradients) and the time after (fewer in flight, gradients). Other totals, the planner's among them, count both at once.
/// A rank without a backward pass holds what [`StageMemory::forward_only`] says.
///
/// # Errors
/// As [`predict_peaks`].
pub fn predict_memory(
    plan: &VerifiedPlan<'_>,
    program: &Program,
    memory: MemoryModel<'_>,
) -> Result<Vec<StageMemory>, CostError> {
    let workload = &plan.plan().workload;
    let rank_memory = |rank: &RankProgram| {
        let ids = program.segments_of(rank.rank);
        let mut ops: Vec<OpId> = ids.iter().flat_map(|id| program.segment(*id).ops.iter().copied()).collect();
        ops.sort_unstable();
        let device = plan.devices().device(rank.device);
        let stage = |in_flight| StageUse {
            batch: program.micro_batch_size,
            precision: workload.precision,
            optimizer: workload.optimizer,
            in_flight,
        };
        let one = StageMemory::new(plan.model(), &ops, stage(1), memory, device)?;
        let mut kept = HashMap::new();
        for id in &ids {
            let segment = program.segment(*id);
            let all = match ids.len() {
                1 => one.activations_per_micro_batch,
                _ => {
                    StageMemory::new(plan.model(), &segment.ops, stage(1), memory, device)?.activations_per_micro_batch
                }
            };
            let inputs = segment.inputs.iter().map(|value| &plan.model().value(*value).ty);
            let inputs = inputs.filter(|ty| ty.dtype.is_float());
            let inputs = inputs.map(|ty| ty.bytes_in(program.micro_batch_size, workload.precision)).sum();
            kept.insert(*id, Kept { all, inputs });
        }
        let held = InFlight::of(rank, &kept);
        if !held.trains {
            return StageMemory::forward_only(plan.model(), &ops, stage(held.passes(&one)), memory, device);
        }
        let all = StageMemory::new(plan.model(), &ops, stage(held.passes(&one)), memory, device)?;
        if memory.is_framework() {
            return Ok(all);
        }
        let all = StageMemory { optimizer: updated(plan, program, rank.rank, all.optimizer), ..all };
        Ok(StageMemory { total: held.peak(&all), ..all })
    };
    program.ranks.iter().map(rank_memory).collect()
}

/// What a rank keeps for its updates, of the optimizer state of all its parameters: a share of it, or that of the groups which
/// it serves. A server that takes gradients as they come also keeps their parameters apart, and a push of every worker.
fn updated(plan: &VerifiedPlan<'_>, program: &Program, rank: Rank, whole: Bytes) -> Bytes {
    let how = plan.plan().execution.synchronisation;
    let groups = || program.groups.iter().enumerate().filter(|(_, group)| group.ranks.contains(&rank));
    let served = groups()
        .filter(|(id, group)| group.ownership == Ownership::Server && group.server(GroupId(*id as u32)) == rank);
    let served: Bytes = served.map(|(_, group)| group.bytes).sum();
    let shared: Bytes = groups().filter(|(_, group)| !group.params.is_empty()).map(|(_, group)| group.bytes).sum();
    match how {
        Synchronisation::AllReduce => whole,
        Synchronisation::Zero1 | Synchronisation::Zero2 | Synchronisation::Zero3 => {
            Bytes::new(whole.get() / (program.replicas as u64).max(1))
        }
        Synchronisation::ParameterServer
        | Synchronisation::AsynchronousServer
        | Synchronisation::StaleServer { .. } => {
            let state = whole.as_f64() * served.as_f64() / shared.as_f64().max(1.0);
            let copies = if how.is_pushed() { 1 + program.replicas as u64 } else { 0 };
            Bytes::new(state as u64 + served.get() * copies)
        }
    }
}

/// What a segment keeps of a micro-batch between its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// All that its backward pass needs.
    all: Bytes,
    /// Its inputs, where it is computed again.
    inputs: Bytes,
}

/// What micro-batches between their forward and the end of their backward pass keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InFlight {
    /// Most until the end of the first backward pass.
    before: Bytes,
    /// Most after it.
    after: Bytes,
    /// Whether there is a backward pass.
    trains: bool,
}

impl InFlight {
    fn of(rank: &RankProgram, kept: &HashMap<SegmentId, Kept>) -> Self {
        let actions = || rank.instructions.iter().map(|instruction| instruction.action);
        let segments = |pick: fn(Action) -> bool| -> HashSet<SegmentId> {
            actions().filter(|action| pick(*action)).filter_map(Action::segment).collect()
        };
        let again = segments(|action| matches!(action, Action::Recompute { .. }));
        let back = segments(|action| matches!(action, Action::Backward { .. } | Action::BackwardWeight { .. }));
        let (mut held, mut most) = (Bytes::ZERO, Self { trains: !back.is_empty(), ..Self::default() });
        let mut before = true;
        for action in actions() {
            let Some((segment, facts)) = action.segment().and_then(|id| Some((id, kept.get(&id)?))) else { continue };
            // What no backward pass follows keeps nothing, unless it is all that the rank does.
            if most.trains && !back.contains(&segment) {
                continue;
            }
            let (at_first, later) = if again.contains(&segment) {
                (facts.inputs, facts.all.saturating_sub(facts.inputs))
            } else {
                (facts.all, Bytes::ZERO)
            };
            match action {
                Action::Forward { .. } => held += at_first,
                Action::Recompute { .. } => held += later,
                Action::Backward { .. } | Action::BackwardWeight { .. } => {
                    held = held.saturating_sub(at_first + later);
                    before = false;
                }
                _ => {}
            }
            let place = if before { &mut most.before } else { &mut most.after };
            *place = held.max(*place);
        }
        most
    }

    /// The same as a number of micro-batches of the whole rank, rounded up.
    fn passes(self, one: &StageMemory) -> u64 {
        let most = self.before.max(self.after).get();
        most.div_ceil(one.activations_per_micro_batch.get().max(1))
    }

    fn peak(self, stage: &StageMemory) -> Bytes {
        let weights = stage.parameters + stage.optimizer;
        let before = weights + self.before + stage.workspace;
        let working = if self.after > Bytes::ZERO { stage.workspace } else { Bytes::ZERO };
        before.max(weights + stage.gradients + self.after + working)
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::DeviceId;
    use cutplane_plan::{Instruction, InstructionId, Schedule, Slot, schedule_slots};

    use super::*;

    fn in_flight(schedule: Schedule, stage: usize, micro_batches: u64) -> (u64, u64) {
        let segment = SegmentId(0);
        let action = |slot| match slot {
            Slot::Forward(micro_batch) => Action::Forward { micro_batch, segment },
            Slot::Backward(micro_batch) => Action::Backward { micro_batch, segment },
            other => unreachable!("{other:?} belongs to another schedule"),
        };
        let slots = schedule_slots(schedule, stage, 2, micro_batches).into_iter().enumerate();
        let instructions = slots
            .map(|(id, slot)| Instruction {
                id: InstructionId(id as u32),
                action: action(slot),
                depends_on: Vec::new(),
            })
            .collect();
        let rank = RankProgram { rank: Rank(0), device: DeviceId::new(0), stage, replica: 0, instructions };
        let one = Kept { all: Bytes::new(1), inputs: Bytes::ZERO };
        let held = InFlight::of(&rank, &HashMap::from([(segment, one)]));
        (held.before.get(), held.after.get())
    }

    #[test]
    fn gradients_come_with_the_end_of_the_first_backward_pass() {
        assert_eq!(in_flight(Schedule::FillDrain, 0, 1), (1, 0));
        assert_eq!(in_flight(Schedule::FillDrain, 0, 4), (4, 3));
        assert_eq!(in_flight(Schedule::OneFOneB, 0, 4), (2, 2));
        assert_eq!(in_flight(Schedule::OneFOneB, 1, 4), (1, 1));
    }

    #[test]
    fn the_peak_is_the_larger_of_the_two_moments() {
        let bytes = Bytes::new;
        let stage = StageMemory {
            parameters: bytes(10),
            gradients: bytes(10),
            optimizer: bytes(20),
            activations_per_micro_batch: bytes(7),
            workspace: bytes(5),
            in_flight: 2,
            total: bytes(0),
        };
        // One micro-batch: 30 + 7 + 5 before, 40 after. Two at once, one later: 30 + 14 + 5 before, 40 + 7 + 5 after.
        assert_eq!(InFlight { before: bytes(7), after: bytes(0), trains: true }.peak(&stage), bytes(42));
        assert_eq!(InFlight { before: bytes(14), after: bytes(7), trains: true }.peak(&stage), bytes(52));
        assert_eq!(InFlight { before: bytes(63), after: bytes(7), trains: true }.peak(&stage), bytes(98));
    }
}
