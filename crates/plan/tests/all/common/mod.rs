//! A small model, small clusters and plans over them.

use std::collections::BTreeMap;
use std::ops::Range;

use cutplane_graph::{
    ClusterSpec, DeviceGraph, DeviceKind, DeviceSpec, Dtype, InputRole, LinkKind, LinkSpec, ModelGraph,
    ModelGraphBuilder, ModelSource, NodeKind, NodeSpec, OpKind, Overrides, TensorType, WeightLayout,
};
use cutplane_plan::{
    Action, ClusterRef, Execution, Instruction, ModelRef, OpSet, Optimizer, PLAN_FORMAT, PLAN_VERSION, Plan, Program,
    RankProgram, Schedule, Stage, Workload,
};

/// Operators `embed`, `mid`, `head`, `loss` over 4 tokens of 10 kinds, width 8; the head shares the embedding if `tied`.
pub(crate) fn model(tied: bool) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("small");
    let ids = TensorType::batched(&[4], Dtype::I32);
    let tokens = b.input("tokens", InputRole::Tokens, ids.clone()).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, ids).unwrap();
    let x = b.op("embed", OpKind::Embedding { vocab: 10, dim: 8, init_std: 0.02 }, &[tokens]).unwrap();
    let x = b.op("mid", OpKind::linear(8, 8), &[x]).unwrap();
    let layout = WeightLayout::OutIn;
    let head = OpKind::Linear { inputs: 8, outputs: 10, bias: false, layout, init_std: 0.02 };
    let weight = if tied { "embed.weight" } else { "head.weight" };
    let logits = b.op_with_params("head", head, &[x], &[weight]).unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 10, counted: 4 }, &[logits, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

/// `count` cores `cpu:0`, `cpu:1`, ... of one host with `memory_gib` each.
pub(crate) fn cores(count: usize, memory_gib: f64) -> DeviceGraph {
    let spec = DeviceSpec {
        model: "core".into(),
        kind: DeviceKind::Cpu,
        memory_gib,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 0.1)]),
        memory_bandwidth_gb_per_s: 10.0,
        launch_overhead_us: 5.0,
        matmul_efficiency: 0.8,
        memory_efficiency: 0.85,
        accelerator: None,
        source: String::new(),
    };
    let node = |name: String, kind, model| NodeSpec { name, kind, model, host: None };
    let core = |index| node(format!("cpu:{index}"), NodeKind::Device, Some("core".to_owned()));
    let link = |index| LinkSpec {
        from: format!("cpu:{index}"),
        to: "host".into(),
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s: 10.0,
        latency_us: 1.0,
    };
    DeviceGraph::build(ClusterSpec {
        name: format!("cpu:{count}"),
        device_models: BTreeMap::from([("core".to_owned(), spec)]),
        nodes: std::iter::once(node("host".into(), NodeKind::Host, None)).chain((0..count).map(core)).collect(),
        links: (0..count).map(link).collect(),
    })
    .unwrap()
}

/// A plan of contiguous stages; replica `r` of stage `i` is device `i * replicas + r`.
pub(crate) fn plan(
    model: &ModelGraph,
    devices: &DeviceGraph,
    stages: &[Range<usize>],
    replicas: usize,
    schedule: Schedule,
    micro_batches: u64,
) -> Plan {
    let source = ModelSource::BuiltIn { name: "small".into(), overrides: Overrides::default(), sequence_length: 4 };
    let device = |index: usize| format!("cpu:{index}");
    let stage = |(index, ops): (usize, &Range<usize>)| Stage {
        ops: OpSet::range(ops.start, ops.end),
        devices: (0..replicas).map(|replica| device(index * replicas + replica)).collect(),
    };
    Plan {
        format: PLAN_FORMAT.into(),
        version: PLAN_VERSION,
        name: "test".into(),
        model: ModelRef { source, digest: model.digest() },
        cluster: ClusterRef { spec: devices.spec().clone(), digest: devices.digest() },
        workload: Workload {
            global_batch: 2 * micro_batches * replicas as u64,
            optimizer: Optimizer::AdamW,
            precision: Dtype::F32,
        },
        stages: stages.iter().enumerate().map(stage).collect(),
        micro_batches,
        schedule,
        execution: Execution::default(),
        search: None,
    }
}

fn line(program: &Program, instruction: &Instruction) -> String {
    let what = match instruction.action {
        Action::Load { micro_batch, .. } => format!("load {micro_batch}"),
        Action::Forward { micro_batch, .. } => format!("F{micro_batch}"),
        Action::Backward { micro_batch, .. } => format!("B{micro_batch}"),
        Action::Send { message } => {
            let facts = program.message(message);
            format!("send {} {:?} {} to {}", message.0, facts.direction, facts.micro_batch, facts.to.0)
        }
        Action::Recv { message } => format!("recv {}", message.0),
        Action::AllReduce { group } => format!("all-reduce {}", group.0),
        Action::OptimizerStep => "step".to_owned(),
        Action::Recompute { micro_batch, segment } => format!("again {micro_batch} of {segment}"),
        Action::BackwardInput { micro_batch, .. } => format!("I{micro_batch}"),
        Action::BackwardWeight { micro_batch, .. } => format!("W{micro_batch}"),
        Action::Release { group } => format!("release {}", group.0),
        Action::Exchange { micro_batch, direction, .. } => {
            format!("{} {direction:?} {micro_batch}", instruction.action.label())
        }
        Action::Push { group, clock } => format!("push {} {clock}", group.0),
        Action::Pull { group, clock, needs } => format!("pull {} {clock} of {needs}", group.0),
        Action::Serve { group } => format!("serve {}", group.0),
        other => format!("{} {}", other.label(), other.collective().unwrap().0),
    };
    let needs: Vec<String> = instruction.depends_on.iter().map(ToString::to_string).collect();
    let arrow = if needs.is_empty() { "" } else { " <- " };
    format!("{} {what}{arrow}{}", instruction.id, needs.join(" "))
}

/// The instruction list of a rank, one line each: id, what, and what it waits for.
pub(crate) fn listing(program: &Program, rank: &RankProgram) -> Vec<String> {
    rank.instructions.iter().map(|instruction| line(program, instruction)).collect()
}
