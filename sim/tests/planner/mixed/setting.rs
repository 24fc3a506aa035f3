//! A model on classes of devices, ready to be planned.

use cutplane_graph::{DeviceGraph, DeviceSpec, ModelGraph, Overrides};
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{AttentionKernel, FoldedModel, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::layouts::mixed::{Joint, MixedClass, MixedProblem};
use cutplane_sim::planner::layouts::{Objective, Pins};

pub(crate) struct Class {
    name: String,
    gpu: GpuModel,
    fabric: Fabric,
    stack: Stack,
    pub(crate) memory: u64,
}

impl Class {
    /// The devices of a named cluster, `speed` times as fast.
    pub(crate) fn new(cluster: &str, speed: f64) -> Self {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("a valid cluster");
        let spec = scaled(devices.devices()[0].spec.clone(), speed);
        let family = spec.accelerator.as_ref().map(|facts| facts.architecture);
        let stack = Stack::named("megatron-core", family).cloned().unwrap_or_default();
        // Hosts do not wait: what is slower about a device is slower about all of it.
        let stack =
            Stack { forward_launch_us: 0.0, backward_launch_us: 0.0, checkpoint_us: 0.0, collective_us: 0.0, ..stack };
        Self {
            name: spec.model.clone(),
            gpu: GpuModel::from_spec(&spec),
            fabric: Fabric::of_devices(&devices).expect("equal hosts"),
            stack,
            memory: spec.memory().get(),
        }
    }
}

impl Class {
    fn as_mixed(&self) -> MixedClass<'_> {
        MixedClass {
            name: self.name.clone(),
            gpu: &self.gpu,
            fabric: &self.fabric,
            stack: &self.stack,
            device_memory: self.memory,
            dollars_per_device_hour: Some(if self.name.contains(" at ") { 1.0 } else { 2.0 }),
        }
    }
}

fn scaled(mut spec: DeviceSpec, speed: f64) -> DeviceSpec {
    for peak in spec.peak_tflop_per_s.values_mut() {
        *peak *= speed;
    }
    spec.memory_bandwidth_gb_per_s *= speed;
    spec.launch_overhead_us /= speed;
    if let Some(facts) = &mut spec.accelerator {
        facts.clock_mhz *= speed;
    }
    if speed < 1.0 {
        spec.model = format!("{} at {speed}", spec.model);
    }
    spec
}

pub(crate) struct Setting {
    graph: ModelGraph,
    pub(crate) model: FoldedModel,
    pub(crate) classes: Vec<Class>,
    pub(crate) batch: u64,
}

impl Setting {
    pub(crate) fn new(model: &str, sequence: u64, overrides: Overrides, classes: Vec<Class>, batch: u64) -> Self {
        let source = cutplane_zoo::source_from_argument(model, Some(sequence), overrides).expect("a known model");
        let graph = cutplane_zoo::build(&source).expect("a valid model");
        Self { model: FoldedModel::new(&graph), graph, classes, batch }
    }

    pub(crate) fn problem(&self, pins: &str) -> MixedProblem<'_> {
        let pins = if pins.is_empty() { Pins::default() } else { Pins::parse(&[pins]).expect("known pins") };
        MixedProblem {
            graph: &self.graph,
            model: &self.model,
            classes: self.classes.iter().map(Class::as_mixed).collect(),
            joint: Joint { bandwidth: 12.5e9, latency: 5e-6 },
            keeping: &Keeping::MEGATRON_CORE,
            global_batch: self.batch,
            precision: Precision::AmpF16,
            attention: AttentionKernel::Materialised,
            optimizer: Optimizer::AdamW,
            objective: Objective::StepTime,
            pins,
        }
    }
}
