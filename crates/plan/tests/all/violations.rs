//! One failing example for each rule that `verify` holds: a valid plan with one thing broken.

use crate::common::{cores, model, plan};
use cutplane_graph::{DeviceGraph, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpId, OpKind, TensorType};
use cutplane_plan::{OpSet, Optimizer, Plan, PlanViolation, Schedule, state_bytes, verify};
use cutplane_units::Bytes;

fn valid(model: &ModelGraph, devices: &DeviceGraph) -> Plan {
    plan(model, devices, &[0..2, 2..4], 1, Schedule::OneFOneB, 4)
}

/// Violations of the two-stage plan after `change`.
fn violations(change: impl FnOnce(&mut Plan)) -> Vec<PlanViolation> {
    let (model, devices) = (model(true), cores(4, 1.0));
    let mut plan = valid(&model, &devices);
    change(&mut plan);
    verify(&plan, &model, &devices).map(|_| ()).unwrap_err()
}

#[test]
fn the_unchanged_plan_is_valid() {
    let (model, devices) = (model(true), cores(4, 1.0));
    let plan = valid(&model, &devices);
    let verified = verify(&plan, &model, &devices).unwrap();
    assert_eq!(verified.stage_of(OpId::new(1)), 0);
    assert_eq!(verified.stage_of(OpId::new(2)), 1);
    assert_eq!(devices.device(verified.device(1, 0)).name, "cpu:1");
}

#[test]
fn format() {
    let found = violations(|plan| plan.format = "other".into());
    assert_eq!(found, [PlanViolation::Format { found: "other".into() }]);
}

#[test]
fn version() {
    assert_eq!(violations(|plan| plan.version = 7), [PlanViolation::Version { found: 7, expected: 2 }]);
}

#[test]
fn model_changed() {
    let found = violations(|plan| plan.model.digest = "0".into());
    assert_eq!(found, [PlanViolation::ModelChanged { planned: "0".into(), actual: model(true).digest() }]);
}

#[test]
fn cluster_changed() {
    let found = violations(|plan| plan.cluster.digest = "0".into());
    assert_eq!(found, [PlanViolation::ClusterChanged { planned: "0".into(), actual: cores(4, 1.0).digest() }]);
}

#[test]
fn no_stages() {
    let found = violations(|plan| plan.stages.clear());
    assert_eq!(found[0], PlanViolation::NoStages);
    // Every operator is then in no stage, and that is said too.
    assert_eq!(found.len(), 5);
}

#[test]
fn empty_stage() {
    let found = violations(|plan| {
        plan.stages[0].ops = OpSet::range(0, 4);
        plan.stages[1].ops = OpSet::default();
    });
    assert_eq!(found, [PlanViolation::EmptyStage { stage: 1 }]);
}

#[test]
fn no_devices() {
    let found = violations(|plan| plan.stages[1].devices.clear());
    assert_eq!(found, [PlanViolation::NoDevices { stage: 1 }]);
}

#[test]
fn unequal_replicas() {
    let found = violations(|plan| plan.stages[1].devices.push("cpu:2".into()));
    assert_eq!(found, [PlanViolation::UnequalReplicas { stage: 1, expected: 1, got: 2 }]);
}

#[test]
fn unknown_device() {
    let found = violations(|plan| plan.stages[1].devices[0] = "gpu:0".into());
    assert_eq!(found, [PlanViolation::UnknownDevice { stage: 1, device: "gpu:0".into() }]);
}

#[test]
fn device_reused() {
    let found = violations(|plan| plan.stages[1].devices[0] = "cpu:0".into());
    assert_eq!(found, [PlanViolation::DeviceReused { device: "cpu:0".into(), first: 0, second: 1 }]);
}

#[test]
fn unknown_op() {
    let found = violations(|plan| plan.stages[1].ops = "2-4".parse().unwrap());
    assert_eq!(found, [PlanViolation::UnknownOp { stage: 1, op: 4, count: 4 }]);
    // A hostile range is reported as soon as it leaves the model.
    let found = violations(|plan| plan.stages[1].ops = "2-4000000000".parse().unwrap());
    assert_eq!(found, [PlanViolation::UnknownOp { stage: 1, op: 4, count: 4 }]);
}

#[test]
fn op_missing() {
    let found = violations(|plan| plan.stages[0].ops = OpSet::range(0, 1));
    assert_eq!(found, [PlanViolation::OpMissing { op: "mid".into() }]);
}

#[test]
fn op_repeated() {
    let found = violations(|plan| plan.stages[1].ops = OpSet::range(1, 4));
    assert_eq!(found, [PlanViolation::OpRepeated { op: "mid".into(), first: 0, second: 1 }]);
}

#[test]
fn backward_flow() {
    let found = violations(|plan| {
        plan.stages[0].ops = "0,2-3".parse().unwrap();
        plan.stages[1].ops = "1".parse().unwrap();
    });
    assert_eq!(found, [PlanViolation::BackwardFlow { value: "mid".into(), from: 1, to: 0 }]);
}

#[test]
fn batch_does_not_divide() {
    let found = violations(|plan| plan.workload.global_batch = 6);
    let expected = PlanViolation::BatchDoesNotDivide { global_batch: 6, replicas: 1, micro_batches: 4 };
    assert!(expected.to_string().ends_with("choose a multiple of 4"), "{expected}");
    assert_eq!(found, [expected]);
}

#[test]
fn zero() {
    let found = violations(|plan| plan.micro_batches = 0);
    assert_eq!(found, [PlanViolation::Zero { field: "micro_batches" }]);
    let found = violations(|plan| plan.workload.global_batch = 0);
    assert_eq!(found, [PlanViolation::Zero { field: "workload.global_batch" }]);
}

#[test]
fn more_micro_batches_than_can_be_lowered() {
    let found = violations(|plan| {
        plan.micro_batches = 1 << 17;
        plan.workload.global_batch = 1 << 17;
    });
    assert_eq!(found, [PlanViolation::TooManyMicroBatches { found: 1 << 17, most: 1 << 16 }]);
}

#[test]
fn counts_near_the_end_of_the_range_are_refused_without_overflow() {
    let found = violations(|plan| plan.micro_batches = u64::MAX);
    assert_eq!(found, [PlanViolation::TooManyMicroBatches { found: u64::MAX, most: 1 << 16 }]);
    let violation = PlanViolation::BatchDoesNotDivide { global_batch: 8, replicas: 2, micro_batches: u64::MAX };
    assert!(violation.to_string().contains("choose a multiple"), "{violation}");
}

#[test]
fn no_loss() {
    let mut b = ModelGraphBuilder::new("encoder");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[8], Dtype::F32)).unwrap();
    let y = b.op("a", OpKind::linear(8, 8), &[x]).unwrap();
    let (model, devices) = (b.output(y).build().unwrap(), cores(1, 1.0));
    let plan = plan(&model, &devices, std::slice::from_ref(&(0..1)), 1, Schedule::FillDrain, 1);
    let found = verify(&plan, &model, &devices).unwrap_err();
    assert_eq!(found, [PlanViolation::NoLoss { model: "encoder".into() }]);
}

#[test]
fn precision() {
    let found = violations(|plan| plan.workload.precision = Dtype::Bf16);
    let lacking = |device: &str| PlanViolation::Precision { device: device.into(), precision: "bf16".into() };
    assert_eq!(found, [lacking("cpu:0"), lacking("cpu:1")]);
}

#[test]
fn state_exceeds_memory() {
    // Stage 0 holds the embedding (80) and mid (72): 152 parameters of 16 bytes. Stage 1 holds the tied embedding.
    let model = model(true);
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let devices = cores(2, gib(2000));
    let plan = valid(&model, &devices);
    let found = verify(&plan, &model, &devices).unwrap_err();
    let expected = PlanViolation::StateExceedsMemory {
        device: "cpu:0".into(),
        stage: 0,
        needed: Bytes::new(152 * 16),
        available: Bytes::new(2000),
    };
    assert!(expected.to_string().ends_with("432 B too much"), "{expected}");
    assert_eq!(found, [expected]);
    // SGD keeps no state: 8 bytes a parameter fit.
    let mut lean = plan.clone();
    lean.workload.optimizer = Optimizer::Sgd;
    assert!(verify(&lean, &model, &devices).is_ok());
    let all = (0..model.params().len()).map(cutplane_graph::ParamId::new);
    assert_eq!(state_bytes(&model, all, Optimizer::Sgd), Bytes::new(152 * 8));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let found = violations(|plan| {
        plan.version = 7;
        plan.micro_batches = 0;
        plan.stages[0].devices[0] = "gpu:0".into();
    });
    assert_eq!(
        found,
        [
            PlanViolation::Version { found: 7, expected: 2 },
            PlanViolation::Zero { field: "micro_batches" },
            PlanViolation::UnknownDevice { stage: 0, device: "gpu:0".into() },
        ]
    );
}
