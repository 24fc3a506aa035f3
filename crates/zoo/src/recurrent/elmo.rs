//! ELMo (Peters et al. 2018): a character convolution and highway layers give word vectors; two projected LSTM layers in
//! each direction, with a skip connection between them, are trained as language models.

use cutplane_graph::{
    ActivationKind, Arithmetic, Binary, Cell, Concat, Convolution, Dtype, InputRole, ModelError, ModelGraph,
    ModelGraphBuilder, OpKind, Overrides, Recurrent, RecurrentBias, Reduce, Reduction, ScaleShift, Slice, TensorType,
    Transpose, ValueId, Window,
};

use super::layer::Place;
use crate::error::ZooError;
use crate::limits::{MAX_HIDDEN, MAX_LAYERS, MAX_VOCAB, Replacing, all_in_range, check_length, field_error, of_model};
use crate::recipe::Recipe;
use crate::transformer::{Dense, Scope};

/// Most time steps.
const MAX_STEPS: u64 = 1 << 16;

/// A bidirectional language model over characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Elmo {
    /// Name of the model.
    pub name: String,
    /// Different characters.
    pub characters: u64,
    /// Width of a character.
    pub character_dim: u64,
    /// Characters of a word, padding included.
    pub word_length: u64,
    /// Convolutions over the characters, (width, filters) each.
    pub filters: Vec<(u64, u64)>,
    /// Highway layers.
    pub highways: u64,
    /// LSTM layers in each direction.
    pub layers: u64,
    /// Cells.
    pub hidden: u64,
    /// Width of the projected hidden state, and of the word vector.
    pub projection: u64,
    /// Words that both language models predict; `None` for no loss: then the outputs are the vectors of all layers.
    pub vocab: Option<u64>,
}

impl Elmo {
    /// The published size, without its softmax over words: 93,600,848 parameters.
    pub fn original() -> Self {
        Self {
            name: "elmo".to_owned(),
            characters: 261,
            character_dim: 16,
            word_length: 50,
            filters: vec![(1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024)],
            highways: 2,
            layers: 2,
            hidden: 4096,
            projection: 512,
            vocab: None,
        }
    }

    /// The graph for samples of `steps` words.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, steps: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, steps)?;
        self.build(&self.name, steps)
    }

    fn model(&self, steps: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let ids = TensorType::batched(&[steps, self.word_length], Dtype::I32);
        let characters = b.input("characters", InputRole::Characters, ids)?;
        let words = self.words(&mut b, characters)?;
        let forward = self.direction(&mut b, words, false)?;
        let backward = self.direction(&mut b, words, true)?;
        if let Some(vocab) = self.vocab {
            return self.language_models(&mut b, vocab, &forward, &backward);
        }
        b.output(words);
        for (layer, (left, right)) in forward.into_iter().zip(backward).enumerate() {
            let join = OpKind::Concat(Concat { axis: 1, values: 2 });
            let both = b.op(&format!("layers.{layer}.concat"), join, &[left, right])?;
            b.output(both);
        }
        b.build()
    }

    /// Word vectors `[steps, projection]` of characters `[steps, word_length]`.
    fn words(&self, b: &mut ModelGraphBuilder, characters: ValueId) -> Result<ValueId, ModelError> {
        let table = OpKind::Embedding { vocab: self.characters, dim: self.character_dim, init_std: 1.0 };
        let x = b.op("char_embed", table, &[characters])?;
        let x = b.op("char_embed.channels", OpKind::Transpose(Transpose { axes: vec![2, 0, 1] }), &[x])?;
        let mut parts = Vec::new();
        for (index, &(width, filters)) in self.filters.iter().enumerate() {
            let at = format!("char_conv_{index}");
            let window = Window::new(&[1, width], 1, &[0, 0]);
            let convolution = Convolution::new(self.character_dim, filters, window, true);
            let y = b.op(&at, OpKind::Convolution(convolution), &[x])?;
            let largest = OpKind::Reduce(Reduce { function: Reduction::Max, axes: vec![2] });
            let y = b.op(&format!("{at}.max"), largest, &[y])?;
            parts.push(b.op(&format!("{at}.act"), OpKind::Activation { function: ActivationKind::Relu }, &[y])?);
        }
        let join = OpKind::Concat(Concat { axis: 0, values: parts.len() });
        let x = b.op("char_conv.concat", join, &parts)?;
        let mut x = b.op("char_conv.words", OpKind::Transpose(Transpose { axes: vec![1, 0] }), &[x])?;
        for layer in 0..self.highways {
            x = highway(&mut Scope { b, path: format!("highways.{layer}") }, x)?;
        }
        let width = b.type_of(x).last();
        b.op("projection", Dense::torch((width as f64).powf(-0.5)).op(width, self.projection, true), &[x])
    }

    /// The hidden states of every layer of one direction.
    fn direction(&self, b: &mut ModelGraphBuilder, words: ValueId, reverse: bool) -> Result<Vec<ValueId>, ModelError> {
        let module = if reverse { "backward" } else { "forward" };
        let kind = Recurrent {
            projection: Some(self.projection),
            bias: RecurrentBias::One,
            reverse,
            ..Recurrent::new(Cell::Lstm, self.projection, self.hidden)
        };
        let mut layers: Vec<ValueId> = Vec::new();
        for number in 0..self.layers {
            let first = if reverse { self.layers } else { 0 };
            b.layer(Some((first + number) as u32));
            let below = layers.last().copied().unwrap_or(words);
            let y = Place { module, number }.sequence(b, &kind, below, 1)?;
            let skip = number > 0;
            let name = format!("{module}.{number}.residual");
            layers.push(if skip { b.op(&name, OpKind::Add, &[y, below])? } else { y });
        }
        b.layer(None);
        Ok(layers)
    }

    /// Both directions predict words with one softmax; the loss is the mean of the two.
    fn language_models(
        &self,
        b: &mut ModelGraphBuilder,
        vocab: u64,
        forward: &[ValueId],
        backward: &[ValueId],
    ) -> Result<ModelGraph, ModelError> {
        let roles = [("forward", InputRole::NextTokens, forward), ("backward", InputRole::PreviousTokens, backward)];
        let mut losses = Vec::new();
        for (name, role, layers) in roles {
            let Some(top) = layers.last().copied() else { continue };
            let steps = b.type_of(top).dims[0];
            let targets = b.input(&format!("{name}.targets"), role, TensorType::batched(&[steps], Dtype::I32))?;
            let head = Dense::torch((self.projection as f64).powf(-0.5)).op(self.projection, vocab, true);
            let params = ["softmax.weight", "softmax.bias"];
            let logits = b.op_with_params(&format!("{name}.softmax"), head, &[top], &params)?;
            let loss = OpKind::CrossEntropy { classes: vocab, counted: steps };
            losses.push(b.op(&format!("{name}.loss"), loss, &[logits, targets])?);
        }
        let sum = b.op("loss.sum", OpKind::Add, &losses)?;
        let loss = b.op("loss", OpKind::ScaleShift(ScaleShift { scale: 0.5, shift: 0.0 }), &[sum])?;
        b.loss(loss).build()
    }
}

/// `g relu(A x) + (1 - g) x` with `g = sigmoid(B x)` (Srivastava, Greff and Schmidhuber 2015), A and B packed.
fn highway(scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
    let width = scope.b.type_of(x).last();
    let packed = Dense::torch((width as f64).powf(-0.5)).op(width, 2 * width, true);
    let name = scope.path.clone();
    let packed = scope.b.op(&name, packed, &[x])?;
    let slice = |start| OpKind::Slice(Slice::range(1, start, start + width));
    let activation = |function| OpKind::Activation { function };
    let multiply = OpKind::Binary(Binary { function: Arithmetic::Multiply });
    let new = scope.op("new", slice(0), &[packed])?;
    let new = scope.op("new.act", activation(ActivationKind::Relu), &[new])?;
    let gate = scope.op("gate", slice(width), &[packed])?;
    let gate = scope.op("gate.act", activation(ActivationKind::Sigmoid), &[gate])?;
    let carry = scope.op("carry", OpKind::ScaleShift(ScaleShift { scale: -1.0, shift: 1.0 }), &[gate])?;
    let new = scope.op("new.gated", multiply.clone(), &[gate, new])?;
    let old = scope.op("old.gated", multiply, &[carry, x])?;
    scope.op("sum", OpKind::Add, &[new, old])
}

impl Recipe for Elmo {
    /// Filters and projection keep their ratio to the cells; a vocabulary adds the language models' softmax.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "vocab"])?;
        let old = self.hidden;
        if replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)? {
            let scaled = |size: u64| (size * self.hidden / old).max(1);
            self.projection = scaled(self.projection);
            self.filters.iter_mut().for_each(|(_, filters)| *filters = scaled(*filters));
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        let mut vocab = self.vocab.unwrap_or(1);
        replacing.size("vocab", overrides.vocab, &mut vocab, MAX_VOCAB)?;
        self.vocab = overrides.vocab.map(|_| vocab).or(self.vocab);
        Ok(())
    }

    fn check(&self, origin: &str, steps: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("characters", self.characters, MAX_VOCAB),
                ("character_dim", self.character_dim, MAX_HIDDEN),
                ("word_length", self.word_length, MAX_STEPS),
                ("layers", self.layers, MAX_LAYERS),
                ("hidden", self.hidden, MAX_HIDDEN),
                ("projection", self.projection, MAX_HIDDEN),
                ("vocab", self.vocab.unwrap_or(1), MAX_VOCAB),
            ],
        )?;
        if self.filters.is_empty() || self.filters.iter().any(|(_, filters)| !(1..=MAX_HIDDEN).contains(filters)) {
            let remedy = "give at least one, each of 1 filter or more";
            return Err(field_error(origin, "filters", format!("are {:?}", self.filters), remedy));
        }
        check_length(origin, steps, "longest sequence", MAX_STEPS)
    }

    fn build(&self, origin: &str, steps: u64) -> Result<ModelGraph, ZooError> {
        self.model(steps).map_err(of_model(origin))
    }

    /// Truncated back-propagation runs over 20 words.
    fn context(&self) -> u64 {
        20
    }
}
