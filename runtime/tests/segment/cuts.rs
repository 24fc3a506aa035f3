//! A model that is cut gives the same loss and the same gradients as the whole one.

use crate::support::{Pieces, backends, difference, feeds, zoo};
use cutplane_graph::{Dtype, InputRole, ModelGraphBuilder, OpKind, TensorType};
use cutplane_plan::Optimizer;
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, RuntimeError};

/// Sums of a few thousand f32 products in another order: some ten roundings of 6e-8 each.
const TOLERANCE: f32 = 1e-5;

#[test]
fn every_cut_in_two_is_the_whole_model() {
    backends().iter().for_each(cut_in_two);
}

fn cut_in_two(backend: &Backend) {
    for (name, layers) in [("gpt-nano", 2), ("bert-nano", 2)] {
        let model = zoo(name, layers, 16);
        let feeds = feeds(&model, 3, 1);
        let mut whole = Pieces::new(&model, &[], backend);
        let loss = whole.forward(0, &feeds).expect("a loss");
        whole.backward(0, 1.0, &[]);
        for cut in 1..model.ops().len() {
            let mut pieces = Pieces::new(&model, &[cut], backend);
            let cut_loss = pieces.forward(0, &feeds).expect("a loss");
            pieces.backward(0, 1.0, &[]);
            assert!((cut_loss - loss).abs() <= TOLERANCE * loss, "{name} cut at {cut}: {cut_loss} for {loss}");
            let apart = difference(&whole.gradients(), &pieces.gradients());
            assert!(apart <= TOLERANCE, "{name} cut at {cut}: gradients differ by {apart}");
        }
    }
}

#[test]
fn cuts_in_three_and_micro_batches_are_the_whole_model() {
    backends().iter().for_each(cut_in_three);
}

fn cut_in_three(backend: &Backend) {
    let model = zoo("gpt-nano", 2, 16);
    let count = model.ops().len();
    let batches = [feeds(&model, 2, 1), feeds(&model, 2, 2)];
    let run = |cuts: &[usize]| {
        let mut pieces = Pieces::new(&model, cuts, backend);
        // Both are in flight at once, and go back in the order in which they came, as under 1F1B.
        let losses: Vec<f32> = (0..2).map(|mb| pieces.forward(mb, &batches[mb as usize]).expect("a loss")).collect();
        (0..2).for_each(|mb| pieces.backward(mb, 0.5, &[]));
        (losses, pieces.gradients())
    };
    let (losses, gradients) = run(&[]);
    for (first, second) in (1..count).step_by(3).flat_map(|a| (a + 1..count).step_by(4).map(move |b| (a, b))) {
        let (cut_losses, cut_gradients) = run(&[first, second]);
        assert!(
            losses.iter().zip(&cut_losses).all(|(a, b)| (a - b).abs() <= TOLERANCE * a),
            "cut at {first}, {second}"
        );
        let apart = difference(&gradients, &cut_gradients);
        assert!(apart <= TOLERANCE, "cut at {first}, {second}: gradients differ by {apart}");
    }
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    backends().iter().for_each(add_up);
}

fn add_up(backend: &Backend) {
    let model = zoo("gpt-nano", 1, 16);
    let halves = [feeds(&model, 2, 1), feeds(&model, 2, 2)];
    let mut both = feeds(&model, 4, 3);
    for (id, tensor) in &mut both {
        let data: Vec<i32> = halves.iter().flat_map(|half| half[id].as_i32().expect("ids").to_vec()).collect();
        *tensor = HostTensor::i32(tensor.shape.clone(), data);
    }
    let (mut whole, mut parts) = (Pieces::new(&model, &[], backend), Pieces::new(&model, &[], backend));
    let loss = whole.forward(0, &both).expect("a loss");
    whole.backward(0, 1.0, &[]);
    let sum: f32 = (0..2).filter_map(|mb| parts.forward(mb, &halves[mb as usize])).sum();
    (0..2).for_each(|mb| parts.backward(mb, 0.5, &[]));
    assert!((sum / 2.0 - loss).abs() <= TOLERANCE * loss, "{sum} / 2 for {loss}");
    let apart = difference(&whole.gradients(), &parts.gradients());
    assert!(apart <= TOLERANCE, "gradients differ by {apart}");
}

#[test]
fn the_first_loss_is_that_of_guessing_and_training_lowers_it() {
    let [host, twin] = backends();
    let low = |precision| twin.in_precision(precision).expect("flex has it");
    for backend in [&host, &twin, &low(Dtype::Bf16), &low(Dtype::F16)] {
        learn(backend);
    }
}

fn learn(backend: &Backend) {
    for (name, vocab) in [("gpt-nano", 256.0f32), ("bert-nano", 264.0)] {
        let model = zoo(name, 2, 32);
        let mut pieces = Pieces::with(&model, &[9], backend, OptimizerSettings::new(Optimizer::AdamW, 3e-3));
        let feeds = feeds(&model, 4, 1);
        let mut losses = Vec::new();
        for _ in 0..12 {
            losses.push(pieces.forward(0, &feeds).expect("a loss"));
            pieces.backward(0, 1.0, &[]);
            // The tied weight is held by both pieces: they exchange gradients, as an all-reduce would.
            let all = pieces.gradients();
            for (segment, runner) in &mut pieces.runners {
                segment.params.iter().for_each(|id| runner.write_gradients(&[*id], &all[id]));
                runner.optimizer_step();
            }
        }
        assert!((losses[0] - vocab.ln()).abs() < 0.1, "{name}: {} at the start, ln({vocab}) expected", losses[0]);
        assert!(losses[11] < losses[0] - 0.5, "{name}: {losses:?}");
        let tied = |piece: usize| {
            let (segment, runner) = &pieces.runners[piece];
            let shared = segment.params.iter().find(|id| pieces.model.param(**id).users.len() > 1);
            runner.parameter(*shared.expect("both pieces use the tied weight"))
        };
        assert_eq!(tied(0), tied(1));
    }
}

#[test]
fn an_output_that_several_pieces_read_gathers_their_gradients() {
    backends().iter().for_each(gather);
}

fn gather(backend: &Backend) {
    let mut b = ModelGraphBuilder::new("diamond");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[6], Dtype::F32)).expect("input");
    let h = b.op("h", OpKind::linear(6, 5), &[x]).expect("h");
    let left = b.op("left", OpKind::linear(5, 5), &[h]).expect("left");
    let right = b.op("right", OpKind::linear(5, 5), &[h]).expect("right");
    let y = b.op("y", OpKind::Add, &[left, right]).expect("y");
    let model = std::sync::Arc::new(b.output(y).build().expect("builds"));
    let feeds = feeds(&model, 3, 1);
    let seed = [(y, HostTensor::f32([3, 5], (0..15).map(|i| i as f32 / 7.0 - 1.0).collect::<Vec<_>>()))];
    let run = |cuts: &[usize]| {
        let mut pieces = Pieces::new(&model, cuts, backend);
        assert_eq!(pieces.forward(0, &feeds), None);
        pieces.backward(0, 1.0, &seed);
        pieces.gradients()
    };
    let whole = run(&[]);
    for cuts in [&[1][..], &[2], &[3], &[1, 2], &[1, 2, 3]] {
        assert!(difference(&whole, &run(cuts)) <= TOLERANCE, "cut at {cuts:?}");
    }
}

#[test]
fn misuse_is_refused_by_name() {
    let model = zoo("gpt-nano", 1, 16);
    let good = feeds(&model, 2, 1);
    let mut pieces = Pieces::new(&model, &[], &Backend::cpu());
    let (segment, runner) = &mut pieces.runners[0];
    let tokens = segment.inputs[0];
    let message = |result: Result<_, RuntimeError>| match result {
        Err(error) => error.to_string(),
        Ok::<Vec<_>, _>(_) => panic!("accepted"),
    };
    let name = &model.value(tokens).name;
    let short = message(runner.forward(0, vec![(tokens, HostTensor::i32([2, 3], vec![0; 6]))]));
    assert!(short.contains(name.as_str()) && short.contains("[2, 3]"), "{short}");
    let missing = message(runner.forward(0, vec![(tokens, good[&tokens].clone())]));
    assert!(missing.contains("was not given"), "{missing}");
    let mut large = good.clone();
    large.insert(tokens, HostTensor::i32([2, 16], vec![256; 32]));
    let unknown = message(runner.forward(0, large.into_iter().collect()));
    assert!(unknown.contains("256") && unknown.contains("vocabulary"), "{unknown}");
    let early = message(runner.backward(3, Vec::new(), 1.0));
    assert!(early.contains("micro-batch 3"), "{early}");
    runner.forward(0, good.clone().into_iter().collect()).expect("good");
    let twice = message(runner.forward(0, good.into_iter().collect()));
    assert!(twice.contains("second time"), "{twice}");
    assert_eq!(runner.in_flight(), 1);
}
