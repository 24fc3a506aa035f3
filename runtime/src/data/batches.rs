//! Samples and the inputs of micro-batches.

use std::sync::Arc;

use cutplane_graph::{InputRole, ModelGraph, OpKind, ValueId};

use super::dense::{self, Number};
use super::error::DataError;
use super::pictures::Pictures;
use super::random::{SplitMix, shuffled};
use super::roles::{Input, Spans, check_vocabulary, smallest_vocabulary, token_limit, token_vocab};
use super::sample::{Sample, row};
use super::source::{Source, check_pictures};
use super::text::TextData;
use super::tokens::TokenFile;
use crate::tensor::HostTensor;

/// Inputs of a micro-batch, by graph input.
pub type Inputs = Vec<(ValueId, HostTensor)>;

/// Windows of the text that is made up for a model.
const SYNTHETIC_WINDOWS: usize = 1024;

/// Deals out samples, step by step.
///
/// A sample of a text is a window of `s` tokens and the token after it; windows start every `s` tokens, so that an epoch
/// sees each position once. A sample of pictures is a picture with its class. Position `p` of step `t` is sample number `t B + p` of an endless row of epochs, each shuffled anew from
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
///
/// A run that is resumed goes on at the sample where it stopped, whatever its global batch was: [`Batches::resumed`].
#[derive(Clone, Debug)]
pub struct Batches {
    source: Source,
    inputs: Vec<Input>,
    spans: Spans,
    windows: u64,
    global_batch: u64,
    seed: u64,
    masked: Option<Masking>,
    /// A step, and the number of its first sample.
    origin: (u64, u64),
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
        let inputs = inputs_of_text(model)?;
        check_vocabulary(&data, model, &inputs)?;
        Self::dealing(Source::Text(data), model, inputs, global_batch, seed)
    }

    /// Prepares a file of tokens for `model`. Its tokens are checked against the vocabulary when they are read.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn of_tokens(
        file: Arc<TokenFile>,
        model: &ModelGraph,
        global_batch: u64,
        seed: u64,
    ) -> Result<Self, DataError> {
        let inputs = inputs_of_text(model)?;
        let vocab = token_limit(model, &inputs);
        Self::dealing(Source::Tokens(file, vocab), model, inputs, global_batch, seed)
    }

    /// Prepares pictures for `model`, which takes them as an image or as features, and their classes.
    ///
    /// # Errors
    /// [`DataError::Picture`] for pictures of another size, [`DataError::Malformed`] for a label beyond the classes,
    /// [`DataError::EmptyBatch`].
    pub fn of_pictures(
        pictures: Arc<Pictures>,
        model: &ModelGraph,
        global_batch: u64,
        seed: u64,
    ) -> Result<Self, DataError> {
        let inputs = model.inputs().map(|value| Input::made_up(model, value)).collect::<Result<Vec<_>, _>>()?;
        check_pictures(&pictures, model, &inputs)?;
        Self::dealing(Source::Pictures(pictures), model, inputs, global_batch, seed)
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
        let source = Source::MadeUp(Arc::new(data), classes.unwrap_or(1));
        Self::dealing(source, model, inputs, global_batch, seed)
    }

    fn dealing(
        source: Source,
        model: &ModelGraph,
        inputs: Vec<Input>,
        global_batch: u64,
        seed: u64,
    ) -> Result<Self, DataError> {
        if global_batch == 0 {
            return Err(DataError::EmptyBatch);
        }
        let spans = Spans::new(model, &inputs)?;
        let windows = source.epoch(spans)?;
        let masked = masking(&source, model, &inputs)?;
        Ok(Self { source, inputs, spans, windows, global_batch, seed, masked, origin: (0, 0) })
    }

    /// The same samples, of which step `step` begins with number `sample`, counted over all steps and epochs.
    #[must_use]
    pub fn resumed(self, step: u64, sample: u64) -> Self {
        Self { origin: (step, sample), ..self }
    }

    /// The number of the first sample of `step`, counted over all steps and epochs.
    pub fn first_sample(&self, step: u64) -> u64 {
        let (origin, sample) = self.origin;
        sample + step.saturating_sub(origin) * self.global_batch
    }

    /// Samples a step.
    pub fn global_batch(&self) -> u64 {
        self.global_batch
    }

    /// Seed of the order of the samples.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Where the samples come from: a path, or what errors call it.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Tokens a sample; 1 for a model that reads none.
    pub fn sequence_length(&self) -> usize {
        self.spans.sequence.max(1)
    }

    /// Samples of an epoch: after so many samples the data begin anew, in another order.
    pub fn epoch_samples(&self) -> u64 {
        self.windows
    }

    /// The inputs among `wanted`, with `count` samples each, for positions `first_position..first_position + count` of step
    /// `step`. Values that are no graph inputs are left out.
    ///
    /// # Errors
    /// [`DataError::Malformed`], of a source that is read part by part.
    pub fn inputs(&self, step: u64, first_position: u64, count: u64, wanted: &[ValueId]) -> Result<Inputs, DataError> {
        let first = self.first_sample(step) + first_position;
        let samples = (first..first + count).map(|number| self.sample(number)).collect::<Result<Vec<_>, _>>()?;
        let asked = self.inputs.iter().filter(|input| wanted.contains(&input.value));
        Ok(asked.map(|input| (input.value, self.tensor(&samples, input))).collect())
    }

    fn sample(&self, number: u64) -> Result<Sample<'_>, DataError> {
        let (epoch, index) = (number / self.windows, number % self.windows);
        let index = shuffled(index, self.windows, &[self.seed, epoch]);
        let spans = self.spans;
        let tokens = self.source.window(index * spans.sequence as u64, spans.needed())?;
        let window = tokens.get(spans.lead..spans.lead + spans.sequence).unwrap_or_default();
        let masked = self.masked.map_or_else(Vec::new, |masking| self.mask(window, number, masking));
        let (class, pixels) = match &self.source {
            Source::Text(_) | Source::Tokens(..) => (None, None),
            Source::MadeUp(_, classes) => (Some(dense::class(self.seed, index, *classes)), None),
            Source::Pictures(pictures) => {
                let index = index as usize;
                (Some(u64::from(pictures.labels()[index])), Some(pictures.pixels(index)?))
            }
        };
        Ok(Sample { tokens, spans, masked, class, pixels, key: [self.seed, index] })
    }

    fn mask(&self, window: &[i32], number: u64, masking: Masking) -> Vec<(usize, i32)> {
        let mut random = SplitMix::keyed(&[self.seed, number, 1]);
        let mut positions: Vec<usize> = (0..window.len()).collect();
        for chosen in 0..masking.counted {
            let other = chosen + random.below((window.len() - chosen) as u64) as usize;
            positions.swap(chosen, other);
        }
        let replaced = |position: usize| match random.below(10) {
            0 => random.below(self.source.vocab()) as i32,
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
            None => {
                HostTensor::i32(shape, samples.iter().flat_map(|sample| row(sample, input, &self.source)).collect())
            }
        }
    }
}

fn inputs_of_text(model: &ModelGraph) -> Result<Vec<Input>, DataError> {
    let inputs = model.inputs().map(|value| Input::of_text(model, value)).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() {
        return Err(DataError::Input { input: model.name().to_owned(), problem: "has no inputs".into() });
    }
    Ok(inputs)
}

fn masking(source: &Source, model: &ModelGraph, inputs: &[Input]) -> Result<Option<Masking>, DataError> {
    let Some(input) = inputs.iter().find(|input| input.role == InputRole::MaskedTokens) else { return Ok(None) };
    let facts = model.value(input.value);
    let counted = facts.consumers.iter().find_map(|op| match model.op(*op).kind {
        OpKind::CrossEntropy { counted, .. } => Some(counted as usize),
        _ => None,
    });
    let Some(counted) = counted else {
        return Err(DataError::Input { input: facts.name.clone(), problem: "is not read by a cross-entropy".into() });
    };
    let missing = || DataError::NoMaskToken { path: source.name().to_owned(), input: facts.name.clone() };
    let mask = source.mask(token_vocab(model, inputs)).ok_or_else(missing)?;
    Ok(Some(Masking { counted, mask }))
}
