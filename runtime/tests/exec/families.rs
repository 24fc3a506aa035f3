//! A small twin of every family of the zoo trains under a pipeline and under data parallelism as on one rank.
//!
//! All three runs have two micro-batches of the same samples, since batch normalisation takes its statistics from the
//! micro-batch: a pipeline runs both on each stage, data parallelism one on each replica. The pipeline is cut where few
//! values cross, so that no sum has its terms in another order; losses of 20 steps of AdamW may then differ by 1e-6
//! relative (7e-8 was measured). A cut between the readers of one value would sum its gradient in another order, and
//! networks of many small batch normalisations make a hundredfold of such a difference at each step.

use std::sync::Arc;
use std::time::Instant;

use cutplane_graph::{Dtype, ModelGraph, ModelSource, Overrides, ParamId};
use cutplane_plan::{Optimizer, Schedule};
use cutplane_runtime::HostTensor;
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::{RankTensors, Run};
use cutplane_runtime::init::initial_weight;

use crate::plans::{Cut, GLOBAL_BATCH, SEED, Subject, cut, options, program_at};

const STEPS: usize = 20;
/// Largest relative difference of a loss.
const TOLERANCE: f64 = 1e-6;
/// Largest difference of a gradient of the first step, relative to the largest gradient of the model.
const GRADIENT_TOLERANCE: f64 = 5e-6;

const PLANS: [Cut; 2] = [cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB), cut("dp2", 1, 2, 1, Schedule::FillDrain)];

fn twin(name: &str, overrides: Overrides, sequence_length: u64) -> Subject {
    let source = ModelSource::BuiltIn { name: name.into(), overrides, sequence_length };
    let model = Arc::new(cutplane_zoo::build(&source).unwrap_or_else(|error| panic!("{name}: {error}")));
    let batches = Batches::synthetic(&model, GLOBAL_BATCH, SEED).unwrap_or_else(|error| panic!("{name}: {error}"));
    Subject { source, model, batches: Arc::new(batches) }
}

/// Two layers over `tokens` tokens of a vocabulary of 37.
pub(crate) fn sequence(name: &str, hidden: u64, heads: Option<u64>, tokens: u64) -> Subject {
    twin(
        name,
        Overrides { layers: Some(2), hidden: Some(hidden), heads, vocab: Some(37), ..Overrides::default() },
        tokens,
    )
}

/// One block a stage, over five classes.
pub(crate) fn image(name: &str, hidden: u64, side: u64) -> Subject {
    let vocab = (!name.starts_with("unet")).then_some(5);
    let (hidden, image) = (Some(hidden), Some(side));
    twin(name, Overrides { layers: Some(1), hidden, image, vocab, ..Overrides::default() }, 1)
}

/// The operator before which the fewest values cross, of several the one nearest to the middle.
fn narrow_boundary(model: &ModelGraph) -> usize {
    let ops = model.ops().len();
    let crosses = |at: usize| {
        let read_later = |value: &cutplane_graph::Value| value.consumers.iter().any(|op| op.index() >= at);
        let crossing =
            |value: &&cutplane_graph::Value| value.producer.is_some_and(|op| op.index() < at) && read_later(value);
        model.values().iter().filter(crossing).count()
    };
    (1..ops).min_by_key(|at| (crosses(*at), at.abs_diff(ops / 2))).expect("several operators")
}

/// Losses of all steps, and each parameter's gradient of the first.
struct Trained {
    losses: Vec<f64>,
    gradients: RankTensors,
}

fn train(subject: &Subject, cut: Cut) -> Trained {
    let (ops, narrow) = (subject.model.ops().len(), narrow_boundary(&subject.model));
    let first_op = |stage: usize| {
        if stage == 0 {
            0
        } else if stage == cut.stages {
            ops
        } else {
            narrow
        }
    };
    let (rule, options) = (Optimizer::AdamW, options(Optimizer::AdamW));
    let program = program_at(Dtype::F32, subject, cut, rule, first_op);
    let run = Run::start(subject.model.clone(), program, subject.batches.clone(), &options);
    let mut run = run.unwrap_or_else(|error| panic!("{} {}: {error}", subject.model.name(), cut.name));
    let (first, gradients) = run.step_with_gradients().unwrap_or_else(|error| panic!("{}: {error}", cut.name));
    let step = |_| run.step().unwrap_or_else(|error| panic!("{}: {error}", cut.name)).loss;
    let losses = std::iter::once(first.loss).chain((1..STEPS).map(step)).collect();
    let ranks = run.parameters().expect("alive");
    let moved = |(id, tensor): &(&ParamId, &HostTensor)| **tensor != initial_weight(subject.model.param(**id), SEED);
    // Behind a rectifier that hardly opens, gradients are below what moves a weight.
    let (moved, held) = (ranks.iter().flatten().filter(moved).count(), ranks.iter().flatten().count());
    assert!(4 * moved > held, "{} {}: {moved} of {held} parameters moved", subject.model.name(), cut.name);
    run.finish();
    Trained { losses, gradients: gradients.into_iter().flatten().collect() }
}

/// Largest difference, relative to the largest number of all.
fn difference(got: &RankTensors, expected: &RankTensors) -> f64 {
    let numbers = |tensors: &RankTensors, id: &ParamId| tensors[id].to_f32().expect("floats");
    assert!(got.keys().eq(expected.keys()), "parameters");
    let (mut worst, mut largest) = (0.0f32, 0.0f32);
    for id in expected.keys() {
        for (x, y) in numbers(got, id).iter().zip(numbers(expected, id)) {
            worst = worst.max((x - y).abs());
            largest = largest.max(y.abs());
        }
    }
    f64::from(worst / largest)
}

/// Trains three times, and prints the largest differences.
fn check(subject: &Subject) {
    let (name, began) = (subject.model.name(), Instant::now());
    let single = train(subject, cut("single-m2", 1, 1, 2, Schedule::FillDrain));
    let (mut worst, mut worst_gradient) = (0.0f64, 0.0f64);
    for plan in PLANS {
        let trained = train(subject, plan);
        for (step, (loss, expected)) in trained.losses.iter().zip(&single.losses).enumerate() {
            let off = (loss - expected).abs() / expected.abs();
            assert!(off <= TOLERANCE, "{name} {}: loss {loss} for {expected} in step {step}", plan.name);
            worst = worst.max(off);
        }
        let off = difference(&trained.gradients, &single.gradients);
        assert!(off <= GRADIENT_TOLERANCE, "{name} {}: a gradient is off by {off:e}", plan.name);
        worst_gradient = worst_gradient.max(off);
    }
    let (first, last) = (single.losses[0], single.losses[STEPS - 1]);
    let took = began.elapsed();
    println!("{name}: {first:.4} to {last:.4}, off by {worst:.1e}, gradients by {worst_gradient:.1e}, {took:.1?}");
}

#[test]
fn recurrent_networks() {
    let shapes = ["rnn-one-to-many", "rnn-many-to-one", "rnn-many-to-many", "rnn-encoder-decoder"];
    for name in shapes {
        check(&sequence(name, 12, None, 8));
    }
    check(&sequence("rnn-one-to-one", 12, None, 1));
    for name in ["rnn-stacked", "gru-stacked", "lstm-stacked"] {
        check(&sequence(name, 12, None, 8));
    }
    check(&sequence("gnmt", 12, None, 5));
    check(&sequence("elmo", 64, None, 5));
}

#[test]
fn decoders() {
    let plain = ["gpt1", "gpt2", "gpt3-125m", "opt-125m", "opt-350m", "mpt-125m", "transformer-xl-base"];
    for name in plain {
        check(&sequence(name, 16, Some(4), 8));
    }
    let rotated = ["llama-2-7b", "llama-3.1-8b", "mistral-7b", "qwen2-0.5b", "qwen3-0.6b", "gemma-2b", "phi-2"];
    for name in rotated {
        check(&sequence(name, 16, Some(4), 8));
    }
    for name in ["gpt-neox-20b", "falcon-7b", "falcon-40b"] {
        check(&sequence(name, 16, Some(4), 8));
    }
    check(&sequence("mixtral-8x7b", 16, Some(4), 8));
}

#[test]
fn encoders_and_encoder_decoders() {
    for name in ["bert-base", "roberta-base"] {
        check(&sequence(name, 16, Some(4), 14));
    }
    check(&sequence("t5-small", 16, Some(4), 8));
}

#[test]
fn image_models() {
    check(&image("mnist", 4, 28));
    for name in ["alexnet", "vgg16", "resnet18", "resnet50", "mobilenet_v2"] {
        check(&image(name, 4, 64));
    }
    check(&image("googlenet", 4, 64));
    check(&image("squeezenet1_1", 32, 64));
    check(&image("densenet121", 4, 64));
    check(&image("resnext50", 16, 32));
    check(&image("vit_b_16", 48, 32));
    check(&image("unet-5-64", 4, 32));
    check(&image("amoebanetd-18-256", 8, 64));
}

/// The longest of all: a sample has 299 by 299 pixels, the least for which its auxiliary classifier fits.
#[test]
fn inception_with_its_auxiliary_loss() {
    check(&image("inception_v3", 2, 299));
}
