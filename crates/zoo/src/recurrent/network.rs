//! Recurrent networks in their four shapes.

use cutplane_graph::{
    ActivationKind, Cell, Concat, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, Overrides,
    Recurrent, RecurrentBias, RecurrentOutput, Reshape, TensorType, ValueId,
};

use super::layer::Place;
use crate::error::ZooError;
use crate::limits::{MAX_HIDDEN, MAX_LAYERS, MAX_VOCAB, Replacing, all_in_range, check_length, field_error, of_model};
use crate::recipe::Recipe;
use crate::transformer::Dense;

/// Most time steps.
const MAX_STEPS: u64 = 1 << 16;

/// How inputs and outputs follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One vector in, one class out: no recurrence, a plain network of one hidden layer for each layer.
    OneToOne,
    /// One vector in, a token at each step: the first state sees the vector, every further one the state before.
    OneToMany,
    /// A token at each step in, one class out.
    ManyToOne,
    /// A token at each step in, the next one out.
    Aligned,
    /// An encoder reads all tokens; a decoder starts from its last states.
    EncoderDecoder,
}

/// A recurrent network. Start from [`Network::new`] and replace fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name of the model.
    pub name: String,
    /// How inputs and outputs follow each other.
    pub shape: Shape,
    /// The cell.
    pub cell: Cell,
    /// Layers, one above the other.
    pub layers: u64,
    /// Width of the input vector or of the word embedding.
    pub inputs: u64,
    /// Units of a layer and direction.
    pub hidden: u64,
    /// Width of the projected hidden state; LSTM only.
    pub projection: Option<u64>,
    /// Whether every layer also runs backwards; not for decoders.
    pub bidirectional: bool,
    /// Bias vectors.
    pub bias: RecurrentBias,
    /// Tokens, or classes.
    pub vocab: u64,
    /// Pieces of every layer over time.
    pub time_chunks: u64,
}

impl Network {
    /// A network of PyTorch's cells over bytes.
    pub fn new(shape: Shape, cell: Cell, layers: u64, inputs: u64, hidden: u64) -> Self {
        Self {
            name: cell.name().to_owned(),
            shape,
            cell,
            layers,
            inputs,
            hidden,
            projection: None,
            bidirectional: false,
            bias: RecurrentBias::Two,
            vocab: 256,
            time_chunks: 1,
        }
    }

    /// The graph for samples of `steps` time steps, to the mean cross-entropy.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, steps: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, steps)?;
        self.build(&self.name, steps)
    }

    /// The layer with a given width in.
    fn cell(&self, inputs: u64) -> Recurrent {
        Recurrent { projection: self.projection, bias: self.bias, ..Recurrent::new(self.cell, inputs, self.hidden) }
    }

    /// Width of what a layer gives.
    fn width(&self) -> u64 {
        self.projection.unwrap_or(self.hidden) * (1 + u64::from(self.bidirectional))
    }

    fn head(&self, b: &mut ModelGraphBuilder, x: ValueId) -> Result<ValueId, ModelError> {
        let width = b.type_of(x).last();
        b.op("head", Dense::torch((width as f64).powf(-0.5)).op(width, self.vocab, true), &[x])
    }

    fn embed(&self, b: &mut ModelGraphBuilder, name: &str, ids: ValueId) -> Result<ValueId, ModelError> {
        let kind = OpKind::Embedding { vocab: self.vocab, dim: self.inputs, init_std: 1.0 };
        b.op(name, kind, &[ids])
    }

    fn model(&self, steps: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let ids = TensorType::batched(&[steps], Dtype::I32);
        let features = TensorType::batched(&[self.inputs], Dtype::F32);
        let class = TensorType::batched(&[], Dtype::I32);
        let (targets, counted, x) = match self.shape {
            Shape::OneToOne => {
                let x = b.input("features", InputRole::Features, features)?;
                (b.input("targets", InputRole::Classes, class)?, 1, self.plain(&mut b, x)?)
            }
            Shape::OneToMany => {
                let x = b.input("features", InputRole::Features, features)?;
                (b.input("targets", InputRole::NextTokens, ids)?, steps, self.unrolled(&mut b, x, steps)?)
            }
            Shape::ManyToOne => {
                let tokens = b.input("tokens", InputRole::Tokens, ids)?;
                let x = self.embed(&mut b, "embedding", tokens)?;
                (b.input("targets", InputRole::Classes, class)?, 1, self.stack(&mut b, x, RecurrentOutput::Last)?)
            }
            Shape::Aligned => {
                let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
                let targets = b.input("targets", InputRole::NextTokens, ids)?;
                let x = self.embed(&mut b, "embedding", tokens)?;
                (targets, steps, self.stack(&mut b, x, RecurrentOutput::Sequence)?)
            }
            Shape::EncoderDecoder => {
                let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
                let decoder_tokens = b.input("decoder_tokens", InputRole::DecoderTokens, ids.clone())?;
                let targets = b.input("targets", InputRole::NextTokens, ids)?;
                (targets, steps, self.encoder_decoder(&mut b, tokens, decoder_tokens)?)
            }
        };
        let logits = self.head(&mut b, x)?;
        let loss = b.op("loss", OpKind::CrossEntropy { classes: self.vocab, counted }, &[logits, targets])?;
        b.loss(loss).build()
    }

    /// Linear layers with hyperbolic tangents.
    fn plain(&self, b: &mut ModelGraphBuilder, mut x: ValueId) -> Result<ValueId, ModelError> {
        for layer in 0..self.layers {
            let width = b.type_of(x).last();
            b.layer(Some(layer as u32));
            let kind = Dense::torch((width as f64).powf(-0.5)).op(width, self.hidden, true);
            x = b.op(&format!("layers.{layer}"), kind, &[x])?;
            let function = ActivationKind::Tanh;
            x = b.op(&format!("layers.{layer}.act"), OpKind::Activation { function }, &[x])?;
        }
        b.layer(None);
        Ok(x)
    }

    /// All layers over all steps; the topmost gives `output`.
    fn stack(&self, b: &mut ModelGraphBuilder, mut x: ValueId, output: RecurrentOutput) -> Result<ValueId, ModelError> {
        for number in 0..self.layers {
            b.layer(Some(number as u32));
            let last = number + 1 == self.layers;
            let output = if last { output } else { RecurrentOutput::Sequence };
            let kind = Recurrent { output, ..self.cell(b.type_of(x).last()) };
            let chunks = if output == RecurrentOutput::Last { 1 } else { self.time_chunks };
            let place = Place { module: "rnn", number };
            x = if self.bidirectional {
                place.both_directions(b, &kind, x, chunks)?
            } else {
                place.sequence(b, &kind, x, chunks)?
            };
        }
        b.layer(None);
        Ok(x)
    }

    /// One operator a layer and step; each step reads the topmost hidden state of the step before.
    fn unrolled(&self, b: &mut ModelGraphBuilder, x: ValueId, steps: u64) -> Result<ValueId, ModelError> {
        let width = self.width();
        let row = |dims: &[u64]| OpKind::Reshape(Reshape { dims: dims.to_vec() });
        let entry = Dense::torch((self.inputs as f64).powf(-0.5)).op(self.inputs, width, true);
        let x = b.op("entry", entry, &[x])?;
        let mut x = b.op("entry.row", row(&[1, width]), &[x])?;
        let mut states: Vec<Option<ValueId>> = vec![None; self.layers as usize];
        let mut outputs = Vec::with_capacity(steps as usize);
        for step in 0..steps {
            for (number, state) in states.iter_mut().enumerate() {
                let place = Place { module: "rnn", number: number as u64 };
                let kind =
                    Recurrent { initial_state: state.is_some(), output: RecurrentOutput::States, ..self.cell(width) };
                let at = format!("rnn.{number}.steps.{step}");
                let inputs: Vec<ValueId> = std::iter::once(x).chain(*state).collect();
                let next = place.op(b, &at, kind.clone(), &inputs)?;
                *state = None;
                if step + 1 < steps {
                    *state = Some(b.op(&format!("{at}.state"), OpKind::SelectToken { index: 0 }, &[next])?);
                }
                x = super::layer::hidden(b, &format!("{at}.hidden"), &kind, next)?;
            }
            outputs.push(x);
        }
        b.op("rnn.concat", OpKind::Concat(Concat { axis: 0, values: outputs.len() }), &outputs)
    }

    /// Two stacks; layer by layer the decoder starts from the encoder's last state.
    fn encoder_decoder(
        &self,
        b: &mut ModelGraphBuilder,
        tokens: ValueId,
        decoder_tokens: ValueId,
    ) -> Result<ValueId, ModelError> {
        let mut x = self.embed(b, "encoder.embedding", tokens)?;
        let mut handed_on = Vec::new();
        for number in 0..self.layers {
            b.layer(Some(number as u32));
            let kind = Recurrent { output: RecurrentOutput::States, ..self.cell(b.type_of(x).last()) };
            let at = format!("encoder.{number}");
            let states = Place { module: "encoder.rnn", number }.op(b, &at, kind.clone(), &[x])?;
            let index = b.type_of(states).dims[0] - 1;
            handed_on.push(b.op(&format!("{at}.state"), OpKind::SelectToken { index }, &[states])?);
            if number + 1 < self.layers {
                x = super::layer::hidden(b, &format!("{at}.hidden"), &kind, states)?;
            }
        }
        b.layer(None);
        let mut x = self.embed(b, "decoder.embedding", decoder_tokens)?;
        for (number, state) in (0..).zip(handed_on) {
            b.layer(Some((self.layers + number) as u32));
            let kind = Recurrent { initial_state: true, ..self.cell(b.type_of(x).last()) };
            x = Place { module: "decoder.rnn", number }.op(b, &format!("decoder.{number}"), kind, &[x, state])?;
        }
        b.layer(None);
        Ok(x)
    }
}

impl Recipe for Network {
    /// The embedding keeps its ratio to the units.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "vocab"])?;
        let old = self.hidden;
        if replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)? {
            self.inputs = (self.inputs * self.hidden / old).max(1);
            self.projection = self.projection.map(|width| (width * self.hidden / old).max(1));
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        Ok(())
    }

    fn check(&self, origin: &str, steps: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("layers", self.layers, MAX_LAYERS),
                ("inputs", self.inputs, MAX_HIDDEN),
                ("hidden", self.hidden, MAX_HIDDEN),
                ("projection", self.projection.unwrap_or(1), MAX_HIDDEN),
                ("vocab", self.vocab, MAX_VOCAB),
                ("time_chunks", self.time_chunks, MAX_STEPS),
            ],
        )?;
        let decodes = matches!(self.shape, Shape::OneToMany | Shape::EncoderDecoder);
        if self.bidirectional && decodes {
            let problem = "is set, but a decoder cannot see what comes".to_owned();
            return Err(field_error(origin, "bidirectional", problem, "choose another shape"));
        }
        let operators = self.layers.saturating_mul(steps);
        if self.shape == Shape::OneToMany && operators > MAX_STEPS {
            let problem = format!("is {steps}, times {} layers", self.layers);
            return Err(field_error(origin, "sequence_length", problem, "choose fewer steps: each is an operator"));
        }
        check_length(origin, steps, "longest sequence", MAX_STEPS)
    }

    fn build(&self, origin: &str, steps: u64) -> Result<ModelGraph, ZooError> {
        self.model(steps).map_err(of_model(origin))
    }

    fn context(&self) -> u64 {
        if self.shape == Shape::OneToOne { 1 } else { 50 }
    }
}
