//! Samples and the inputs of micro-batches.

use std::sync::Arc;

use cutplane_graph::{InputRole, ModelGraph, OpKind, ValueId};

use super::dense::{self, Number};
use super::error::DataError;
use super::random::{SplitMix, shuffled};
use super::roles::{Input, Spans, check_vocabulary, smallest_vocabulary, token_vocab};
use super::sample::{Sample, row};
use super::text::TextData;
use crate::tensor::HostTensor;

/// Samples of an epoch of a model that reads no tokens.
const DENSE_EPOCH: u64 = 4096;
/// Windows of the text that is made up for a model.
const SYNTHETIC_WINDOWS: usize = 1024;

/// Deals out the samples of a text, step by step.
///
/// A sample is a window of `s` tokens and the token after it; windows start every `s` tokens, so that an epoch sees each
/// position once. Position `p` of step `t` is sample number `t B + p` of an endless row of epochs, each shuffled anew from
/// the seed (`B` = global batch). What the model's inputs get, by role:
/// - tokens: the window; with a masked-token input in the graph, its masked version;
/// - next tokens: the window moved by one; previous tokens: the window moved back by one;
/// - decoder tokens: the `t` tokens after the window, and next tokens are then the ones after those;
/// - classes: the token after the window;
/// - characters: the bytes of each token in ELMo's way, of a model with at least 261 characters;
/// - token types: 0 in the first half, 1 in the second, as a pair of sentences of which the second follows the first;
/// - masked tokens (Devlin et al. 2019, section 3.1): exactly as many positions as the loss counts, chosen at random,
///   hold the original token and all others -100; of the chosen inputs 80% become the mask token, 10% a random token
///   and 10% stay.
///
/// [`Batches::synthetic`] makes samples up, for models that text cannot fill.
#[derive(Clone, Debug)]
pub struct Batches {
    data: Arc<TextData>,
    inputs: Vec<Input>,
    spans: Spans,
    windows: u64,
    global_batch: u64,
    seed: u64,
    masked: Option<Masking>,
    /// Classes to draw a sample's class from, when the samples are made up.
    classes: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Masking {
    counted: usize,
    mask: i32,
}

impl Batches {
    /// Prepares `data` for `model` with `global_batch` samples a step.
    ///
    /// # Errors
    /// [`DataError`]: a text shorter than a sample, a token beyond the vocabulary of an embedding or a loss, a graph
    /// input that text cannot fill, a global batch of zero.
    pub fn new(data: Arc<TextData>, model: &ModelGraph, global_batch: u64, seed: u64) -> Result<Self, DataError> {
        let inputs = model.inputs().map(|value| Input::of_text(model, value)).collect::<Result<Vec<_>, _>>()?;
        if inputs.is_empty() {
            return Err(DataError::Input { input: model.name().to_owned(), problem: "has no inputs".into() });
        }
        let spans = Spans::new(model, &inputs)?;
        check_vocabulary(&data, model, &inputs)?;
        Self { classes: None, ..Self::dealing(data, model, inputs, spans, global_batch, seed)? }.checked()
    }

    /// Samples that are made up from the seed, of any model: tokens that follow from the token before with some chance,
    /// pictures and features that are a pattern of the sample's class with noise, empty memories. There is something to be
    /// learnt, and nothing to be known.
    ///
    /// # Errors
    /// [`DataError`]: an input of no known role, inputs of different lengths, a global batch of zero.
    pub fn synthetic(model: &ModelGraph, global_batch: u64, seed: u64) -> Result<Self, DataError> {
        let inputs = model.inputs().map(|value| Input::made_up(model, value)).collect::<Result<Vec<_>, _>>()?;
        let spans = Spans::new(model, &inputs)?;
        let vocab = smallest_vocabulary(model, &inputs);
        let data = TextData::synthetic(vocab, spans.sequence * SYNTHETIC_WINDOWS + spans.needed(), seed);
        let classes = inputs.iter().filter(|input| input.role == InputRole::Classes).map(|input| input.below).min();
        let batches = Self::dealing(Arc::new(data), model, inputs, spans, global_batch, seed)?;
        Self { classes: Some(classes.unwrap_or(1)), ..batches }.checked()
    }

    fn dealing(
        data: Arc<TextData>,
        model: &ModelGraph,
        inputs: Vec<Input>,
        spans: Spans,
        global_batch: u64,
        seed: u64,
    ) -> Result<Self, DataError> {
        let (tokens, needed) = (data.tokens().len(), spans.needed());
        if tokens < needed {
            return Err(DataError::TooShort { path: data.name().to_owned(), tokens, needed });
        }
        let masked = masking(&data, model, &inputs)?;
        let windows = match spans.sequence {
            0 => DENSE_EPOCH,
            sequence => ((tokens - needed) / sequence) as u64 + 1,
        };
        Ok(Self { data, inputs, spans, windows, global_batch, seed, masked, classes: None })
    }

    fn checked(self) -> Result<Self, DataError> {
        if self.global_batch == 0 { Err(DataError::EmptyBatch) } else { Ok(self) }
    }

    /// Samples a step.
    pub fn global_batch(&self) -> u64 {
        self.global_batch
    }

    /// Tokens a sample; 1 for a model that reads none.
    pub fn sequence_length(&self) -> usize {
        self.spans.sequence.max(1)
    }

    /// Samples of an epoch: after so many samples the text begins anew, in another order.
    pub fn epoch_samples(&self) -> u64 {
        self.windows
    }

    /// The inputs among `wanted`, with `count` samples each, for positions `first_position..first_position + count` of step
    /// `step`. Values that are no graph inputs are left out.
    pub fn inputs(&self, step: u64, first_position: u64, count: u64, wanted: &[ValueId]) -> Vec<(ValueId, HostTensor)> {
        let first = step * self.global_batch + first_position;
        let samples: Vec<Sample<'_>> = (first..first + count).map(|number| self.sample(number)).collect();
        let asked = self.inputs.iter().filter(|input| wanted.contains(&input.value));
        asked.map(|input| (input.value, self.tensor(&samples, input))).collect()
    }

    fn sample(&self, number: u64) -> Sample<'_> {
        let (epoch, index) = (number / self.windows, number % self.windows);
        let index = shuffled(index, self.windows, &[self.seed, epoch]);
        let start = index as usize * self.spans.sequence;
        let tokens = &self.data.tokens()[start..start + self.spans.needed()];
        let window = &tokens[self.spans.lead..self.spans.lead + self.spans.sequence];
        let masked = self.masked.map_or_else(Vec::new, |masking| self.mask(window, number, masking));
        let class = self.classes.map(|classes| dense::class(self.seed, index, classes));
        Sample { tokens, spans: self.spans, masked, class, key: [self.seed, index] }
    }

    fn mask(&self, window: &[i32], number: u64, masking: Masking) -> Vec<(usize, i32)> {
        let mut random = SplitMix::keyed(&[self.seed, number, 1]);
        let mut positions: Vec<usize> = (0..window.len()).collect();
        for chosen in 0..masking.counted {
            let other = chosen + random.below((window.len() - chosen) as u64) as usize;
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

    fn tensor(&self, samples: &[Sample<'_>], input: &Input) -> HostTensor {
        let shape: Vec<usize> = std::iter::once(samples.len()).chain(input.dims.iter().copied()).collect();
        match Number::of(input.role) {
            Some(number) => {
                HostTensor::f32(shape, samples.iter().flat_map(|sample| number.row(sample, input)).collect())
            }
            None => HostTensor::i32(shape, samples.iter().flat_map(|sample| row(sample, input, &self.data)).collect()),
        }
    }
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

#[cfg(test)]
mod tests {
    use cutplane_graph::{Dtype, IGNORED_TARGET, ModelGraphBuilder, TensorType, WeightLayout};
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
