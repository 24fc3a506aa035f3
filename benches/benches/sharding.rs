//! Growth curves of sharding by operator: layers (folded, so flat), operators of one block, devices; with and without a
//! memory limit that binds.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cutplane_graph::{DeviceGraph, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, Overrides, TensorType};
use cutplane_plan::Optimizer;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::{Fabric, Library};
use cutplane_sim::planner::sharding::{IlpSharder, Mesh, ShardBudget, ShardProblem, shard};
use cutplane_units::Bytes;

struct Setting {
    graph: ModelGraph,
    gpu: GpuModel,
    fabric: Fabric,
    memory: Bytes,
}

impl Setting {
    fn new(graph: ModelGraph, cluster: &str) -> Self {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("a valid cluster");
        let spec = devices.devices()[0].spec.clone();
        let fabric = Fabric::of_devices(&devices).expect("equal hosts");
        Self { graph, gpu: GpuModel::from_spec(&spec), fabric, memory: spec.memory() }
    }

    fn search(&self, sizes: &[usize], batch: u64, micro_batches: u64) -> f64 {
        let mesh = Mesh::new(sizes, &self.fabric, Library::NCCL).expect("a mesh");
        let problem = ShardProblem {
            graph: &self.graph,
            mesh: &mesh,
            gpu: &self.gpu,
            batch,
            micro_batches,
            precision: Dtype::Bf16,
            optimizer: Optimizer::AdamW,
            fused_attention: true,
            memory_limit: Some(self.memory),
        };
        let found = shard(black_box(&problem), &IlpSharder::default(), &ShardBudget::default()).expect("it fits");
        found.account.seconds()
    }
}

fn model(name: &str, sequence: u64, layers: Option<u64>) -> ModelGraph {
    let overrides = Overrides { layers, ..Overrides::default() };
    let source = cutplane_zoo::source_from_argument(name, Some(sequence), overrides).expect("a known model");
    cutplane_zoo::build(&source).expect("a valid model")
}

/// Linear layers of ever other widths: nothing to fold.
fn unequal(operators: u64) -> ModelGraph {
    let mut builder = ModelGraphBuilder::new("unequal");
    let mut value =
        builder.input("x", InputRole::Features, TensorType::batched(&[512, 1024], Dtype::F32)).expect("an input");
    let mut width = 1024;
    for at in 0..operators {
        let next = 1024 + 64 * (1 + at);
        value = builder.op(&format!("linear{at}"), OpKind::linear(width, next), &[value]).expect("a layer");
        width = next;
    }
    builder.output(value).build().expect("a graph")
}

fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("sharding-layers");
    group.sample_size(10);
    for layers in [12, 24, 48, 96] {
        let setting = Setting::new(model("gpt2-xl", 1024, Some(layers)), "dgx-a100:4");
        let id = BenchmarkId::new("gpt2-xl-width-4x8", layers);
        group.bench_function(id, |bencher| bencher.iter(|| setting.search(&[4, 8], 256, 2)));
    }
    group.finish();
}

fn operators(c: &mut Criterion) {
    let mut group = c.benchmark_group("sharding-operators");
    group.sample_size(10);
    for operators in [8, 16, 32, 64] {
        let setting = Setting::new(unequal(operators), "dgx-a100:1");
        let id = BenchmarkId::new("unequal-linears-8", operators);
        group.bench_function(id, |bencher| bencher.iter(|| setting.search(&[8], 512, 1)));
    }
    group.finish();
}

fn devices(c: &mut Criterion) {
    let mut group = c.benchmark_group("sharding-devices");
    group.sample_size(10);
    for nodes in [2, 16, 128] {
        let setting = Setting::new(model("gpt2-xl", 1024, None), &format!("dgx-a100:{nodes}"));
        let id = BenchmarkId::new("gpt2-xl-nodes-x8", nodes);
        group.bench_function(id, |bencher| bencher.iter(|| setting.search(&[nodes, 8], 1024, 1)));
    }
    group.finish();
}

/// The memory limit binds: state must be sharded, activations kept in slices.
fn acceptance(c: &mut Criterion) {
    let mut group = c.benchmark_group("sharding-acceptance");
    group.sample_size(10);
    let setting = Setting::new(model("gpt3-175b", 2048, None), "dgx-a100:128");
    group.bench_function("gpt3-175b-128x8", |bencher| bencher.iter(|| setting.search(&[128, 8], 1536, 12)));
    group.finish();
}

criterion_group!(benches, layers, operators, devices, acceptance);
criterion_main!(benches);
