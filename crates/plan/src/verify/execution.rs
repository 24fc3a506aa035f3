//! What a schedule and the settings of the execution ask of the plan.

use cutplane_graph::ModelGraph;
use cutplane_units::Bytes;

use crate::error::PlanViolation;
use crate::execution::{Recompute, Synchronisation};
use crate::plan::{Plan, Schedule};

pub(super) fn violations(plan: &Plan, model: &ModelGraph) -> Vec<PlanViolation> {
    let mut found = interleaving(plan);
    found.extend(exclusions(plan));
    found.extend(operators(plan, model));
    found
}

fn interleaving(plan: &Plan) -> Vec<PlanViolation> {
    let (mut found, ranks) = (Vec::new(), plan.pipeline_ranks());
    if plan.schedule == Schedule::Interleaved && ranks > 0 {
        let stray = |stage: &usize| plan.stages[*stage].devices != plan.stages[*stage % ranks].devices;
        let stray = (0..plan.stages.len()).find(stray).or((!plan.stages.len().is_multiple_of(ranks)).then_some(ranks));
        found.extend(stray.map(|stage| PlanViolation::NotInterleaved { stage, of: stage % ranks, ranks }));
        if !plan.micro_batches.is_multiple_of(ranks as u64) {
            found.push(PlanViolation::InterleavedMicroBatches { micro_batches: plan.micro_batches, ranks });
        }
    }
    found
}

/// Settings that exclude each other.
fn exclusions(plan: &Plan) -> Vec<PlanViolation> {
    let (execution, mut found) = (&plan.execution, Vec::new());
    let mut refuse = |field, value: String, why, remedy| {
        found.push(PlanViolation::Execution { field, value, why, remedy });
    };
    if execution.synchronisation == Synchronisation::Zero3 && execution.recompute != Recompute::Stages {
        let why = "would leave the gathered parameters in the history of the passes in flight";
        refuse("synchronisation", execution.synchronisation.to_string(), why, "set execution.recompute to \"stages\"");
    }
    if plan.schedule == Schedule::ZeroBubble && execution.recompute != Recompute::None {
        let why = "does not go with a backward pass in two halves, which would both have to be recomputed";
        refuse("recompute", execution.recompute.label().into(), why, "choose the schedule 1f1b, or recompute nothing");
    }
    if plan.schedule == Schedule::Asynchronous && execution.synchronisation != Synchronisation::AllReduce {
        let why = "does not go with a pipeline that updates after each micro-batch";
        let remedy = "set execution.synchronisation to \"all-reduce\"";
        refuse("synchronisation", execution.synchronisation.to_string(), why, remedy);
    }
    let devices = plan.stages.first().map_or(0, |stage| stage.devices.len());
    if execution.tensor.as_ref().is_some_and(|tensor| tensor.degree == 0)
        || !devices.is_multiple_of(execution.tensor_degree())
    {
        let value = execution.tensor_degree().to_string();
        refuse("tensor.degree", value, "does not divide the devices of a stage", "give each replica as many devices");
    }
    if execution.bucket_bytes == Some(Bytes::ZERO) {
        refuse("bucket_bytes", "0".into(), "holds no gradient", "give a size, or leave the field out");
    }
    found
}

/// Lists of operators: all known, and something left to train.
fn operators(plan: &Plan, model: &ModelGraph) -> Vec<PlanViolation> {
    let (execution, count) = (&plan.execution, model.ops().len());
    let lists = [("frozen", Some(&execution.frozen)), ("recompute", execution.recompute.ops())];
    let beyond = lists.into_iter().filter_map(|(field, ops)| {
        let ops = ops.filter(|ops| ops.last().is_some_and(|last| last.index() >= count))?;
        let (why, remedy) = ("names operators that the model does not have", "name operators of the model");
        Some(PlanViolation::Execution { field, value: ops.to_string(), why, remedy })
    });
    let mut found: Vec<PlanViolation> = beyond.collect();
    let nothing_left = execution.frozen_params(model).len() == model.params().len();
    if !execution.frozen.is_empty() && nothing_left && found.is_empty() {
        let (why, remedy) = ("leaves nothing to train", "leave out an operator that has parameters");
        found.push(PlanViolation::Execution { field: "frozen", value: execution.frozen.to_string(), why, remedy });
    }
    found
}
