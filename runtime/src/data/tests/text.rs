//! Deals of text: windows, targets, masks, epochs.

use std::sync::Arc;

use cutplane_graph::{
    Dtype, IGNORED_TARGET, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId, WeightLayout,
};
use proptest::prelude::*;

use crate::data::{Batches, DataError, TextData};

const SEQUENCE: u64 = 8;

/// Token and target inputs around one embedding and one tied classifier; with token types when `masked`.
pub(super) fn model(vocab: u64, masked: Option<u64>) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("tiny");
    let ids = || TensorType::batched(&[SEQUENCE], Dtype::I32);
    let tokens = b.input("tokens", InputRole::Tokens, ids()).expect("input");
    let role = if masked.is_some() { InputRole::MaskedTokens } else { InputRole::NextTokens };
    let targets = b.input("targets", role, ids()).expect("input");
    let table = |rows| OpKind::Embedding { vocab: rows, dim: 4, init_std: 0.02 };
    let mut x = b.op_with_params("wte", table(vocab), &[tokens], &["wte"]).expect("embedding");
    if masked.is_some() {
        let types = b.input("types", InputRole::TokenTypes, ids()).expect("input");
        let t = b.op("wtt", table(2), &[types]).expect("embedding");
        x = b.op("sum", OpKind::Add, &[x, t]).expect("add");
    }
    let head = OpKind::Linear { inputs: 4, outputs: vocab, bias: false, layout: WeightLayout::OutIn, init_std: 0.02 };
    let logits = b.op_with_params("head", head, &[x], &["wte"]).expect("linear");
    let counted = masked.unwrap_or(SEQUENCE);
    let loss = b.op("loss", OpKind::CrossEntropy { classes: vocab, counted }, &[logits, targets]).expect("loss");
    b.loss(loss).build().expect("model")
}

fn text(bytes: usize) -> Arc<TextData> {
    let letters: String = (0..bytes).map(|i| char::from(b'a' + (i * 7 % 26) as u8)).collect();
    Arc::new(TextData::from_text("letters.txt", &letters).expect("text"))
}

pub(super) fn rows(batches: &Batches, model: &ModelGraph, step: u64, first: u64, count: u64) -> Vec<Vec<i32>> {
    let wanted: Vec<ValueId> = model.inputs().collect();
    let inputs = batches.inputs(step, first, count, &wanted).expect("read");
    inputs.into_iter().map(|(_, tensor)| tensor.as_i32().expect("ids").to_vec()).collect()
}

#[test]
fn targets_are_the_next_tokens_and_an_epoch_sees_every_window_once() {
    let (model, data) = (model(256, None), text(8 * 5 + 1));
    let batches = Batches::new(data.clone(), &model, 5, 3).expect("fits");
    assert_eq!((batches.epoch_samples(), batches.sequence_length(), batches.global_batch()), (5, 8, 5));
    let mut starts = Vec::new();
    for position in 0..5 {
        let [tokens, targets] = &rows(&batches, &model, 0, position, 1)[..] else { panic!("two inputs") };
        let start = data.tokens().windows(8).step_by(8).position(|window| window == tokens).expect("a window");
        assert_eq!(targets, &data.tokens()[start * 8 + 1..start * 8 + 9]);
        starts.push(start);
    }
    assert_ne!(starts, [0, 1, 2, 3, 4], "shuffled");
    starts.sort_unstable();
    assert_eq!(starts, [0, 1, 2, 3, 4]);
    assert_ne!(rows(&batches, &model, 0, 0, 5), rows(&batches, &model, 1, 0, 5), "the next epoch is another order");
}

#[test]
fn exactly_the_counted_positions_are_masked() {
    let (model, data) = (model(264, Some(3)), text(8 * 400 + 1));
    let batches = Batches::new(data, &model, 400, 11).expect("fits");
    let [tokens, targets, types] = &rows(&batches, &model, 0, 0, 400)[..] else { panic!("three inputs") };
    assert!(types.chunks(8).all(|row| row == [0, 0, 0, 0, 1, 1, 1, 1]));
    let (mut masked, mut kept, mut random) = (0, 0, 0);
    for (tokens, targets) in tokens.chunks(8).zip(targets.chunks(8)) {
        assert_eq!(targets.iter().filter(|target| **target != IGNORED_TARGET).count(), 3);
        for (token, target) in tokens.iter().zip(targets).filter(|(_, target)| **target != IGNORED_TARGET) {
            match *token {
                263 => masked += 1,
                token if token == *target => kept += 1,
                _ => random += 1,
            }
        }
    }
    // Of 1200: 960, 120 and 120 are expected; 6 standard deviations of the last are 62.
    assert!((898..1022).contains(&masked) && (58..182).contains(&kept) && (58..182).contains(&random));
}

#[test]
fn only_what_is_asked_for_is_made() {
    let model = model(256, None);
    let batches = Batches::new(text(100), &model, 2, 0).expect("fits");
    let [first, second] = model.inputs().collect::<Vec<_>>()[..] else { panic!("two inputs") };
    let ids = |wanted: &[ValueId]| {
        batches.inputs(0, 0, 1, wanted).expect("read").iter().map(|(id, _)| *id).collect::<Vec<_>>()
    };
    assert_eq!((ids(&[second]), ids(&[]), ids(&[first, second])), (vec![second], vec![], vec![first, second]));
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let refusal =
        |data, model: &ModelGraph, batch| Batches::new(data, model, batch, 0).expect_err("does not fit").to_string();
    let short = refusal(text(8), &model(256, None), 1);
    assert_eq!(
        short,
        "letters.txt has 8 tokens, one sample needs 9; give a longer text with --data or a smaller --seq"
    );
    let small = refusal(text(100), &model(100, None), 1);
    assert_eq!(
        small,
        "letters.txt has token ids up to 122, but wte of the model has a vocabulary of 100; make the model with \
         --vocab 123 or more"
    );
    let masked = refusal(text(100), &model(200, Some(2)), 1);
    assert!(masked.contains("ids up to 255"), "masking draws from all bytes: {masked}");
    assert_eq!(refusal(text(100), &model(256, None), 0), DataError::EmptyBatch.to_string());
    let mut b = ModelGraphBuilder::new("dense");
    let x = b.input("pixels", InputRole::Features, TensorType::batched(&[4], Dtype::F32)).expect("input");
    let y = b.op("fc", OpKind::linear(4, 4), &[x]).expect("linear");
    let dense = refusal(text(100), &b.output(y).build().expect("model"), 1);
    assert!(dense.starts_with("input 'pixels' of the model takes dense features"), "{dense}");
}

proptest! {
    #[test]
    fn micro_batches_of_any_size_are_the_same_samples(step in 0u64..50, seed in any::<u64>(), masked in any::<bool>()) {
        let model = model(264, masked.then_some(2));
        let batches = Batches::new(text(500), &model, 12, seed).expect("fits");
        let whole = rows(&batches, &model, step, 0, 12);
        for size in [1, 2, 3, 4, 6] {
            let parts: Vec<_> = (0..12 / size).map(|i| rows(&batches, &model, step, i * size, size)).collect();
            let joined: Vec<Vec<i32>> = (0..whole.len())
                .map(|input| parts.iter().flat_map(|part| part[input].clone()).collect())
                .collect();
            prop_assert_eq!(&joined, &whole);
        }
    }
}
