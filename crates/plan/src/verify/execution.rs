//! What a schedule and the settings of the execution ask of the plan.

use cutplane_graph::{Dtype, ModelGraph};
use cutplane_units::Bytes;

use crate::error::PlanViolation;
use crate::execution::{Recompute, Synchronisation};
use crate::plan::{Plan, Schedule};

pub(super) fn violations(plan: &Plan, model: &ModelGraph) -> Vec<PlanViolation> {
    let mut found = interleaving(plan);
    found.extend(exclusions(plan));
    found.extend(pushes(plan));
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

/// What does not go with a server that takes the gradients of each micro-batch as they come.
fn pushes(plan: &Plan) -> Option<PlanViolation> {
    let how = plan.execution.synchronisation;
    let in_turn = plan.schedule == Schedule::OneFOneB || plan.micro_batches == 1;
    let (why, remedy) = if !how.is_pushed() {
        return None;
    } else if plan.data_degree() < 2 {
        ("is for several replicas", "give the stage more devices, or set execution.synchronisation to \"all-reduce\"")
    } else if plan.stages.len() > 1 || plan.execution.tensor_degree() > 1 {
        let why =
            "does not go with several stages or a tensor axis, whose ranks would have parameters of different updates";
        (why, "take one stage without a tensor axis, or set execution.synchronisation to \"parameter-server\"")
    } else if !in_turn {
        ("needs the backward pass of a micro-batch before the forward pass of the next", "choose the schedule 1f1b")
    } else if plan.workload.precision == Dtype::F16 {
        ("does not go with f16, whose loss scale all ranks agree on at every update", "choose bf16 or f32")
    } else {
        return None;
    };
    Some(PlanViolation::Execution { field: "synchronisation", value: how.to_string(), why, remedy })
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
