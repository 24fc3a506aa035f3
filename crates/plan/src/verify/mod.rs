//! The independent checker: shares no code with any searcher.

mod execution;

use std::collections::HashMap;

use cutplane_graph::{DeviceGraph, DeviceId, LocalGraph, ModelGraph, OpId, ParamId};
use cutplane_units::Bytes;

use crate::error::PlanViolation;
use crate::execution::Synchronisation;
use crate::plan::{Optimizer, PLAN_FORMAT, PLAN_VERSION, Plan, Schedule, Stage};

/// A program holds a few instructions for each micro-batch of each rank; this keeps a hostile file from filling memory.
const MOST_MICRO_BATCHES: u64 = 1 << 16;

/// A plan that passed [`verify`], with the model and devices that it was checked against.
#[derive(Clone, Debug)]
pub struct VerifiedPlan<'a> {
    plan: &'a Plan,
    model: &'a ModelGraph,
    local: Option<LocalGraph>,
    devices: &'a DeviceGraph,
    placement: Vec<Vec<DeviceId>>,
    stage_of: Vec<usize>,
}

impl<'a> VerifiedPlan<'a> {
    /// The plan.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The graph that each rank computes: the model, or what the split over a tensor axis makes of it.
    pub fn model(&self) -> &ModelGraph {
        self.local.as_ref().map_or(self.model, LocalGraph::graph)
    }

    /// The operator of the model that one of [`VerifiedPlan::model`] stands for.
    pub fn origin(&self, op: OpId) -> OpId {
        self.local.as_ref().map_or(op, |local| local.origin(op))
    }

    /// Parameters that are not trained, in id order.
    pub(crate) fn frozen_params(&self) -> Vec<ParamId> {
        self.plan.execution.frozen_params(self.model)
    }

    /// The split over a tensor axis.
    pub(crate) fn local(&self) -> Option<&LocalGraph> {
        self.local.as_ref()
    }

    /// The devices.
    pub fn devices(&self) -> &'a DeviceGraph {
        self.devices
    }

    /// The device at place `index` of the list of stage `stage`.
    pub fn device(&self, stage: usize, index: usize) -> DeviceId {
        self.placement[stage][index]
    }

    /// The stage that an operator belongs to.
    pub fn stage_of(&self, op: OpId) -> usize {
        self.stage_of[self.origin(op).index()]
    }
}

/// Checks a plan against a model and a cluster.
///
/// Memory is checked against what is certain whatever the cost model: parameters, gradients and optimizer state.
///
/// # Errors
/// Every [`PlanViolation`] found, in a stable order.
pub fn verify<'a>(
    plan: &'a Plan,
    model: &'a ModelGraph,
    devices: &'a DeviceGraph,
) -> Result<VerifiedPlan<'a>, Vec<PlanViolation>> {
    let mut violations = header_violations(plan, model, devices);
    violations.extend(work_violations(plan, model));
    let (stage_of, op_violations) = assign_ops(plan, model);
    violations.extend(op_violations);
    let (placement, device_violations) = place(plan, devices);
    violations.extend(device_violations);
    violations.extend(execution::violations(plan, model));
    if !violations.is_empty() {
        return Err(violations);
    }
    violations.extend(flow_violations(model, &stage_of));
    let local = plan.execution.tensor.as_ref().map(|tensor| tensor.local(model)).transpose();
    let local = local.map_err(|problem| vec![PlanViolation::Tensor { problem: problem.to_string() }])?;
    let held = local.as_ref().map_or(model, LocalGraph::graph);
    violations.extend(device_fit_violations(plan, model, held, devices, &placement));
    let verified = VerifiedPlan { plan, model, local, devices, placement, stage_of };
    if violations.is_empty() { Ok(verified) } else { Err(violations) }
}

fn header_violations(plan: &Plan, model: &ModelGraph, devices: &DeviceGraph) -> Vec<PlanViolation> {
    let mut found = Vec::new();
    if plan.format != PLAN_FORMAT {
        found.push(PlanViolation::Format { found: plan.format.clone() });
    }
    if plan.version != PLAN_VERSION {
        found.push(PlanViolation::Version { found: plan.version, expected: PLAN_VERSION });
    }
    let (model_digest, cluster_digest) = (model.digest(), devices.digest());
    if plan.model.digest != model_digest {
        found.push(PlanViolation::ModelChanged { planned: plan.model.digest.clone(), actual: model_digest });
    }
    if plan.cluster.digest != cluster_digest {
        found.push(PlanViolation::ClusterChanged { planned: plan.cluster.digest.clone(), actual: cluster_digest });
    }
    found
}

fn work_violations(plan: &Plan, model: &ModelGraph) -> Vec<PlanViolation> {
    let mut found = Vec::new();
    for (field, count) in [("micro_batches", plan.micro_batches), ("workload.global_batch", plan.workload.global_batch)]
    {
        if count == 0 {
            found.push(PlanViolation::Zero { field });
        }
    }
    if plan.micro_batches > MOST_MICRO_BATCHES {
        found.push(PlanViolation::TooManyMicroBatches { found: plan.micro_batches, most: MOST_MICRO_BATCHES });
    }
    if plan.stages.is_empty() {
        found.push(PlanViolation::NoStages);
    }
    let replicas = plan.data_degree() as u64;
    if found.is_empty() && replicas > 0 && plan.micro_batch_size() == 0 {
        let (global_batch, micro_batches) = (plan.workload.global_batch, plan.micro_batches);
        found.push(PlanViolation::BatchDoesNotDivide { global_batch, replicas, micro_batches });
    }
    if model.loss().is_none() {
        found.push(PlanViolation::NoLoss { model: model.name().to_owned() });
    }
    found
}

fn assign_ops(plan: &Plan, model: &ModelGraph) -> (Vec<usize>, Vec<PlanViolation>) {
    let count = model.ops().len();
    let mut stage_of: Vec<Option<usize>> = vec![None; count];
    let mut found = Vec::new();
    for (stage, ops) in plan.stages.iter().map(|stage| &stage.ops).enumerate() {
        if ops.is_empty() {
            found.push(PlanViolation::EmptyStage { stage });
        }
        // A range far beyond the model is reported once, not walked.
        if let Some(op) = ops.iter().take(count + 1).find(|op| op.index() >= count) {
            found.push(PlanViolation::UnknownOp { stage, op: op.index(), count });
        }
        for op in ops.iter().take_while(|op| op.index() < count) {
            match stage_of[op.index()].replace(stage) {
                None => {}
                Some(first) => {
                    let name = model.op(op).name.clone();
                    found.push(PlanViolation::OpRepeated { op: name, first, second: stage });
                }
            }
        }
    }
    let missing = model.op_ids().filter(|op| stage_of[op.index()].is_none());
    found.extend(missing.map(|op| PlanViolation::OpMissing { op: model.op(op).name.clone() }));
    (stage_of.into_iter().map(|stage| stage.unwrap_or(0)).collect(), found)
}

fn place(plan: &Plan, devices: &DeviceGraph) -> (Vec<Vec<DeviceId>>, Vec<PlanViolation>) {
    let by_name: HashMap<&str, DeviceId> =
        devices.device_ids().map(|id| (devices.device(id).name.as_str(), id)).collect();
    let mut used: HashMap<&str, usize> = HashMap::new();
    let (mut placement, mut found) = (Vec::new(), Vec::new());
    let expected = plan.stages.first().map_or(0, |stage| stage.devices.len());
    for (stage, names) in plan.stages.iter().map(|stage| &stage.devices).enumerate() {
        if names.is_empty() {
            found.push(PlanViolation::NoDevices { stage });
        } else if names.len() != expected && expected > 0 {
            found.push(PlanViolation::UnequalReplicas { stage, expected, got: names.len() });
        }
        let mut row = Vec::new();
        for name in names {
            match by_name.get(name.as_str()) {
                Some(id) => row.push(*id),
                None => found.push(PlanViolation::UnknownDevice { stage, device: name.clone() }),
            }
            let shares = plan.schedule == Schedule::Interleaved && stage >= plan.pipeline_ranks();
            if let Some(first) = used.insert(name, stage).filter(|_| !shares) {
                found.push(PlanViolation::DeviceReused { device: name.clone(), first, second: stage });
            }
        }
        placement.push(row);
    }
    (placement, found)
}

fn flow_violations(model: &ModelGraph, stage_of: &[usize]) -> Vec<PlanViolation> {
    let mut found = Vec::new();
    for value in model.values() {
        let Some(from) = value.producer.map(|op| stage_of[op.index()]) else { continue };
        let back = value.consumers.iter().map(|op| stage_of[op.index()]).find(|to| *to < from);
        found.extend(back.map(|to| PlanViolation::BackwardFlow { value: value.name.clone(), from, to }));
    }
    found
}

fn device_fit_violations(
    plan: &Plan,
    model: &ModelGraph,
    held: &ModelGraph,
    devices: &DeviceGraph,
    placement: &[Vec<DeviceId>],
) -> Vec<PlanViolation> {
    let mut found = Vec::new();
    let ranks = plan.pipeline_ranks();
    for (index, row) in placement.iter().take(ranks).enumerate() {
        let needed = certain_bytes(plan, (model, held), plan.stages.iter().skip(index).step_by(ranks));
        for device in row.iter().map(|id| devices.device(*id)) {
            let available = device.spec.memory();
            if needed > available {
                let device = device.name.clone();
                found.push(PlanViolation::StateExceedsMemory { device, stage: index, needed, available });
            }
            if device.spec.peak(plan.workload.precision).is_none() {
                let precision = plan.workload.precision.to_string();
                found.push(PlanViolation::Precision { device: device.name.clone(), precision });
            }
        }
    }
    found
}

/// Bytes that a rank of these stages holds at some moment, whatever the cost model. `held` has the shapes that it holds
/// parameters of `model` in.
fn certain_bytes<'a>(
    plan: &Plan,
    (model, held): (&ModelGraph, &ModelGraph),
    stages: impl Iterator<Item = &'a Stage>,
) -> Bytes {
    let mut params: Vec<ParamId> =
        stages.flat_map(|stage| stage.ops.iter()).flat_map(|op| model.op(op).params.iter().copied()).collect();
    params.sort_unstable();
    params.dedup();
    let frozen = plan.execution.frozen_params(model);
    let (fixed, trained): (Vec<ParamId>, Vec<ParamId>) =
        params.into_iter().partition(|param| frozen.binary_search(param).is_ok());
    let weights = |params: &[ParamId]| -> Bytes { params.iter().map(|param| held.param(*param).bytes()).sum() };
    let (whole, own) = (state_bytes(held, trained.iter().copied(), plan.workload.optimizer), weights(&trained));
    let share = |bytes: Bytes| Bytes::new(bytes.get() / plan.data_degree().max(1) as u64);
    let optimizer = Bytes::new(whole.get() - 2 * own.get());
    weights(&fixed)
        + match plan.execution.synchronisation {
            Synchronisation::AllReduce => whole,
            Synchronisation::Zero1 => own + own + share(optimizer),
            Synchronisation::Zero2 => own + share(own + optimizer),
            Synchronisation::Zero3 => share(whole),
            // A server holds the state of its groups, which may be any share of it.
            Synchronisation::ParameterServer
            | Synchronisation::AsynchronousServer
            | Synchronisation::StaleServer { .. } => own + own,
        }
}

/// Bytes of parameters, gradients and optimizer state in f32: `4 + 4 + 4 k` a parameter, with `k` = 2 for AdamW and 0
/// for SGD. Mixed precision keeps 2 + 2 bytes for the working copies and 4 + 4 k for the master copy, the same total
/// for AdamW (Rajbhandari et al. 2020, section 3.1: 16 bytes a parameter).
pub fn state_bytes(model: &ModelGraph, params: impl IntoIterator<Item = ParamId>, optimizer: Optimizer) -> Bytes {
    let elements: u64 = params.into_iter().map(|param| model.param(param).elements()).sum();
    Bytes::new(elements * (8 + 4 * optimizer.state_per_parameter()))
}
