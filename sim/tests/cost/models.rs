//! Small models and devices.

use std::collections::BTreeMap;

use cutplane_graph::{
    ActivationKind, AttentionInput, Device, DeviceKind, DeviceSpec, Dtype, InputRole, ModelGraph, ModelGraphBuilder,
    OpKind, TensorType, ValueId, WeightLayout,
};

/// A device with peaks of 100 (f32) and 200 (bf16) TFLOP/s, of which half is reached, 1000 GB/s, of which 80% is reached,
/// and 5 us a launch.
pub(crate) fn device(kind: DeviceKind) -> Device {
    let spec = DeviceSpec {
        model: "toy".into(),
        kind,
        memory_gib: 16.0,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 100.0), (Dtype::Bf16, 200.0)]),
        memory_bandwidth_gb_per_s: 1000.0,
        launch_overhead_us: 5.0,
        matmul_efficiency: 0.5,
        memory_efficiency: 0.8,
        accelerator: None,
        source: String::new(),
    };
    Device { name: "d0".into(), spec, host: "h0".into() }
}

/// x [4] -> up [8] -> relu -> down [4] -> loss.
pub(crate) fn perceptron() -> ModelGraph {
    let mut b = ModelGraphBuilder::new("perceptron");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[4], Dtype::F32)).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, TensorType::batched(&[], Dtype::I32)).unwrap();
    let h = b.op("up", OpKind::linear(4, 8), &[x]).unwrap();
    let r = b.op("relu", OpKind::Activation { function: ActivationKind::Relu }, &[h]).unwrap();
    let y = b.op("down", OpKind::linear(8, 4), &[r]).unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 4, counted: 1 }, &[y, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

/// A transformer of `layers` blocks with residuals, packed attention and a tied head: 10 operators a block and 5 around.
pub(crate) fn transformer(layers: usize) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("transformer");
    let ids = b.input("ids", InputRole::Tokens, TensorType::batched(&[6], Dtype::I32)).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, TensorType::batched(&[6], Dtype::I32)).unwrap();
    let embedding = OpKind::Embedding { vocab: 11, dim: 8, init_std: 0.02 };
    let x = b.op_with_params("wte", embedding, &[ids], &["wte.weight"]).unwrap();
    let mut x = b.op("wpe", OpKind::position_embedding(6, 8, 0.02), &[x]).unwrap();
    for layer in 0..layers {
        x = block(&mut b, layer, x);
    }
    let x = b.op("ln_f", OpKind::layer_norm(8, 1e-5), &[x]).unwrap();
    let head = OpKind::Linear { inputs: 8, outputs: 11, bias: false, layout: WeightLayout::OutIn, init_std: 0.02 };
    let logits = b.op_with_params("head", head, &[x], &["wte.weight"]).unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 11, counted: 6 }, &[logits, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

fn block(b: &mut ModelGraphBuilder, layer: usize, x: ValueId) -> ValueId {
    let mut op = |name: &str, kind, inputs: &[ValueId]| b.op(&format!("h{layer}.{name}"), kind, inputs).unwrap();
    let norm = || OpKind::layer_norm(8, 1e-5);
    let attention = OpKind::attention(2, 4, true, AttentionInput::Packed);
    let n = op("ln_1", norm(), &[x]);
    let qkv = op("qkv", OpKind::linear(8, 24), &[n]);
    let a = op("attention", attention, &[qkv]);
    let p = op("proj", OpKind::linear(8, 8), &[a]);
    let x = op("add_1", OpKind::Add, &[x, p]);
    let n = op("ln_2", norm(), &[x]);
    let u = op("up", OpKind::linear(8, 32), &[n]);
    let g = op("gelu", OpKind::Activation { function: ActivationKind::GeluTanh }, &[u]);
    let d = op("down", OpKind::linear(32, 8), &[g]);
    op("add_2", OpKind::Add, &[x, d])
}
