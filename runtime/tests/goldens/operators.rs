//! Every operator alone: output, and a vector-Jacobian product through it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutplane_graph::{Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpId, OpKind, ScaleShift, TensorType, ValueId};
use cutplane_plan::{Optimizer, Segment};
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner};
use serde::Deserialize;

use super::TOLERANCE;
use super::file::{File, difference};

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: OpKind,
    batched: Vec<bool>,
}

/// One operator after one that does nothing for each float input, so that gradients flow to the inputs.
struct Model {
    graph: Arc<ModelGraph>,
    inputs: Vec<ValueId>,
    op: OpId,
}

fn model(case: &Case, inputs: &[&HostTensor]) -> Model {
    let mut b = ModelGraphBuilder::new(case.name.clone());
    let mut values = Vec::new();
    for (index, (tensor, batched)) in inputs.iter().zip(&case.batched).enumerate() {
        let dims: Vec<u64> = tensor.shape[usize::from(*batched)..].iter().map(|dim| *dim as u64).collect();
        let dtype = if tensor.is_float() { Dtype::F32 } else { Dtype::I32 };
        let ty = TensorType { batched: *batched, dims, dtype };
        let value = b.input(&format!("input.{index}"), InputRole::Features, ty).expect("fresh");
        let through = OpKind::ScaleShift(ScaleShift { scale: 1.0, shift: 0.0 });
        let through = |b: &mut ModelGraphBuilder| b.op(&format!("through.{index}"), through, &[value]).expect("floats");
        values.push(if tensor.is_float() { through(&mut b) } else { value });
    }
    let output = b.op("op", case.kind.clone(), &values).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let graph = if case.kind.is_loss() { b.loss(output).build() } else { b.output(output).build() }.expect("a model");
    let op = OpId::new(graph.ops().len() - 1);
    Model { graph: Arc::new(graph), inputs: values, op }
}

/// What a backend gives, by the names of the file.
fn run(case: &Case, file: &File, backend: &Backend) -> BTreeMap<String, Vec<f32>> {
    let key = |part: &str| format!("{}.{part}", case.name);
    let inputs: Vec<&HostTensor> =
        (0..case.batched.len()).map(|index| &file.tensors[&key(&format!("input.{index}"))]).collect();
    let Model { graph, inputs: values, op } = model(case, &inputs);
    let (params, output) = (graph.op(op).params.clone(), graph.op(op).output);
    let mut read = values.clone();
    read.dedup();
    let segment = Segment { stage: 0, inputs: read, outputs: vec![output], params: params.clone(), ops: vec![op] };
    let weights = |id| {
        let index = params.iter().position(|param| *param == id).expect("of this operator");
        file.tensors[&key(&format!("param.{index}"))].clone()
    };
    let settings = OptimizerSettings::new(Optimizer::Sgd, 0.1);
    let mut runner = SegmentRunner::new(graph.clone(), segment, backend, &weights, settings)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let feeds = values.iter().copied().zip(inputs.into_iter().cloned()).collect();
    let outputs = runner.forward(0, feeds).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut got = BTreeMap::new();
    let upstream = if let Some(loss) = runner.loss(0) {
        got.insert(key("output"), vec![loss]);
        Vec::new()
    } else {
        let [(_, tensor)] = &outputs[..] else { panic!("{}: {} outputs", case.name, outputs.len()) };
        assert_eq!(tensor.shape, file.tensors[&key("output")].shape, "{}", case.name);
        got.insert(key("output"), tensor.to_f32().expect("floats"));
        vec![(output, file.tensors[&key("upstream")].clone())]
    };
    for (id, gradient) in runner.backward(0, upstream, 1.0).expect("backward") {
        let index = values.iter().position(|value| *value == id).expect("an input");
        got.insert(key(&format!("grad.input.{index}")), gradient.to_f32().expect("floats"));
    }
    for (index, param) in params.iter().enumerate() {
        let mut gradient = Vec::new();
        runner.read_gradients(&[*param], &mut gradient);
        got.insert(key(&format!("grad.param.{index}")), gradient);
    }
    got
}

/// Largest difference of each operator; printed with `--nocapture`.
/// Gradients that jump where rounding makes two numbers equal, or moves one over a corner.
fn jumps(name: &str) -> bool {
    let corners = ["activation.hard-swish", "binary.maximum", "binary.minimum", "pool.max"];
    name.contains(".grad.") && corners.iter().any(|corner| name.starts_with(corner))
}

fn check(backend: &Backend, tolerance: f32) {
    let file = File::read("operators");
    let cases: Vec<Case> = file.field("cases");
    let (mut worst, mut failures) = (BTreeMap::<&str, f32>::new(), Vec::new());
    for case in &cases {
        let got = run(case, &file, backend);
        let expected: Vec<&String> = file.tensors.keys().filter(|name| is_result(name, &case.name)).collect();
        assert_eq!(got.len(), expected.len(), "{}: {:?} for {expected:?}", case.name, got.keys());
        for name in expected {
            let off = difference(&got[name], file.floats(name), 1e-3);
            let family = worst.entry(case.kind.label()).or_default();
            *family = family.max(off);
            if off > tolerance && !(backend.precision() != Dtype::F32 && jumps(name)) {
                failures.push(format!("{name} is off by {off:e}"));
            }
        }
    }
    for (family, off) in worst {
        println!("{family}: {off:.1e}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether a tensor is what the operator should give.
fn is_result(name: &str, case: &str) -> bool {
    let rest = name.strip_prefix(case).and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| {
        rest == "output" || ["grad.input.", "grad.param."].iter().any(|start| rest.starts_with(start))
    })
}

#[test]
fn every_operator_gives_the_numbers_of_pytorch() {
    check(&Backend::cpu(), TOLERANCE);
}

#[test]
fn every_operator_gives_them_as_on_a_card() {
    check(&Backend::cpu_as_card(), TOLERANCE);
}

/// With 8 bits of mantissa, to the rounding of a few operations: no operator mixes precisions or overflows.
#[test]
fn every_operator_runs_in_bf16() {
    let backend = Backend::cpu_as_card().in_precision(Dtype::Bf16).expect("computes in bf16");
    check(&backend, 0.05);
}

/// A family without a golden would be unproven.
#[test]
fn every_kind_of_operator_has_a_golden() {
    let cases: Vec<Case> = File::read("operators").field("cases");
    let mut labels: Vec<&str> = cases.iter().map(|case| case.kind.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    println!("{} labels: {labels:?}", labels.len());
    assert!(labels.len() >= 38, "{labels:?}");
}
