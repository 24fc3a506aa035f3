//! Plans written by hand, and the unpartitioned model that they are held to.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutplane_graph::{
    ClusterSpec, DeviceGraph, DeviceKind, DeviceSpec, Dtype, LinkKind, LinkSpec, ModelGraph, ModelSource, NodeKind,
    NodeSpec, Overrides,
};
use cutplane_plan::{
    ClusterRef, Execution, ModelRef, OpSet, Optimizer, PLAN_FORMAT, PLAN_VERSION, Plan, Program, Schedule, Stage,
    Workload, lower, verify,
};
use cutplane_runtime::data::{Batches, TextData};
use cutplane_runtime::exec::{RankTensors, RunOptions, Transfers};
use cutplane_runtime::init::initial_weight;
use cutplane_runtime::{Backend, OptimizerSettings, SegmentRunner};

pub(crate) const GLOBAL_BATCH: u64 = 8;
pub(crate) const SEED: u64 = 17;

/// A model with the text that it is trained on.
pub(crate) struct Subject {
    pub(crate) source: ModelSource,
    pub(crate) model: Arc<ModelGraph>,
    pub(crate) batches: Arc<Batches>,
}

pub(crate) fn subject(name: &str) -> Subject {
    let source = ModelSource::BuiltIn { name: name.into(), overrides: Overrides::default(), sequence_length: 32 };
    let model = Arc::new(cutplane_zoo::build(&source).expect("a built-in model"));
    let text = Arc::new(TextData::from_text("words", &words(2000)).expect("not empty"));
    let batches = Arc::new(Batches::new(text, &model, GLOBAL_BATCH, SEED).expect("fits"));
    Subject { source, model, batches }
}

/// Sentences without sense, the same everywhere.
fn words(count: u64) -> String {
    const WORDS: [&str; 8] = ["the", "pipeline", "waits", "for", "a", "gradient", "of", "stages"];
    (0..count).map(|i| WORDS[((i * i * 31 + i * 7) % 61 % 8) as usize].to_owned() + " ").collect()
}

/// How a plan cuts the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) name: &'static str,
    pub(crate) stages: usize,
    pub(crate) replicas: usize,
    pub(crate) micro_batches: u64,
    pub(crate) schedule: Schedule,
}

pub(crate) const fn cut(
    name: &'static str,
    stages: usize,
    replicas: usize,
    micro_batches: u64,
    schedule: Schedule,
) -> Cut {
    Cut { name, stages, replicas, micro_batches, schedule }
}

/// One host with `count` cores of 4 GiB, joined by its memory.
fn cores(count: usize) -> ClusterSpec {
    let core = DeviceSpec {
        model: "core".into(),
        kind: DeviceKind::Cpu,
        memory_gib: 4.0,
        peak_tflop_per_s: [Dtype::F32, Dtype::Bf16, Dtype::F16].map(|precision| (precision, 0.1)).into(),
        memory_bandwidth_gb_per_s: 10.0,
        launch_overhead_us: 1.0,
        matmul_efficiency: 0.5,
        memory_efficiency: 0.5,
        accelerator: None,
        source: String::new(),
    };
    let host = NodeSpec { name: "host".into(), kind: NodeKind::Host, model: None, host: None };
    let device = |i: usize| NodeSpec {
        name: format!("cpu:{i}"),
        kind: NodeKind::Device,
        model: Some("core".into()),
        host: Some("host".into()),
    };
    let link = |i: usize| LinkSpec {
        from: format!("cpu:{i}"),
        to: "host".into(),
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s: 10.0,
        latency_us: 1.0,
    };
    ClusterSpec {
        name: format!("cpu:{count}"),
        device_models: BTreeMap::from([("core".into(), core)]),
        nodes: std::iter::once(host).chain((0..count).map(device)).collect(),
        links: (0..count).map(link).collect(),
    }
}

/// The operators in equal contiguous parts, one a stage; verified and lowered.
pub(crate) fn program(subject: &Subject, cut: Cut, optimizer: Optimizer) -> Arc<Program> {
    program_in(Dtype::F32, subject, cut, optimizer)
}

/// The same in a precision.
pub(crate) fn program_in(precision: Dtype, subject: &Subject, cut: Cut, optimizer: Optimizer) -> Arc<Program> {
    let ops = subject.model.ops().len();
    program_at(precision, subject, cut, optimizer, |stage| ops * stage / cut.stages)
}

/// The same with stages that begin at chosen operators.
pub(crate) fn program_at(
    precision: Dtype,
    subject: &Subject,
    cut: Cut,
    optimizer: Optimizer,
    first_op: impl Fn(usize) -> usize,
) -> Arc<Program> {
    let (plan, devices) = plan_at(precision, subject, cut, optimizer, Execution::default(), first_op);
    let verified = verify(&plan, &subject.model, &devices).expect("a legal plan");
    Arc::new(lower(&verified).expect("a program that ends"))
}

/// The plan itself, with its devices. Interleaved stages take turns on half as many groups of devices.
pub(crate) fn plan_at(
    precision: Dtype,
    subject: &Subject,
    cut: Cut,
    optimizer: Optimizer,
    execution: Execution,
    first_op: impl Fn(usize) -> usize,
) -> (Plan, DeviceGraph) {
    let rows = if cut.schedule == Schedule::Interleaved { cut.stages / 2 } else { cut.stages };
    let places = cut.replicas * execution.tensor_degree();
    let devices = DeviceGraph::build(cores(rows * places)).expect("a cluster");
    let stage = |stage: usize| Stage {
        ops: OpSet::range(first_op(stage), first_op(stage + 1)),
        devices: (0..places).map(|place| format!("cpu:{}", stage % rows * places + place)).collect(),
    };
    let plan = Plan {
        format: PLAN_FORMAT.into(),
        version: PLAN_VERSION,
        name: cut.name.into(),
        model: ModelRef { source: subject.source.clone(), digest: subject.model.digest() },
        cluster: ClusterRef { spec: devices.spec().clone(), digest: devices.digest() },
        workload: Workload { global_batch: subject.batches.global_batch(), optimizer, precision },
        stages: (0..cut.stages).map(stage).collect(),
        micro_batches: cut.micro_batches,
        schedule: cut.schedule,
        execution,
        search: None,
    };
    (plan, devices)
}

pub(crate) fn settings(rule: Optimizer) -> OptimizerSettings {
    let learning_rate = if rule == Optimizer::Sgd { 0.1 } else { 1e-3 };
    OptimizerSettings::new(rule, learning_rate)
}

pub(crate) fn options(rule: Optimizer) -> RunOptions {
    RunOptions { seed: SEED, ..RunOptions::new(settings(rule)) }
}

/// Ranks that compute as on one card, with a way for tensors between them.
pub(crate) fn twin_options(rule: Optimizer, transfers: Transfers) -> RunOptions {
    RunOptions { backend: Backend::cpu_as_card(), transfers, ..options(rule) }
}

/// What training the unpartitioned model gives, without any executor: whole batch, one segment, one thread.
pub(crate) struct Reference {
    pub(crate) losses: Vec<f64>,
    pub(crate) first_gradients: RankTensors,
    pub(crate) parameters: RankTensors,
}

pub(crate) fn reference(subject: &Subject, rule: Optimizer, steps: u64) -> Reference {
    let single = program(subject, cut("single", 1, 1, 1, Schedule::FillDrain), rule);
    let segment = single.segments[0].clone();
    let (inputs, params) = (segment.inputs.clone(), segment.params.clone());
    let weights = |id| initial_weight(subject.model.param(id), SEED);
    let mut runner = SegmentRunner::new(subject.model.clone(), segment, &Backend::cpu(), &weights, settings(rule))
        .expect("the model's own shapes");
    let (mut losses, mut first_gradients) = (Vec::new(), RankTensors::new());
    for step in 0..steps {
        let batch = subject.batches.inputs(step, 0, GLOBAL_BATCH, &inputs).expect("a text in memory");
        runner.forward(0, batch).expect("forward");
        losses.push(f64::from(runner.loss(0).expect("a training graph")));
        runner.backward(0, Vec::new(), 1.0).expect("backward");
        if step == 0 {
            first_gradients = params.iter().map(|id| (*id, runner.gradient(*id).expect("reached"))).collect();
        }
        runner.optimizer_step();
    }
    let parameters = params.iter().map(|id| (*id, runner.parameter(*id))).collect();
    Reference { losses, first_gradients, parameters }
}
