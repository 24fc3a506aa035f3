//! Mesh-TensorFlow's two-layer perceptron on a mesh of 2 x 2 (Shazeer et al. 2018): the batch over one axis, hidden units over
//! the other, found by the integer program, beside what smaller and larger batches ask for.
//!
//! `cargo run -p cutplane-sim --example mesh_2x2`

use std::error::Error;

use cutplane_graph::{
    ActivationKind, DeviceGraph, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType,
};
use cutplane_plan::Optimizer;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::{Fabric, Library};
use cutplane_sim::planner::sharding::{IlpSharder, Mesh, ShardBudget, ShardProblem, shard, zero_word};

const WIDTH: u64 = 8192;

fn perceptron() -> Result<ModelGraph, Box<dyn Error>> {
    let mut builder = ModelGraphBuilder::new("perceptron");
    let x = builder.input("x", InputRole::Features, TensorType::batched(&[WIDTH], Dtype::F32))?;
    let x = builder.op("norm", OpKind::layer_norm(WIDTH, 1e-5), &[x])?;
    let h = builder.op("w", OpKind::linear(WIDTH, WIDTH), &[x])?;
    let h = builder.op("relu", OpKind::Activation { function: ActivationKind::Relu }, &[h])?;
    let y = builder.op("v", OpKind::linear(WIDTH, WIDTH), &[h])?;
    let y = builder.op("sum", OpKind::Add, &[y, x])?;
    Ok(builder.output(y).build()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let devices = DeviceGraph::build(cutplane_zoo::cluster("a100-80gb:4")?)?;
    let spec = &devices.devices()[0].spec;
    let (graph, gpu, fabric) = (perceptron()?, GpuModel::from_spec(spec), Fabric::of_devices(&devices)?);
    let mesh = Mesh::new(&[2, 2], &fabric, Library::NCCL)?;
    for batch in [512, 12_288, 262_144] {
        let problem = ShardProblem {
            graph: &graph,
            mesh: &mesh,
            gpu: &gpu,
            batch,
            micro_batches: 1,
            precision: Dtype::Bf16,
            optimizer: Optimizer::AdamW,
            fused_attention: true,
            memory_limit: Some(spec.memory()),
        };
        let found = shard(&problem, &IlpSharder::default(), &ShardBudget::default())?;
        let (step, gap) = (1e3 * found.account.seconds(), 100.0 * found.outcome.gap());
        println!("batch {batch}: predicted step {step:.2} ms, at most {gap:.3}% from optimal");
        for operator in found.blocks.iter().flat_map(|block| &block.operators) {
            println!("  {:<6} {:<20} state {}", operator.name, operator.words(0), zero_word(operator.strategy.zero));
        }
    }
    Ok(())
}
