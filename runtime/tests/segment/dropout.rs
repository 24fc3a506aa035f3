//! Dropout: the asked share of zeros, the same for a sample in any micro-batch, nothing in inference.

use std::sync::Arc;

use cutplane_graph::{Dropout, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId};
use cutplane_plan::Optimizer;
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner};

use crate::support::segment;

const WIDTH: usize = 500;

fn model() -> Arc<ModelGraph> {
    let mut b = ModelGraphBuilder::new("dropout");
    let ty = TensorType::batched(&[WIDTH as u64], Dtype::F32);
    let x = b.input("x", InputRole::Features, ty).expect("fresh");
    let y = b.op("dropout", OpKind::Dropout(Dropout { probability: 0.2 }), &[x]).expect("floats");
    Arc::new(b.output(y).build().expect("a model"))
}

fn runner(backend: &Backend) -> (SegmentRunner, ValueId) {
    let model = model();
    let (segment, input) = (segment(&model, 0..1), model.inputs().next().expect("one"));
    let weights = |_| unreachable!("dropout has no parameters");
    let settings = OptimizerSettings::new(Optimizer::Sgd, 0.1);
    (SegmentRunner::new(model, segment, backend, &weights, settings).expect("executed"), input)
}

/// What becomes of `count` samples of ones that begin at sample `first`.
fn run(backend: &Backend, seed: u64, first: u64, count: usize) -> Vec<f32> {
    let (mut runner, input) = runner(backend);
    runner.set_samples(0, seed, first);
    let ones = HostTensor::f32([count, WIDTH], vec![1.0; count * WIDTH]);
    let outputs = runner.forward(0, vec![(input, ones)]).expect("forward");
    outputs[0].1.to_f32().expect("floats")
}

#[test]
fn a_sample_loses_the_same_elements_in_any_micro_batch() {
    for backend in [Backend::cpu(), Backend::cpu_as_card()] {
        let whole = run(&backend, 3, 10, 4);
        let halves = [run(&backend, 3, 10, 2), run(&backend, 3, 12, 2)].concat();
        assert_eq!(whole, halves);
        assert_eq!(whole, run(&Backend::cpu(), 3, 10, 4), "on either path");
        assert_ne!(whole, run(&backend, 4, 10, 4), "another seed");
        assert_ne!(whole[..WIDTH], whole[WIDTH..2 * WIDTH], "another sample");
    }
}

#[test]
fn the_asked_share_is_zero_and_the_mean_is_kept() {
    let values = run(&Backend::cpu(), 1, 0, 40);
    assert!(values.iter().all(|x| *x == 0.0 || (*x - 1.25).abs() < 1e-6));
    let zeros = values.iter().filter(|x| **x == 0.0).count() as f64 / values.len() as f64;
    // Six standard deviations of the share of 20,000 elements.
    assert!((zeros - 0.2).abs() < 0.017, "{zeros}");
}

#[test]
fn inference_keeps_everything() {
    let (mut runner, input) = runner(&Backend::cpu());
    let ones = HostTensor::f32([2, WIDTH], vec![1.0; 2 * WIDTH]);
    let outputs = runner.infer(0, vec![(input, ones.clone())]).expect("infer");
    assert_eq!(outputs[0].1, ones);
}
