//! Does the profile add up? Predicts forward and backward of whole models from a fresh profile and measures them. Tests
//! never assert times; this example shows them.
//!
//! ```text
//! cargo run -p cutplane-runtime --example fidelity -- [seconds] [model ...]
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use cutplane_graph::{InputRole, ModelGraph, ModelSource, OpId, OpKind, Overrides, ProfileKey, ValueId};
use cutplane_plan::{Optimizer, Segment};
use cutplane_record::{DeviceProfile, OperatorCurve, OperatorPoint};
use cutplane_runtime::backend::run_pinned;
use cutplane_runtime::init::initial_weight;
use cutplane_runtime::profile::{ProfileOptions, measure};
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner, allocator};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::NEW;

fn main() {
    allocator::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(20.0, |text| text.parse().expect("seconds"));
    let names: Vec<String> = arguments.collect();
    let mut progress = |done: f32, what: &str| eprint!("\r{:3.0}% {what:40}", done * 100.0);
    let options = ProfileOptions { device_model: "cpu", ranks: 2, core: 0, seconds, progress: &mut progress };
    let profile = measure(&Backend::cpu(), options).expect("measures");
    eprintln!("\nprofile in {:.1} s; contention {:?}", profile.measured_in_s, profile.contention);
    for point in &profile.optimizers {
        eprintln!("{:?} {} {:.3} ms", point.optimizer, point.elements, point.step_ns / 1e6);
    }
    let names = if names.is_empty() { vec!["gpt-mini".to_owned(), "bert-mini".to_owned()] } else { names };
    for name in names {
        for batch in [1, 2, 4, 8] {
            compare(&profile, &name, batch);
        }
    }
}

fn compare(profile: &DeviceProfile, name: &str, batch: u64) {
    let sequence_length = if name.ends_with("nano") { 64 } else { 128 };
    let source = ModelSource::BuiltIn { name: name.to_owned(), overrides: Overrides::default(), sequence_length };
    let model = Arc::new(cutplane_zoo::build(&source).expect("a built-in model"));
    let mut predicted = [0.0; 2];
    let mut by_curve: HashMap<&str, [f64; 2]> = HashMap::new();
    for op in model.op_ids() {
        let key = model.profile_key(op, batch);
        let times = interpolate(profile.curve(&key).expect("profiled"), &key);
        let curve = by_curve.entry(key.operator).or_default();
        for pass in 0..2 {
            predicted[pass] += times[pass];
            curve[pass] += times[pass];
        }
    }
    let measured = run_pinned(0, || run(&model, batch as usize)).expect("runs");
    for (pass, label) in ["forward", "backward"].iter().enumerate() {
        let (predicted, measured) = (predicted[pass] / 1e6, measured[pass] / 1e6);
        let error = 100.0 * (predicted / measured - 1.0);
        println!("{name} batch {batch} {label:8} predicted {predicted:8.2} ms measured {measured:8.2} ms {error:+.1}%");
    }
    let total = |times: [f64; 2]| times[0] + times[1];
    let error = 100.0 * (total(predicted) / (measured[0] + measured[1]) - 1.0);
    let step = measured[2] / 1e6;
    println!(
        "{name} batch {batch} both {error:+.1}%   optimizer {step:.2} ms for {} M",
        model.parameter_count() / 1_000_000
    );
    let mut curves: Vec<_> = by_curve.into_iter().collect();
    curves.sort_by(|a, b| total(b.1).total_cmp(&total(a.1)));
    let part = |(name, times): &(&str, [f64; 2])| format!("{name} {:.1}+{:.1}", times[0] / 1e6, times[1] / 1e6);
    println!("    {}", curves.iter().map(part).collect::<Vec<_>>().join(", "));
}

/// Median times of forward, backward and update, ns.
fn run(model: &Arc<ModelGraph>, batch: usize) -> [f64; 3] {
    let ops: Vec<OpId> = model.op_ids().collect();
    let outputs = model.outputs().to_vec();
    let params = (0..model.params().len()).map(cutplane_graph::ParamId::new).collect();
    let segment = Segment { stage: 0, ops, inputs: model.inputs().collect(), outputs, params };
    let weights = |id| initial_weight(model.param(id), 1);
    let settings = OptimizerSettings::new(Optimizer::AdamW, 1e-4);
    let mut runner = SegmentRunner::new(model.clone(), segment, &Backend::cpu(), &weights, settings).expect("fits");
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..7 {
        for micro_batch in 0..3 {
            let inputs = feeds(model, batch);
            let started = Instant::now();
            runner.forward(micro_batch, inputs).expect("forward");
            times[0].push(started.elapsed().as_nanos() as f64);
        }
        for micro_batch in (0..3).rev() {
            let started = Instant::now();
            runner.backward(micro_batch, Vec::new(), 1.0).expect("backward");
            times[1].push(started.elapsed().as_nanos() as f64);
        }
        let started = Instant::now();
        runner.optimizer_step();
        times[2].push(started.elapsed().as_nanos() as f64);
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn feeds(model: &ModelGraph, batch: usize) -> Vec<(ValueId, HostTensor)> {
    let counted = model.ops().iter().find_map(|op| match op.kind {
        OpKind::CrossEntropy { counted, .. } => Some(counted as usize),
        _ => None,
    });
    let feed = |id: ValueId| {
        let value = model.value(id);
        let shape: Vec<usize> = std::iter::once(batch).chain(value.ty.dims.iter().map(|dim| *dim as usize)).collect();
        let sample: usize = shape[1..].iter().product();
        let token = |i: usize| match value.role {
            Some(InputRole::TokenTypes) => (i % 2) as i32,
            Some(InputRole::MaskedTokens) if i % sample >= counted.unwrap_or(sample) => -100,
            _ => (i * 7919 % 250) as i32,
        };
        (id, HostTensor::i32(shape.clone(), (0..shape.iter().product()).map(token).collect()))
    };
    model.inputs().map(feed).collect()
}

/// Time per work, multilinear in the logarithms of the extents; the nearest edge outside the grid.
fn interpolate(curve: &OperatorCurve, key: &ProfileKey) -> [f64; 2] {
    let mut corners: Vec<(Vec<u64>, f64)> = vec![(Vec::new(), 1.0)];
    for (axis, x) in key.axes.iter().enumerate() {
        let mut values: Vec<u64> = curve.points.iter().map(|point| point.axes[axis]).collect();
        values.sort_unstable();
        let low = values.iter().copied().rfind(|value| value <= x).unwrap_or(values[0]);
        let high = values.iter().copied().find(|value| value >= x).unwrap_or(values[values.len() - 1]);
        let share = if low == high { 0.0 } else { (*x as f64 / low as f64).ln() / (high as f64 / low as f64).ln() };
        let sides = [(low, 1.0 - share.clamp(0.0, 1.0)), (high, share.clamp(0.0, 1.0))];
        corners = corners
            .into_iter()
            .flat_map(|(axes, weight)| sides.map(|(value, side)| ([axes.clone(), vec![value]].concat(), weight * side)))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
    }
    let at = |axes: &[u64]| curve.points.iter().find(|point| point.axes == axes).expect("a full grid");
    [|point: &OperatorPoint| point.forward_ns, |point: &OperatorPoint| point.backward_ns].map(|ns| {
        let log: f64 = corners.iter().map(|(axes, w)| w * (ns(at(axes)).max(1e-3) / at(axes).work).ln()).sum();
        log.exp() * key.work
    })
}
