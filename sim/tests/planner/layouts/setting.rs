//! A model on a cluster, ready to be planned.

use cutplane_graph::{DeviceGraph, ModelGraph, Overrides};
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{AttentionKernel, FoldedModel, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::layouts::{LayoutProblem, Objective, Pins};

pub(crate) struct Setting {
    pub(crate) graph: ModelGraph,
    pub(crate) model: FoldedModel,
    pub(crate) gpu: GpuModel,
    pub(crate) fabric: Fabric,
    pub(crate) stack: Stack,
    pub(crate) device_memory: u64,
    pub(crate) global_batch: u64,
}

impl Setting {
    pub(crate) fn new(model: &str, sequence: u64, overrides: Overrides, cluster: &str, global_batch: u64) -> Self {
        let source = cutplane_zoo::source_from_argument(model, Some(sequence), overrides).expect("a known model");
        let graph = cutplane_zoo::build(&source).expect("a valid model");
        let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("a valid cluster");
        let spec = devices.devices()[0].spec.clone();
        let family = spec.accelerator.as_ref().map(|facts| facts.architecture);
        Self {
            model: FoldedModel::new(&graph),
            graph,
            gpu: GpuModel::from_spec(&spec),
            fabric: Fabric::of_devices(&devices).expect("equal hosts"),
            stack: Stack::named("megatron-core", family).cloned().unwrap_or_default(),
            device_memory: spec.memory().get(),
            global_batch,
        }
    }

    pub(crate) fn problem(&self) -> LayoutProblem<'_> {
        LayoutProblem {
            graph: &self.graph,
            model: &self.model,
            gpu: &self.gpu,
            fabric: &self.fabric,
            stack: &self.stack,
            keeping: &Keeping::MEGATRON_CORE,
            device_memory: self.device_memory,
            global_batch: self.global_batch,
            precision: Precision::Bf16,
            attention: AttentionKernel::Flash,
            optimizer: Optimizer::AdamW,
            dollars_per_device_hour: None,
            objective: Objective::StepTime,
            pins: Pins::default(),
        }
    }
}
