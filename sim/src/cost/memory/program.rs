//! Memory of a program's ranks over a step.

use cutplane_graph::OpId;
use cutplane_plan::{Action, Program, RankProgram, VerifiedPlan};
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
        let segments = program.segments.iter().filter(|segment| segment.stage == rank.stage);
        let mut ops: Vec<OpId> = segments.flat_map(|segment| segment.ops.iter().copied()).collect();
        ops.sort_unstable();
        let held = InFlight::of(rank);
        let stage = StageUse {
            batch: program.micro_batch_size,
            precision: workload.precision,
            optimizer: workload.optimizer,
            in_flight: held.before.max(held.after),
        };
        let device = plan.devices().device(rank.device);
        if !held.trains {
            return StageMemory::forward_only(plan.model(), &ops, stage, memory, device);
        }
        let all = StageMemory::new(plan.model(), &ops, stage, memory, device)?;
        Ok(if memory.is_framework() { all } else { StageMemory { total: held.peak(&all), ..all } })
    };
    program.ranks.iter().map(rank_memory).collect()
}

/// Micro-batches between their forward and the end of their backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InFlight {
    /// Most until the end of the first backward pass.
    before: u64,
    /// Most after it.
    after: u64,
    /// Whether there is a backward pass.
    trains: bool,
}

impl InFlight {
    fn of(rank: &RankProgram) -> Self {
        let (mut held, mut most) = (0u64, Self::default());
        for instruction in &rank.instructions {
            match instruction.action {
                Action::Forward { .. } => held += 1,
                Action::Backward { .. } => {
                    held = held.saturating_sub(1);
                    most.trains = true;
                }
                _ => {}
            }
            let most = if most.trains { &mut most.after } else { &mut most.before };
            *most = held.max(*most);
        }
        most
    }

    fn peak(self, stage: &StageMemory) -> Bytes {
        let weights = stage.parameters + stage.optimizer;
        let activations = |held: u64| stage.activations_per_micro_batch * held;
        let before = weights + activations(self.before) + stage.workspace;
        let working = if self.after > 0 { stage.workspace } else { Bytes::ZERO };
        before.max(weights + stage.gradients + activations(self.after) + working)
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::DeviceId;
    use cutplane_plan::{Instruction, InstructionId, Rank, Schedule, SegmentId, Slot, schedule_slots};

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
        let held = InFlight::of(&rank);
        (held.before, held.after)
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
        assert_eq!(InFlight { before: 1, after: 0, trains: true }.peak(&stage), bytes(42));
        assert_eq!(InFlight { before: 2, after: 1, trains: true }.peak(&stage), bytes(52));
        assert_eq!(InFlight { before: 9, after: 1, trains: true }.peak(&stage), bytes(98));
    }
}
