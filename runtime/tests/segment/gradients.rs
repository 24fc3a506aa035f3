//! The gradients of every operator against central differences of the forward pass.

use std::collections::HashMap;
use std::sync::Arc;

use crate::support::{backends, feeds, noise, segment};
use cutplane_graph::{
    ActivationKind, AttentionInput, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, ParamId, TensorType,
    ValueId, WeightLayout,
};
use cutplane_plan::Optimizer;
use cutplane_runtime::init::initial_weight;
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner};

const BATCH: usize = 2;

fn wide(inputs: u64, outputs: u64, layout: WeightLayout, bias: bool) -> OpKind {
    OpKind::Linear { inputs, outputs, bias, layout, init_std: 0.4 }
}

/// A linear layer in front of each float input of `kind`, so that the gradients of its inputs show in their weights.
fn around(kind: OpKind, width: u64) -> Arc<ModelGraph> {
    let mut b = ModelGraphBuilder::new("probe");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[5, 6], Dtype::F32)).expect("x");
    let is_loss = matches!(kind, OpKind::CrossEntropy { .. });
    let input = |i: usize| match (is_loss, i) {
        (true, 1) => b.input("targets", InputRole::MaskedTokens, TensorType::batched(&[5], Dtype::I32)),
        _ => b.op(&format!("before {i}"), wide(6, width, WeightLayout::InOut, true), &[x]),
    };
    let inputs: Vec<ValueId> = (0..kind.arity()).map(input).collect::<Result<_, _>>().expect("inputs");
    let y = b.op("op", kind, &inputs).expect("op");
    let model = if is_loss { b.loss(y).build() } else { b.output(y).build() };
    Arc::new(model.expect("builds"))
}

/// Embeddings read ids.
fn embedding() -> Arc<ModelGraph> {
    let mut b = ModelGraphBuilder::new("embedding");
    let ids = b.input("ids", InputRole::Tokens, TensorType::batched(&[5], Dtype::I32)).expect("ids");
    let y = b.op("op", OpKind::Embedding { vocab: 4, dim: 3, init_std: 1.0 }, &[ids]).expect("op");
    Arc::new(b.output(y).build().expect("builds"))
}

struct Probe {
    backend: Backend,
    model: Arc<ModelGraph>,
    feeds: HashMap<ValueId, HostTensor>,
    upstream: Vec<(ValueId, HostTensor)>,
}

impl Probe {
    fn new(model: Arc<ModelGraph>, backend: Backend) -> Self {
        let seed = |id: &ValueId| {
            let ty = &model.value(*id).ty;
            let shape: Vec<usize> = std::iter::once(BATCH).chain(ty.dims.iter().map(|dim| *dim as usize)).collect();
            let data = noise(shape.iter().product(), 5).map(|x| (x % 2000) as f32 / 1000.0 - 1.0).collect();
            (*id, HostTensor::f32(shape, data))
        };
        let outputs = model.outputs().iter().filter(|id| model.loss() != Some(**id));
        let upstream = outputs.map(seed).collect();
        Self { backend, feeds: feeds(&model, BATCH, 3), upstream, model }
    }

    fn runner(&self, weights: &dyn Fn(ParamId) -> HostTensor) -> SegmentRunner {
        let whole = segment(&self.model, 0..self.model.ops().len());
        let settings = OptimizerSettings::new(Optimizer::Sgd, 0.1);
        SegmentRunner::new(self.model.clone(), whole, &self.backend, weights, settings).expect("fits")
    }

    /// The loss, or the sum of the outputs times their upstream gradients.
    fn value(&self, weights: &dyn Fn(ParamId) -> HostTensor) -> f64 {
        let mut runner = self.runner(weights);
        let outputs = runner.forward(0, self.feeds.clone().into_iter().collect()).expect("forward");
        let dot = |(output, (_, upstream)): (&(ValueId, HostTensor), &(ValueId, HostTensor))| -> f64 {
            let (a, b) = (output.1.to_f32().expect("floats"), upstream.as_f32().expect("floats"));
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let sum: f64 = outputs.iter().zip(&self.upstream).map(dot).sum();
        sum + runner.loss(0).map_or(0.0, f64::from)
    }

    /// Compares the derivative along random directions of each parameter with the gradient.
    fn check(&self, name: &str) {
        const STEP: f32 = 4e-3;
        let start = |id: ParamId| initial_weight(self.model.param(id), 11);
        let mut runner = self.runner(&start);
        runner.forward(0, self.feeds.clone().into_iter().collect()).expect("forward");
        runner.backward(0, self.upstream.clone(), 1.0).expect("backward");
        for id in (0..self.model.params().len()).map(ParamId::new) {
            let gradient = runner.gradient(id).expect("every parameter is reached");
            let gradient = gradient.as_f32().expect("floats");
            for salt in 0..3 {
                let direction: Vec<f32> =
                    noise(gradient.len(), 100 + salt).map(|x| if x % 2 == 0 { 1.0 } else { -1.0 }).collect();
                let moved = |step: f32| {
                    self.value(&|other| {
                        let weight = start(other);
                        if other != id {
                            return weight;
                        }
                        let data = weight.as_f32().expect("floats").iter().zip(&direction);
                        HostTensor::f32(weight.shape.clone(), data.map(|(w, d)| w + step * d).collect::<Vec<_>>())
                    })
                };
                let difference = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                let along: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
                let scale: f64 = gradient.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
                let param = &self.model.param(id).name;
                assert!(
                    (difference - along).abs() < 0.02 * scale + 1e-3,
                    "{name}: derivative of {param} is {difference}, the gradient says {along}"
                );
            }
        }
    }
}

#[test]
fn gradients_are_the_derivatives() {
    let attention = |causal, input| OpKind::attention(2, 3, causal, input);
    let activation = |function| OpKind::Activation { function };
    let cases = [
        ("linear", around(wide(4, 3, WeightLayout::InOut, true), 4)),
        ("linear, out-in", around(wide(4, 3, WeightLayout::OutIn, true), 4)),
        ("linear, no bias", around(wide(4, 3, WeightLayout::OutIn, false), 4)),
        ("layer norm", around(OpKind::layer_norm(4, 1e-5), 4)),
        ("position embedding", around(OpKind::position_embedding(9, 4, 1.0), 4)),
        ("attention", around(attention(false, AttentionInput::Separate), 6)),
        ("causal attention", around(attention(true, AttentionInput::Separate), 6)),
        ("packed attention", around(attention(true, AttentionInput::Packed), 18)),
        ("gelu", around(activation(ActivationKind::Gelu), 4)),
        ("gelu, tanh", around(activation(ActivationKind::GeluTanh), 4)),
        ("tanh", around(activation(ActivationKind::Tanh), 4)),
        ("relu", around(activation(ActivationKind::Relu), 4)),
        ("add", around(OpKind::Add, 4)),
        ("select token", around(OpKind::SelectToken { index: 2 }, 4)),
        ("cross-entropy", around(OpKind::CrossEntropy { classes: 7, counted: 3 }, 7)),
        ("embedding", embedding()),
    ];
    for (name, model) in cases {
        for backend in backends() {
            Probe::new(model.clone(), backend).check(name);
        }
    }
}
