//! Which samples a rank loads.

use cutplane_plan::{Action, Program, Rank, RankProgram};

use super::step::Shared;
use crate::data::Portion;

/// Where a micro-batch of a rank begins in the global batch.
pub(super) fn first_position(program: &Program, rank: Rank, micro_batch: u64) -> u64 {
    let replica = program.ranks[rank.index()].replica as u64;
    (replica * program.micro_batches + micro_batch) * program.micro_batch_size
}

/// What a rank loads in a step, in the order of its list.
pub(super) fn loads(shared: &Shared, list: &RankProgram) -> Vec<Portion> {
    let (model, program) = (&shared.model, &shared.program);
    let portion = |action| match action {
        Action::Load { micro_batch, segment } => {
            let inputs = program.segment(segment).inputs.iter().copied();
            Some(Portion {
                first_position: first_position(program, list.rank, micro_batch),
                count: program.micro_batch_size,
                wanted: inputs.filter(|value| model.value(*value).producer.is_none()).collect(),
            })
        }
        _ => None,
    };
    list.instructions.iter().filter_map(|instruction| portion(instruction.action)).collect()
}
