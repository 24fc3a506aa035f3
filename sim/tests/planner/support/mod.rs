//! A cost model with hand-chosen prices, and random small problems.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use cutplane_graph::{
    ActivationKind, ClusterSpec, Device, DeviceGraph, DeviceId, DeviceKind, DeviceSpec, Dtype, InputRole, LinkKind,
    LinkSpec, ModelGraph, ModelGraphBuilder, ModelSource, NodeKind, NodeSpec, OpId, OpKind, Overrides, Pass, Route,
    TensorType,
};
use cutplane_plan::{Optimizer, Plan, Schedule, lower, verify};
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::cost::{Contention, CostError, CostModel, WorkTime};
use cutplane_sim::planner::{LayerPin, Problem, SearchSpace};
use cutplane_units::{Bytes, Nanos};

/// Random numbers from a seed (SplitMix64; Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Prices by hand: every operator has a time a sample, devices named `slow` take a multiple of it.
#[derive(Clone, Debug)]
pub struct Fake {
    /// Forward time of one sample, ns, by operator.
    pub forward: Vec<u64>,
    /// Backward time of one sample, ns, by operator.
    pub backward: Vec<u64>,
    /// Fixed time of an operator, ns.
    pub launch: u64,
    /// Fixed time of a pass of a segment, ns.
    pub segment: u64,
    /// Time of a byte at a segment's boundary, each pass, ns.
    pub boundary_per_byte: f64,
    /// Time of handing over or taking a byte, ns.
    pub message_per_byte: f64,
    /// Latency of a message, ns.
    pub latency: u64,
    /// Time of a byte on the wire, ns.
    pub wire_per_byte: f64,
    /// Time of a byte in an all-reduce between two devices, ns.
    pub all_reduce_per_byte: f64,
    /// Time of the optimizer an element, ns.
    pub optimizer_per_element: f64,
    /// Factor of devices of model `slow`.
    pub slow_factor: u64,
    /// Slowdown that each further busy device adds.
    pub crowding: f64,
    /// Whether devices communicate beside computing.
    pub overlaps: bool,
}

impl Fake {
    /// All operators take `forward` and twice as much backward; everything else is free.
    pub fn equal(operators: usize, forward: u64) -> Self {
        Self {
            forward: vec![forward; operators],
            backward: vec![2 * forward; operators],
            launch: 0,
            segment: 0,
            boundary_per_byte: 0.0,
            message_per_byte: 0.0,
            latency: 0,
            wire_per_byte: 0.0,
            all_reduce_per_byte: 0.0,
            optimizer_per_element: 0.0,
            slow_factor: 2,
            crowding: 0.0,
            overlaps: false,
        }
    }

    pub fn random(random: &mut Random, operators: usize) -> Self {
        let mut times = || (0..operators).map(|_| random.below(1_000_000)).collect::<Vec<u64>>();
        let (forward, backward) = (times(), times());
        Self {
            forward,
            backward,
            launch: random.below(20_000),
            segment: random.below(50_000),
            boundary_per_byte: random.pick(&[0.0, 0.1]),
            message_per_byte: random.pick(&[0.0, 10.0, 300.0]),
            latency: random.below(100_000),
            wire_per_byte: random.pick(&[0.0, 100.0, 3000.0, 60_000.0]),
            all_reduce_per_byte: random.pick(&[0.0, 100.0, 1000.0]),
            optimizer_per_element: random.pick(&[0.0, 100.0, 2000.0]),
            slow_factor: random.pick(&[2, 3]),
            crowding: random.pick(&[0.0, 0.1]),
            overlaps: random.chance(50),
        }
    }

    fn factor(&self, device: &Device) -> u64 {
        if device.spec.model == "slow" { self.slow_factor } else { 1 }
    }
}

fn per(rate: f64, amount: u64) -> Nanos {
    Nanos::from_nanos_f64(rate * amount as f64)
}

impl CostModel for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn op(
        &self,
        _model: &ModelGraph,
        op: OpId,
        pass: Pass,
        batch: u64,
        _precision: Dtype,
        device: &Device,
    ) -> Result<WorkTime, CostError> {
        let table = if pass == Pass::Forward { &self.forward } else { &self.backward };
        let compute = Nanos::new(table[op.index()] * batch * self.factor(device));
        Ok(WorkTime { compute, memory: Nanos::new(self.launch) })
    }

    fn segment(&self, _pass: Pass, boundary: Bytes, _device: &Device) -> Result<WorkTime, CostError> {
        Ok(WorkTime {
            compute: Nanos::ZERO,
            memory: Nanos::new(self.segment) + per(self.boundary_per_byte, boundary.get()),
        })
    }

    fn send(&self, payload: Bytes, _device: &Device) -> Result<Nanos, CostError> {
        Ok(per(self.message_per_byte, payload.get()))
    }

    fn recv(&self, payload: Bytes, _device: &Device) -> Result<Nanos, CostError> {
        Ok(per(self.message_per_byte, payload.get()))
    }

    fn wire(&self, payload: Bytes, _: &Route, _: &Device, _: &Device) -> Result<(Nanos, Nanos), CostError> {
        Ok((Nanos::new(self.latency), per(self.wire_per_byte, payload.get())))
    }

    fn all_reduce(&self, payload: Bytes, group: &[DeviceId], _devices: &DeviceGraph) -> Result<Nanos, CostError> {
        Ok(per(self.all_reduce_per_byte * (group.len() as f64 - 1.0), payload.get()))
    }

    fn optimizer(&self, _: Optimizer, tensors: &[u64], device: &Device) -> Result<WorkTime, CostError> {
        let memory = per(self.optimizer_per_element, tensors.iter().sum::<u64>() * self.factor(device));
        Ok(WorkTime { compute: Nanos::ZERO, memory })
    }

    fn load(&self, payload: Bytes, _device: &Device) -> Result<Nanos, CostError> {
        Ok(per(1.0, payload.get()))
    }

    fn contention(&self, _device: &Device, busy: usize) -> Contention {
        let factor = 1.0 + self.crowding * (busy as f64 - 1.0);
        Contention { compute: 1.0, memory: factor }
    }

    fn overlaps(&self, _device: &Device) -> bool {
        self.overlaps
    }
}

/// A source that stands for a graph made by hand.
pub fn source() -> ModelSource {
    ModelSource::BuiltIn { name: "by-hand".to_owned(), overrides: Overrides::default(), sequence_length: 1 }
}

/// `layers` linear layers of the same width, and a loss: `layers + 1` operators.
pub fn equal_layers(layers: usize) -> ModelGraph {
    let mut builder = ModelGraphBuilder::new("equal layers");
    let mut x = builder.input("x", InputRole::Features, TensorType::batched(&[8], Dtype::F32)).expect("fresh");
    let targets = builder.input("y", InputRole::NextTokens, TensorType::batched(&[], Dtype::I32)).expect("fresh");
    for layer in 0..layers {
        builder.layer(Some(layer as u32));
        x = builder.op(&format!("layer{layer}"), OpKind::linear(8, 8), &[x]).expect("fits");
    }
    builder.layer(None);
    let loss = builder.op("loss", OpKind::CrossEntropy { classes: 8, counted: 1 }, &[x, targets]).expect("fits");
    builder.loss(loss).build().expect("sound")
}

/// A chain of `operators` with residual connections and tied weights now and then.
pub fn random_model(random: &mut Random, operators: usize) -> ModelGraph {
    let mut builder = ModelGraphBuilder::new("random chain");
    let mut x = builder.input("x", InputRole::Features, TensorType::batched(&[8], Dtype::F32)).expect("fresh");
    let targets = builder.input("y", InputRole::NextTokens, TensorType::batched(&[], Dtype::I32)).expect("fresh");
    let mut past = vec![x];
    let tied = random.chance(30);
    for index in 0..operators - 1 {
        let name = format!("op{index}");
        builder.layer(Some(index as u32 / 2));
        x = match random.below(4) {
            0 => builder.op(&name, OpKind::Activation { function: ActivationKind::Gelu }, &[x]),
            1 => {
                let other = random.pick(&past);
                builder.op(&name, OpKind::Add, &[x, other])
            }
            2 if tied => builder.op_with_params(&name, OpKind::linear(8, 8), &[x], &["tied.weight", "tied.bias"]),
            _ => builder.op(&name, OpKind::linear(8, 8), &[x]),
        }
        .expect("fits");
        past.push(x);
    }
    builder.layer(None);
    let loss = builder.op("loss", OpKind::CrossEntropy { classes: 8, counted: 1 }, &[x, targets]).expect("fits");
    builder.loss(loss).build().expect("sound")
}

/// Devices of models `fast` and `slow` with the given bytes of memory, on one host.
pub fn cluster(models: &[(&str, u64)]) -> DeviceGraph {
    let spec = |model: &str, memory: u64| DeviceSpec {
        model: model.to_owned(),
        kind: DeviceKind::Cpu,
        memory_gib: memory as f64 / (1u64 << 30) as f64,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 1.0)]),
        memory_bandwidth_gb_per_s: 10.0,
        launch_overhead_us: 0.0,
        matmul_efficiency: 1.0,
        memory_efficiency: 1.0,
        accelerator: None,
        source: String::new(),
    };
    let host = NodeSpec { name: "host".to_owned(), kind: NodeKind::Host, model: None, host: None };
    let device = |index: usize, model: &str| NodeSpec {
        name: format!("{model}{index}"),
        kind: NodeKind::Device,
        model: Some(model.to_owned()),
        host: Some("host".to_owned()),
    };
    let nodes: Vec<NodeSpec> =
        std::iter::once(host).chain(models.iter().enumerate().map(|(i, (model, _))| device(i, model))).collect();
    let link = |node: &NodeSpec| LinkSpec {
        from: node.name.clone(),
        to: "host".to_owned(),
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s: 10.0,
        latency_us: 1.0,
    };
    let links = nodes.iter().skip(1).map(link).collect();
    let device_models = models.iter().map(|(model, memory)| ((*model).to_owned(), spec(model, *memory))).collect();
    DeviceGraph::build(ClusterSpec { name: "by hand".to_owned(), device_models, nodes, links }).expect("sound")
}

/// A problem without limits of the search.
pub fn problem<'a>(model: &'a ModelGraph, devices: &'a DeviceGraph, global_batch: u64) -> Problem<'a> {
    Problem {
        model,
        model_source: source(),
        devices,
        memory: MemoryModel::Framework,
        global_batch,
        optimizer: Optimizer::AdamW,
        precision: Dtype::F32,
        limits: SearchSpace::default(),
    }
}

/// Memory that holds everything.
pub const AMPLE: u64 = 1 << 40;

/// A random problem's parts.
pub struct Instance {
    pub model: ModelGraph,
    pub devices: DeviceGraph,
    pub cost: Fake,
    pub global_batch: u64,
    pub limits: SearchSpace,
}

impl Instance {
    pub fn random(seed: u64, operators: std::ops::Range<u64>, most_devices: u64) -> Self {
        let mut random = Random(seed);
        let count = operators.start + random.below(operators.end - operators.start);
        let model = random_model(&mut random, count as usize);
        let cost = Fake::random(&mut random, count as usize);
        // 16 bytes of state a parameter, and some activations: a scale at which limits bite.
        let scale = model.parameter_count() * 16 + 4000;
        let global_batch = random.pick(&[1, 2, 4, 6, 8, 12]);
        let mut memory = || scale * random.pick(&[1000, 20, 10, 6, 4, 3]) / 10;
        let (fast, slow) = (memory(), memory());
        let mixed = random.chance(40);
        let models: Vec<(&str, u64)> = (0..=random.below(most_devices))
            .map(|_| if mixed && random.chance(50) { ("slow", slow) } else { ("fast", fast) })
            .collect();
        // Half of the problems must cut: otherwise one device or replicas often win.
        let cut = random.chance(60) && models.len() > 1;
        let stage_counts = cut.then(|| vec![2, models.len()]);
        let schedules = random.chance(30).then(|| vec![random.pick(&SCHEDULES)]);
        let layers = model.ops().iter().filter_map(|op| op.layer).max();
        let layer_pins = layers.filter(|_| random.chance(15)).map(|most| LayerPin {
            layer: random.below(u64::from(most) + 1) as u32,
            device: random.below(models.len() as u64) as usize,
        });
        let layer_pins = layer_pins.into_iter().collect();
        let limits = SearchSpace { stage_counts, schedules, layer_pins, ..SearchSpace::default() };
        Self { model, devices: cluster(&models), cost, global_batch, limits }
    }

    pub fn problem(&self) -> Problem<'_> {
        Problem { limits: self.limits.clone(), ..problem(&self.model, &self.devices, self.global_batch) }
    }
}

/// Panics unless the plan passes the independent checker and lowers to a program.
pub fn check(plan: &Plan, model: &ModelGraph, devices: &DeviceGraph) {
    let verified = verify(plan, model, devices).expect("a sound plan");
    lower(&verified).expect("a program that ends");
}

/// Both schedules.
pub const SCHEDULES: [Schedule; 2] = [Schedule::OneFOneB, Schedule::FillDrain];
