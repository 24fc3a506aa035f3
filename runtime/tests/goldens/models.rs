//! A small model of each family: loss, and the gradient of every parameter.

use std::sync::Arc;

use cutplane_graph::{ModelGraph, OpId, ParamId};
use cutplane_plan::{Optimizer, Segment};
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner};

use super::TOLERANCE;
use super::file::{File, difference};
use super::zoo;

/// The whole model as one segment.
fn whole(model: &ModelGraph) -> Segment {
    Segment {
        stage: 0,
        inputs: model.inputs().collect(),
        outputs: model.outputs().to_vec(),
        params: (0..model.params().len()).map(ParamId::new).collect(),
        ops: (0..model.ops().len()).map(OpId::new).collect(),
    }
}

/// Largest difference of the loss and the gradients.
fn check(name: &str, backend: &Backend) -> Result<f32, String> {
    let (model, file) = (Arc::new(zoo::graph(name)), File::read(name));
    let tensor = |key: &str| file.tensors.get(key).unwrap_or_else(|| panic!("{name}: no {key}")).clone();
    let weights = |id: ParamId| tensor(&format!("param.{}", model.param(id).name));
    let settings = OptimizerSettings::new(Optimizer::Sgd, 0.1);
    let mut runner = SegmentRunner::new(model.clone(), whole(&model), backend, &weights, settings)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let inputs: Vec<_> = model.inputs().map(|id| (id, tensor(&format!("input.{}", model.value(id).name)))).collect();
    runner.forward(0, inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
    let loss = runner.loss(0).expect("a loss");
    runner.backward(0, Vec::new(), 1.0).expect("backward");
    let mut worst = difference(&[loss], file.floats("loss"), 0.0);
    let gradients: Vec<&[f32]> = file.tensors.iter().filter(|(key, _)| key.starts_with("grad.")).map(floats).collect();
    assert_eq!(gradients.len(), model.params().len(), "{name}: parameters");
    let largest = gradients.iter().copied().flatten().fold(0.0f32, |max, x| max.max(x.abs()));
    for (index, param) in model.params().iter().enumerate() {
        let mut gradient = Vec::new();
        runner.read_gradients(&[ParamId::new(index)], &mut gradient);
        // What cancels to zero in the mathematics, such as a bias before a norm, is held to the largest gradient.
        let off = difference(&gradient, file.floats(&format!("grad.{}", param.name)), 1e-3 * largest);
        if off > TOLERANCE {
            return Err(format!(
                "{name}: the gradient of {} is off by {off:e}; before it at most {worst:e}",
                param.name
            ));
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

fn floats<'a>((_, tensor): (&String, &'a HostTensor)) -> &'a [f32] {
    tensor.as_f32().expect("floats")
}

/// Checks all families; differences are printed with `--nocapture`.
fn check_all(backend: &Backend) {
    let mut failures = Vec::new();
    for name in zoo::NAMES {
        match check(name, backend) {
            Ok(worst) => println!("{name}: {worst:.1e}"),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_family_gives_the_numbers_of_pytorch() {
    check_all(&Backend::cpu());
}

#[test]
fn every_family_gives_them_as_on_a_card() {
    check_all(&Backend::cpu_as_card());
}
