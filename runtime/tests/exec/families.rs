//! A small twin of every family of the zoo trains under a pipeline and under data parallelism as on one rank.
//!
//! All three runs have two micro-batches of the same samples, since batch normalisation takes its statistics from the
//! micro-batch: a pipeline runs both on each stage, data parallelism one on each replica. Losses of 20 steps of AdamW may
//! differ by 1e-4 relative. Gradients differ in their last bits by the order of sums, and AdamW turns such a difference
//! into one of up to the learning rate where a gradient is nearly zero, so losses drift apart by rounding, step by step.

use std::sync::Arc;
use std::time::Instant;

use cutplane_graph::{ModelSource, Overrides};
use cutplane_plan::{Optimizer, Schedule};
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::Run;

use crate::plans::{Cut, GLOBAL_BATCH, SEED, Subject, cut, options, program};

const STEPS: usize = 20;
const TOLERANCE: f64 = 1e-4;

const PLANS: [Cut; 2] = [cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB), cut("dp2", 1, 2, 1, Schedule::FillDrain)];

fn twin(name: &str, overrides: Overrides, sequence_length: u64) -> Subject {
    let source = ModelSource::BuiltIn { name: name.into(), overrides, sequence_length };
    let model = Arc::new(cutplane_zoo::build(&source).unwrap_or_else(|error| panic!("{name}: {error}")));
    let batches = Batches::synthetic(&model, GLOBAL_BATCH, SEED).unwrap_or_else(|error| panic!("{name}: {error}"));
    Subject { source, model, batches: Arc::new(batches) }
}

/// Two layers over `tokens` tokens of a vocabulary of 37.
fn sequence(name: &str, hidden: u64, heads: Option<u64>, tokens: u64) -> Subject {
    twin(
        name,
        Overrides { layers: Some(2), hidden: Some(hidden), heads, vocab: Some(37), ..Overrides::default() },
        tokens,
    )
}

/// One block a stage, over five classes.
fn image(name: &str, hidden: u64, side: u64) -> Subject {
    let vocab = (!name.starts_with("unet")).then_some(5);
    let (hidden, image) = (Some(hidden), Some(side));
    twin(name, Overrides { layers: Some(1), hidden, image, vocab, ..Overrides::default() }, 1)
}

fn losses(subject: &Subject, cut: Cut) -> Vec<f64> {
    let (program, options) = (program(subject, cut, Optimizer::AdamW), options(Optimizer::AdamW));
    let run = Run::start(subject.model.clone(), program, subject.batches.clone(), &options);
    let mut run = run.unwrap_or_else(|error| panic!("{} {}: {error}", subject.model.name(), cut.name));
    let step = |_| run.step().unwrap_or_else(|error| panic!("{}: {error}", cut.name)).loss;
    let losses = (0..STEPS).map(step).collect();
    run.finish();
    losses
}

/// Trains three times and gives the largest relative difference of a loss.
fn check(subject: &Subject) {
    let (name, began) = (subject.model.name(), Instant::now());
    let single = losses(subject, cut("single-m2", 1, 1, 2, Schedule::FillDrain));
    let learned = single[STEPS - 4..].iter().sum::<f64>() < single[..4].iter().sum::<f64>();
    let mut worst = 0.0f64;
    for plan in PLANS {
        for (step, (loss, expected)) in losses(subject, plan).iter().zip(&single).enumerate() {
            let off = (loss - expected).abs() / expected.abs();
            assert!(off <= TOLERANCE, "{name} {}: loss {loss} for {expected} in step {step}", plan.name);
            worst = worst.max(off);
        }
    }
    println!("{name}: {:.4} to {:.4}, off by {worst:.1e}, {:.1?}", single[0], single[STEPS - 1], began.elapsed());
    assert!(learned, "{name} does not learn: {single:?}");
}

#[test]
fn recurrent_networks() {
    let shapes = ["rnn-one-to-many", "rnn-many-to-one", "rnn-many-to-many", "rnn-encoder-decoder"];
    shapes.map(|name| check(&sequence(name, 12, None, 8)));
    check(&sequence("rnn-one-to-one", 12, None, 1));
    ["rnn-stacked", "gru-stacked", "lstm-stacked"].map(|name| check(&sequence(name, 12, None, 8)));
    check(&sequence("gnmt", 12, None, 5));
    check(&sequence("elmo", 64, None, 5));
}

#[test]
fn decoders() {
    let plain = ["gpt1", "gpt2", "gpt3-125m", "opt-125m", "opt-350m", "mpt-125m", "transformer-xl-base"];
    plain.map(|name| check(&sequence(name, 16, Some(4), 8)));
    let rotated = ["llama-2-7b", "llama-3.1-8b", "mistral-7b", "qwen2-0.5b", "qwen3-0.6b", "gemma-2b", "phi-2"];
    rotated.map(|name| check(&sequence(name, 16, Some(4), 8)));
    ["gpt-neox-20b", "falcon-7b", "falcon-40b"].map(|name| check(&sequence(name, 16, Some(4), 8)));
    check(&sequence("mixtral-8x7b", 16, Some(4), 8));
}

#[test]
fn encoders_and_encoder_decoders() {
    ["bert-base", "roberta-base"].map(|name| check(&sequence(name, 16, Some(4), 14)));
    check(&sequence("t5-small", 16, Some(4), 8));
}

#[test]
fn image_models() {
    check(&image("mnist", 4, 28));
    ["alexnet", "vgg16", "resnet18", "resnet50", "resnext50", "googlenet", "mobilenet_v2", "squeezenet1_1"]
        .map(|name| check(&image(name, 4, 64)));
    check(&image("densenet121", 4, 64));
    check(&image("vit_b_16", 48, 32));
    check(&image("unet-5-64", 4, 32));
    check(&image("amoebanetd-18-256", 8, 64));
}

#[test]
fn inception_with_its_auxiliary_loss() {
    check(&image("inception_v3", 2, 299));
}
