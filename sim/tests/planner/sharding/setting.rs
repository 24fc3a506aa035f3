//! A model on a mesh, ready to be sharded.

use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, Overrides};
use cutplane_plan::Optimizer;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::{Fabric, Library};
use cutplane_sim::planner::sharding::{IlpSharder, Mesh, ShardBudget, ShardError, ShardProblem, Sharding, shard};
use cutplane_units::Bytes;

pub(crate) struct Setting {
    pub(crate) graph: ModelGraph,
    pub(crate) gpu: GpuModel,
    pub(crate) fabric: Fabric,
    pub(crate) memory: Bytes,
}

/// A step.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) mesh: &'a [usize],
    pub(crate) batch: u64,
    pub(crate) micro_batches: u64,
    pub(crate) memory_limit: Option<Bytes>,
}

impl Setting {
    pub(crate) fn new(model: &str, sequence: u64, overrides: Overrides, cluster: &str) -> Self {
        let source = cutplane_zoo::source_from_argument(model, Some(sequence), overrides).expect("a known model");
        Self::of_graph(cutplane_zoo::build(&source).expect("a valid model"), cluster)
    }

    pub(crate) fn of_graph(graph: ModelGraph, cluster: &str) -> Self {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("a valid cluster");
        let spec = devices.devices()[0].spec.clone();
        let fabric = Fabric::of_devices(&devices).expect("equal hosts");
        Self { graph, gpu: GpuModel::from_spec(&spec), fabric, memory: spec.memory() }
    }

    pub(crate) fn with<T>(&self, work: Work<'_>, ask: impl FnOnce(&ShardProblem<'_>) -> T) -> T {
        let mesh = Mesh::new(work.mesh, &self.fabric, Library::NCCL).expect("a mesh");
        ask(&ShardProblem {
            graph: &self.graph,
            mesh: &mesh,
            gpu: &self.gpu,
            batch: work.batch,
            micro_batches: work.micro_batches,
            precision: Dtype::Bf16,
            optimizer: Optimizer::AdamW,
            fused_attention: true,
            memory_limit: work.memory_limit,
        })
    }

    pub(crate) fn shard(&self, work: Work<'_>) -> Result<Sharding, ShardError> {
        self.with(work, |problem| shard(problem, &IlpSharder::default(), &ShardBudget::default()))
    }
}
