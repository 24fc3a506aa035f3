//! A chain of equal linear layers, clusters with round numbers, a cost model with round numbers, and timelines as text.

use std::collections::BTreeMap;

use cutplane_graph::{
    ClusterSpec, Device, DeviceGraph, DeviceId, DeviceKind, DeviceSpec, Dtype, InputRole, LinkKind, LinkSpec,
    ModelGraph, ModelGraphBuilder, ModelSource, NodeKind, NodeSpec, OpId, OpKind, Overrides, Pass, Route, TensorType,
};
use cutplane_plan::{
    Action, ClusterRef, Direction, Execution, ModelRef, OpSet, Optimizer, PLAN_FORMAT, PLAN_VERSION, Plan, Program,
    Rank, Schedule, Stage, Workload, lower, verify,
};
use cutplane_record::{Span, Timeline};
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::cost::{Contention, CostError, CostModel, WorkTime};
use cutplane_sim::engine::simulate;
use cutplane_units::{Bytes, Nanos};

/// Width of the chain: a value of one sample is 32 bytes.
pub(crate) const WIDTH: u64 = 8;

/// `layers` linear layers and a loss.
pub(crate) fn chain(layers: usize) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("chain");
    let mut x = b.input("x", InputRole::Features, TensorType::batched(&[WIDTH], Dtype::F32)).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, TensorType::batched(&[], Dtype::I32)).unwrap();
    for layer in 0..layers {
        x = b.op(&format!("layer{layer}"), OpKind::linear(WIDTH, WIDTH), &[x]).unwrap();
    }
    let loss = b.op("loss", OpKind::CrossEntropy { classes: WIDTH, counted: 1 }, &[x, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

fn spec(kind: DeviceKind) -> DeviceSpec {
    DeviceSpec {
        model: "fake".into(),
        kind,
        memory_gib: 1.0,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 1.0)]),
        memory_bandwidth_gb_per_s: 1.0,
        launch_overhead_us: 0.0,
        matmul_efficiency: 1.0,
        memory_efficiency: 1.0,
        accelerator: None,
        source: String::new(),
    }
}

/// Hosts `h0`, `h1`, ... with the given numbers of devices `d0`, `d1`, ...; a device reaches its host at 1000 bytes a
/// nanosecond, each host the next one at 1 byte a nanosecond, all without latency.
pub(crate) fn cluster(kind: DeviceKind, hosts: &[usize]) -> DeviceGraph {
    let (mut nodes, mut links) = (Vec::new(), Vec::new());
    let link = |from: String, to: String, bandwidth_gb_per_s| LinkSpec {
        from,
        to,
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s,
        latency_us: 0.0,
    };
    let mut device = 0;
    for (host, devices) in hosts.iter().enumerate() {
        let name = format!("h{host}");
        nodes.push(NodeSpec { name: name.clone(), kind: NodeKind::Host, model: None, host: None });
        for _ in 0..*devices {
            let (model, host) = (Some("fake".to_owned()), Some(name.clone()));
            nodes.push(NodeSpec { name: format!("d{device}"), kind: NodeKind::Device, model, host });
            links.push(link(format!("d{device}"), name.clone(), 1000.0));
            device += 1;
        }
        if host > 0 {
            links.push(link(format!("h{}", host - 1), name, 1.0));
        }
    }
    let device_models = BTreeMap::from([("fake".to_owned(), spec(kind))]);
    DeviceGraph::build(ClusterSpec { name: "fake".into(), device_models, nodes, links }).unwrap()
}

/// Nanoseconds of an operator (by index) in a pass on a device (by name).
type OpTime = Box<dyn Fn(usize, Pass, &str) -> u64 + Sync>;

/// Round numbers for every question.
pub(crate) struct Fake {
    /// The loss is never asked and costs nothing.
    pub(crate) op: OpTime,
    pub(crate) send: u64,
    pub(crate) recv: u64,
    /// Latency; the rest of the wire time is size over bandwidth when `wire` is set.
    pub(crate) latency: u64,
    pub(crate) wire: bool,
    pub(crate) all_reduce: u64,
    pub(crate) optimizer: u64,
    /// Of the optimizer, for each element that is updated.
    pub(crate) update: u64,
    /// Of a copy, for each byte.
    pub(crate) copy: u64,
    /// Slowdown of compute for each further busy device of a host.
    pub(crate) contention: f64,
}

impl Default for Fake {
    /// Forward 10, backward 20, everything else free.
    fn default() -> Self {
        let op = |_, pass, _: &str| if pass == Pass::Forward { 10 } else { 20 };
        Self {
            op: Box::new(op),
            send: 0,
            recv: 0,
            latency: 0,
            wire: false,
            all_reduce: 0,
            optimizer: 0,
            update: 0,
            copy: 0,
            contention: 0.0,
        }
    }
}

impl CostModel for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn op(
        &self,
        model: &ModelGraph,
        op: OpId,
        pass: Pass,
        _: u64,
        _: Dtype,
        device: &Device,
    ) -> Result<WorkTime, CostError> {
        let is_loss = op.index() + 1 == model.ops().len();
        let time = if is_loss { 0 } else { (self.op)(op.index(), pass, &device.name) };
        Ok(WorkTime { compute: Nanos::new(time), memory: Nanos::ZERO })
    }
    fn segment(&self, _: Pass, _: Bytes, _: &Device) -> Result<WorkTime, CostError> {
        Ok(WorkTime::default())
    }
    fn send(&self, _: Bytes, _: &Device) -> Result<Nanos, CostError> {
        Ok(Nanos::new(self.send))
    }
    fn recv(&self, _: Bytes, _: &Device) -> Result<Nanos, CostError> {
        Ok(Nanos::new(self.recv))
    }
    fn wire(&self, payload: Bytes, route: &Route, _: &Device, _: &Device) -> Result<(Nanos, Nanos), CostError> {
        let time = if self.wire { payload.transfer_time(route.bandwidth) } else { Nanos::ZERO };
        Ok((Nanos::new(self.latency), time))
    }
    fn all_reduce(&self, _: Bytes, _: &[DeviceId], _: &DeviceGraph) -> Result<Nanos, CostError> {
        Ok(Nanos::new(self.all_reduce))
    }
    fn optimizer(&self, _: Optimizer, tensors: &[u64], _: &Device) -> Result<WorkTime, CostError> {
        let updates = self.update * tensors.iter().sum::<u64>();
        Ok(WorkTime { compute: Nanos::ZERO, memory: Nanos::new(self.optimizer + updates) })
    }
    fn load(&self, payload: Bytes, _: &Device) -> Result<Nanos, CostError> {
        Ok(Nanos::new(self.copy * payload.get()))
    }
    fn contention(&self, _: &Device, busy: usize) -> Contention {
        Contention { compute: 1.0 + self.contention * (busy as f64 - 1.0), memory: 1.0 }
    }
    fn overlaps(&self, device: &Device) -> bool {
        device.spec.kind == DeviceKind::Gpu
    }
}

/// A plan with one layer a stage (the loss in the last), replicas side by side: device = stage * replicas + replica.
pub(crate) fn plan(
    model: &ModelGraph,
    devices: &DeviceGraph,
    stages: usize,
    micro_batches: u64,
    batch: u64,
    schedule: Schedule,
) -> Plan {
    let replicas = devices.devices().len() / stages;
    let layers = model.ops().len() - 1;
    let stage = |stage: usize| {
        let first = layers * stage / stages;
        let end = if stage + 1 == stages { layers + 1 } else { layers * (stage + 1) / stages };
        let devices = (0..replicas).map(|replica| format!("d{}", stage * replicas + replica)).collect();
        Stage { ops: OpSet::range(first, end), devices }
    };
    let source = ModelSource::BuiltIn { name: "chain".into(), overrides: Overrides::default(), sequence_length: 1 };
    Plan {
        format: PLAN_FORMAT.into(),
        version: PLAN_VERSION,
        name: "test".into(),
        model: ModelRef { source, digest: model.digest() },
        cluster: ClusterRef { spec: devices.spec().clone(), digest: devices.digest() },
        workload: Workload {
            global_batch: batch * micro_batches * replicas as u64,
            optimizer: Optimizer::AdamW,
            precision: Dtype::F32,
        },
        stages: (0..stages).map(stage).collect(),
        micro_batches,
        schedule,
        execution: Execution::default(),
        search: None,
    }
}

/// Lowers and simulates a [`plan`] with micro-batches of one sample.
pub(crate) fn run(
    devices: &DeviceGraph,
    stages: usize,
    micro_batches: u64,
    schedule: Schedule,
    cost: &Fake,
) -> (Program, Timeline) {
    run_batch(devices, stages, micro_batches, 1, schedule, cost)
}

/// As [`run`], with micro-batches of `batch` samples.
pub(crate) fn run_batch(
    devices: &DeviceGraph,
    stages: usize,
    micro_batches: u64,
    batch: u64,
    schedule: Schedule,
    cost: &Fake,
) -> (Program, Timeline) {
    let model = chain(stages);
    let plan = plan(&model, devices, stages, micro_batches, batch, schedule);
    let verified = verify(&plan, &model, devices).unwrap();
    let program = lower(&verified).unwrap();
    let timeline = simulate(&verified, &program, cost, MemoryModel::Framework).unwrap();
    (program, timeline)
}

/// All spans of all ranks, one line a rank: `F0 0-10` is the forward pass of micro-batch 0 from 0 to 10 ns; `L` load,
/// `Sa`/`Ra` send/receive of an activation, `Sg`/`Rg` of a gradient, `B` backward, `A` all-reduce, `O` optimizer; `w3`:
/// waited for 3 ns.
pub(crate) fn text(program: &Program, timeline: &Timeline) -> Vec<String> {
    let line = |rank: usize| {
        let spans = timeline.rank_spans(Rank(rank as u32));
        spans.map(|span| span_text(program, rank, span)).collect::<Vec<_>>().join(", ")
    };
    (0..program.ranks.len()).map(line).collect()
}

fn span_text(program: &Program, rank: usize, span: &Span) -> String {
    let list = &program.ranks[rank].instructions;
    let action = list.iter().find(|instruction| instruction.id == span.instruction).unwrap().action;
    let carried = |message| if program.message(message).direction == Direction::Activation { "a" } else { "g" };
    let code = match action {
        Action::Load { .. } => "L".to_owned(),
        Action::Forward { .. } => "F".to_owned(),
        Action::Backward { .. } => "B".to_owned(),
        Action::Send { message } => format!("S{}", carried(message)),
        Action::Recv { message } => format!("R{}", carried(message)),
        Action::AllReduce { .. } => "A".to_owned(),
        _ => "O".to_owned(),
    };
    let micro_batch = program.micro_batch_of(action).map_or(String::new(), |m| m.to_string());
    let waited = if span.waited.is_zero() { String::new() } else { format!(" w{}", span.waited.get()) };
    format!("{code}{micro_batch} {}-{}{waited}", span.start.get(), span.end.get())
}
