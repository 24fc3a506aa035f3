//! What a rank holds, by what its list asks for.

use std::cell::Cell;
use std::collections::BTreeMap;

use cutplane_graph::OpKind;
use cutplane_plan::{Action, GroupId, Program, Rank, SegmentId};

use super::step::{Fault, Shared};
use crate::segment::{Keeping, SegmentRunner};
use crate::tensor::HostTensor;

/// The segments of a rank with their weights on its device.
pub(super) fn runner(shared: &Shared, rank: Rank) -> Result<SegmentRunner, Fault> {
    let (model, program) = (&shared.model, &shared.program);
    let computes =
        |id: &SegmentId| program.segment(*id).ops.iter().any(|op| !matches!(model.op(*op).kind, OpKind::Exchange(_)));
    let segments: BTreeMap<_, _> =
        program.segments_of(rank).into_iter().filter(computes).map(|id| (id, program.segment(id).clone())).collect();
    if segments.is_empty() {
        return Err(Fault::Program(format!("{rank} has nothing to compute")));
    }
    let failed = Cell::new(None);
    let weights = |param| {
        shared.initial(param, rank).unwrap_or_else(|error| {
            failed.set(Some(error));
            HostTensor::f32(Vec::new(), Vec::new())
        })
    };
    let backend = &shared.roads.backends[rank.index()];
    let runner = SegmentRunner::of_segments(model.clone(), segments, backend, &weights, shared.optimizer);
    // A weight that cannot be loaded is the cause of whatever the runner says about its stand-in.
    if let Some(error) = failed.take() {
        return Err(error.into());
    }
    let mut runner = runner?;
    runner.freeze(&program.frozen);
    runner.set_tables(shared.tables(rank));
    Ok(runner)
}

/// What forward passes leave behind, from what the backward passes of a list ask for.
pub(super) fn keeping(actions: impl Iterator<Item = Action>) -> BTreeMap<SegmentId, Keeping> {
    let mut keeping = BTreeMap::new();
    for action in actions {
        let Some(segment) = action.segment() else { continue };
        let needs = match action {
            Action::Backward { .. } => Keeping::History,
            Action::BackwardInput { .. } => Keeping::Halves,
            Action::Recompute { .. } => Keeping::Inputs,
            _ => Keeping::Nothing,
        };
        let known = keeping.entry(segment).or_insert(needs);
        *known = needs.max(*known);
    }
    keeping
}

/// The groups whose parameters a rank keeps in shares between passes.
pub(super) fn scattered(program: &Program, rank: Rank) -> Vec<GroupId> {
    let actions = program.ranks[rank.index()].instructions.iter().map(|instruction| instruction.action);
    let released = actions.filter_map(|action| match action {
        Action::Release { group } => Some(group),
        _ => None,
    });
    let mut groups: Vec<GroupId> = released.collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}
