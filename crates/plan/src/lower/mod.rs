//! Lowering: from a verified plan to one instruction list a rank.

mod groups;
mod messages;
mod pushes;
mod rank;
mod segments;

use crate::check::{ProgramError, check_program};
use crate::program::Program;
use crate::verify::VerifiedPlan;
use groups::Groups;
use messages::Traffic;
use rank::RankLowering;
use segments::Stages;

/// Lowers a plan: a segment for each stage or part of it that is recomputed or synchronised apart, one message for each
/// pair of stages that share values and each micro-batch, one gradient group for each set of ranks that hold the same
/// parameters, and for each exchange over a tensor axis. Rank = (pipeline rank * replicas + replica) * degree of the
/// tensor axis + place on it.
///
/// # Errors
/// [`ProgramError`] when the program could not run to its end; a defect of the lowering, never of a verified plan.
pub fn lower(plan: &VerifiedPlan<'_>) -> Result<Program, ProgramError> {
    let lowering = Lowering::new(plan);
    let mut next = 0;
    let (rows, replicas) = (plan.plan().pipeline_ranks(), plan.plan().data_degree());
    let places = replicas * plan.plan().execution.tensor_degree();
    let places = (0..rows).flat_map(|row| (0..places).map(move |place| (row, place)));
    let ranks = places.map(|(row, place)| RankLowering::new(&lowering, row, place, &mut next).lower()).collect();
    let plan = plan.plan();
    let micro_batches = plan.micro_batches;
    let program = Program {
        plan_name: plan.name.clone(),
        plan_digest: plan.digest(),
        micro_batch_size: plan.micro_batch_size(),
        micro_batches,
        accumulated: if plan.updates_often() { 1 } else { micro_batches },
        replicas,
        tensor: plan.execution.tensor.clone(),
        precision: plan.workload.precision,
        segments: lowering.stages.segments,
        messages: lowering.traffic.messages,
        groups: lowering.groups.all,
        frozen: lowering.stages.frozen,
        ranks,
    };
    check_program(&program)?;
    Ok(program)
}

/// What all ranks share.
struct Lowering<'p, 'a> {
    plan: &'p VerifiedPlan<'a>,
    stages: Stages,
    traffic: Traffic,
    groups: Groups,
}

impl<'p, 'a> Lowering<'p, 'a> {
    fn new(plan: &'p VerifiedPlan<'a>) -> Self {
        let stages = Stages::new(plan);
        let traffic = Traffic::new(plan, &stages);
        let groups = Groups::new(plan, &stages);
        Self { plan, stages, traffic, groups }
    }
}
