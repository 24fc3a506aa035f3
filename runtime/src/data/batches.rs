//! Samples and the inputs of micro-batches.

use std::sync::Arc;

use cutplane_graph::{Dtype, IGNORED_TARGET, InputRole, ModelGraph, OpKind, ValueId};

use super::error::DataError;
use super::random::{SplitMix, shuffled};
use super::text::TextData;
use crate::tensor::{HostData, HostTensor};

/// Deals out the samples of a text, step by step.
///
/// A sample is a window of `s` tokens and the token after it; windows start every `s` tokens, so that an epoch sees each
/// position once. Position `p` of step `t` is sample number `t B + p` of an endless row of epochs, each shuffled anew from
/// the seed (`B` = global batch). What the model's inputs get, by role:
/// - tokens: the window; with a masked-token input in the graph, its masked version;
/// - next tokens: the window moved by one;
/// - token types: 0 in the first half, 1 in the second, as a pair of sentences of which the second follows the first;
/// - masked tokens (Devlin et al. 2019, section 3.1): exactly as many positions as the loss counts, chosen at random,
///   hold the original token and all others -100; of the chosen inputs 80% become the mask token, 10% a random token
///   and 10% stay.
#[derive(Clone, Debug)]
pub struct Batches {
    data: Arc<TextData>,
    inputs: Vec<Input>,
    sequence: usize,
    windows: u64,
    global_batch: u64,
    seed: u64,
    masked: Option<Masking>,
}

#[derive(Clone, Debug)]
struct Input {
    value: ValueId,
    role: InputRole,
}

#[derive(Clone, Copy, Debug)]
struct Masking {
    counted: usize,
    mask: i32,
}

/// One sample: the window, its successor, and the masked positions with what the model sees there.
struct Sample<'a> {
    window: &'a [i32],
    masked: Vec<(usize, i32)>,
}

impl Batches {
    /// Prepares `data` for `model` with `global_batch` samples a step.
    ///
    /// # Errors
    /// [`DataError`]: a text shorter than a sample, a token beyond the vocabulary of an embedding or a loss, a graph
    /// input that text cannot fill, a global batch of zero.
    pub fn new(data: Arc<TextData>, model: &ModelGraph, global_batch: u64, seed: u64) -> Result<Self, DataError> {
        if global_batch == 0 {
            return Err(DataError::EmptyBatch);
        }
        let inputs = model.inputs().map(|value| text_input(model, value)).collect::<Result<Vec<_>, _>>()?;
        let sequence = sequence_length(model, &inputs)?;
        check_vocabulary(&data, model, &inputs)?;
        let (tokens, needed) = (data.tokens().len(), sequence + 1);
        if tokens < needed {
            return Err(DataError::TooShort { path: data.name().to_owned(), tokens, needed });
        }
        let masked = masking(&data, model, &inputs)?;
        let windows = ((tokens - 1) / sequence) as u64;
        Ok(Self { data, inputs, sequence, windows, global_batch, seed, masked })
    }

    /// Samples a step.
    pub fn global_batch(&self) -> u64 {
        self.global_batch
    }

    /// Tokens a sample.
    pub fn sequence_length(&self) -> usize {
        self.sequence
    }

    /// Samples of an epoch: after so many samples the text begins anew, in another order.
    pub fn epoch_samples(&self) -> u64 {
        self.windows
    }

    /// The inputs among `wanted`, of shape `[count, s]`, for positions `first_position..first_position + count` of step
    /// `step`. Values that are no graph inputs are left out.
    pub fn inputs(&self, step: u64, first_position: u64, count: u64, wanted: &[ValueId]) -> Vec<(ValueId, HostTensor)> {
        let first = step * self.global_batch + first_position;
        let samples: Vec<Sample<'_>> = (first..first + count).map(|number| self.sample(number)).collect();
        let asked = self.inputs.iter().filter(|input| wanted.contains(&input.value));
        asked.map(|input| (input.value, self.tensor(&samples, input.role))).collect()
    }

    fn sample(&self, number: u64) -> Sample<'_> {
        let (epoch, index) = (number / self.windows, number % self.windows);
        let start = shuffled(index, self.windows, &[self.seed, epoch]) as usize * self.sequence;
        let window = &self.data.tokens()[start..=start + self.sequence];
        let masked = self.masked.map_or_else(Vec::new, |masking| self.mask(window, number, masking));
        Sample { window, masked }
    }

    fn mask(&self, window: &[i32], number: u64, masking: Masking) -> Vec<(usize, i32)> {
        let mut random = SplitMix::keyed(&[self.seed, number, 1]);
        let mut positions: Vec<usize> = (0..self.sequence).collect();
        for chosen in 0..masking.counted {
            let other = chosen + random.below((self.sequence - chosen) as u64) as usize;
            positions.swap(chosen, other);
        }
        let replaced = |position: usize| match random.below(10) {
            0 => random.below(self.data.vocab()) as i32,
            1 => window[position],
            _ => masking.mask,
        };
        let shown: Vec<i32> = positions[..masking.counted].iter().copied().map(replaced).collect();
        positions.into_iter().zip(shown).collect()
    }

    fn tensor(&self, samples: &[Sample<'_>], role: InputRole) -> HostTensor {
        let data = samples.iter().flat_map(|sample| self.row(sample, role)).collect();
        HostTensor { shape: vec![samples.len(), self.sequence], data: HostData::I32(data) }
    }

    fn row(&self, sample: &Sample<'_>, role: InputRole) -> Vec<i32> {
        let mut row = sample.window[..self.sequence].to_vec();
        match role {
            InputRole::NextTokens => return sample.window[1..].to_vec(),
            InputRole::TokenTypes => return (0..self.sequence).map(|i| i32::from(i >= self.sequence / 2)).collect(),
            InputRole::MaskedTokens => {
                let original = std::mem::replace(&mut row, vec![IGNORED_TARGET; self.sequence]);
                sample.masked.iter().for_each(|(position, _)| row[*position] = original[*position]);
            }
            _ => sample.masked.iter().for_each(|(position, shown)| row[*position] = *shown),
        }
        row
    }
}

fn text_input(model: &ModelGraph, value: ValueId) -> Result<Input, DataError> {
    let facts = model.value(value);
    let refuse = |problem: String| Err(DataError::Input { input: facts.name.clone(), problem });
    let role = match facts.role {
        Some(role) if role != InputRole::Features => role,
        _ => return refuse("takes dense features".into()),
    };
    if !(facts.ty.batched && facts.ty.dims.len() == 1 && facts.ty.dtype == Dtype::I32) {
        return refuse(format!("has the type {}", facts.ty));
    }
    Ok(Input { value, role })
}

fn sequence_length(model: &ModelGraph, inputs: &[Input]) -> Result<usize, DataError> {
    let length = |input: &Input| model.value(input.value).ty.dims[0];
    let Some(first) = inputs.first() else {
        return Err(DataError::Input { input: model.name().to_owned(), problem: "has no inputs".into() });
    };
    match inputs.iter().find(|input| length(input) != length(first)) {
        None => Ok(length(first) as usize),
        Some(other) => {
            let problem = format!("is {} tokens long, another {}", length(other), length(first));
            Err(DataError::Input { input: model.value(other.value).name.clone(), problem })
        }
    }
}

/// Every operator that looks a token up or predicts it must know all ids that the data can give.
fn check_vocabulary(data: &TextData, model: &ModelGraph, inputs: &[Input]) -> Result<(), DataError> {
    let masks = inputs.iter().any(|input| input.role == InputRole::MaskedTokens);
    // Masking also draws random tokens of the whole vocabulary, and the mask token.
    let mask = data.mask(token_vocab(model, inputs)).map_or(0, |id| id as u64);
    let drawn = if masks { mask.max(data.vocab() - 1) } else { 0 };
    let largest = data.tokens().iter().copied().max().map_or(0, |id| id.max(0) as u64).max(drawn);
    let users = inputs.iter().filter(|input| input.role != InputRole::TokenTypes);
    for op in users.flat_map(|input| model.value(input.value).consumers.iter().map(|op| model.op(*op))) {
        let (OpKind::Embedding { vocab, .. } | OpKind::CrossEntropy { classes: vocab, .. }) = op.kind else { continue };
        if largest >= vocab {
            return Err(DataError::Vocabulary { path: data.name().to_owned(), largest, owner: op.name.clone(), vocab });
        }
    }
    Ok(())
}

fn masking(data: &TextData, model: &ModelGraph, inputs: &[Input]) -> Result<Option<Masking>, DataError> {
    let Some(input) = inputs.iter().find(|input| input.role == InputRole::MaskedTokens) else { return Ok(None) };
    let facts = model.value(input.value);
    let counted = facts.consumers.iter().find_map(|op| match model.op(*op).kind {
        OpKind::CrossEntropy { counted, .. } => Some(counted as usize),
        _ => None,
    });
    let Some(counted) = counted else {
        return Err(DataError::Input { input: facts.name.clone(), problem: "is not read by a cross-entropy".into() });
    };
    let missing = || DataError::NoMaskToken { path: data.name().to_owned(), input: facts.name.clone() };
    let mask = data.mask(token_vocab(model, inputs)).ok_or_else(missing)?;
    Ok(Some(Masking { counted, mask }))
}

/// Rows of the table that looks the tokens up.
fn token_vocab(model: &ModelGraph, inputs: &[Input]) -> u64 {
    let tokens = inputs.iter().filter(|input| input.role == InputRole::Tokens);
    let readers = tokens.flat_map(|input| &model.value(input.value).consumers);
    let rows = readers.filter_map(|op| match model.op(*op).kind {
        OpKind::Embedding { vocab, .. } => Some(vocab),
        _ => None,
    });
    rows.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{ModelGraphBuilder, TensorType, WeightLayout};
    use proptest::prelude::*;

    use super::*;

    const SEQUENCE: u64 = 8;

    /// Token and target inputs around one embedding and one tied classifier; with token types when `masked`.
    fn model(vocab: u64, masked: Option<u64>) -> ModelGraph {
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
        let head =
            OpKind::Linear { inputs: 4, outputs: vocab, bias: false, layout: WeightLayout::OutIn, init_std: 0.02 };
        let logits = b.op_with_params("head", head, &[x], &["wte"]).expect("linear");
        let counted = masked.unwrap_or(SEQUENCE);
        let loss = b.op("loss", OpKind::CrossEntropy { classes: vocab, counted }, &[logits, targets]).expect("loss");
        b.loss(loss).build().expect("model")
    }

    fn text(bytes: usize) -> Arc<TextData> {
        let letters: String = (0..bytes).map(|i| char::from(b'a' + (i * 7 % 26) as u8)).collect();
        Arc::new(TextData::from_text("letters.txt", &letters).expect("text"))
    }

    fn rows(batches: &Batches, model: &ModelGraph, step: u64, first: u64, count: u64) -> Vec<Vec<i32>> {
        let wanted: Vec<ValueId> = model.inputs().collect();
        let inputs = batches.inputs(step, first, count, &wanted);
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
        let ids = |wanted: &[ValueId]| batches.inputs(0, 0, 1, wanted).iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!((ids(&[second]), ids(&[]), ids(&[first, second])), (vec![second], vec![], vec![first, second]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_remedy() {
        let refusal = |data, model: &ModelGraph, batch| {
            Batches::new(data, model, batch, 0).expect_err("does not fit").to_string()
        };
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
}
