//! GNMT (Wu et al. 2016) as in `tensorflow/nmt`: an encoder whose first layer runs both ways, a decoder whose bottom layer
//! reads the attention of the step before, and whose other layers read that of their own step; residual sums from the third
//! layer on. The bottom decoder layer is unrolled: its time steps are operators.

use cutplane_graph::{
    AdditiveAttention, Cell, Concat, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, Overrides,
    Pad, Recurrent, RecurrentBias, RecurrentOutput, Slice, TensorType, ValueId,
};

use super::layer::{Place, hidden};
use crate::error::ZooError;
use crate::limits::{MAX_HIDDEN, MAX_LAYERS, MAX_VOCAB, Replacing, all_in_range, check_length, of_model};
use crate::recipe::Recipe;
use crate::transformer::Dense;

/// Most time steps of the decoder, each of which is several operators.
const MAX_STEPS: u64 = 4096;

/// A translator. [`Gnmt::wmt16`] is the published size.
#[derive(Clone, Debug, PartialEq)]
pub struct Gnmt {
    /// Name of the model.
    pub name: String,
    /// Layers of the encoder, and of the decoder; at least 2.
    pub layers: u64,
    /// Units, and width of the embeddings.
    pub hidden: u64,
    /// Vocabulary of either language.
    pub vocab: u64,
    /// Bias vectors of the LSTM layers.
    pub bias: RecurrentBias,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

impl Gnmt {
    /// Eight layers of 1024 units; 280,757,249 parameters with 32,000 word pieces and no biases.
    pub fn wmt16() -> Self {
        Self {
            name: "gnmt".to_owned(),
            layers: 8,
            hidden: 1024,
            vocab: 32_000,
            bias: RecurrentBias::None,
            init_std: 0.1,
        }
    }

    /// The graph for samples of `steps` source tokens and as many target tokens.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, steps: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, steps)?;
        self.build(&self.name, steps)
    }

    fn lstm(&self, inputs: u64) -> Recurrent {
        Recurrent { bias: self.bias, ..Recurrent::new(Cell::Lstm, inputs, self.hidden) }
    }

    fn embed(&self, b: &mut ModelGraphBuilder, name: &str, ids: ValueId) -> Result<ValueId, ModelError> {
        let kind = OpKind::Embedding { vocab: self.vocab, dim: self.hidden, init_std: self.init_std };
        b.op(name, kind, &[ids])
    }

    fn model(&self, steps: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let ids = TensorType::batched(&[steps], Dtype::I32);
        let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
        let decoder_tokens = b.input("decoder_tokens", InputRole::DecoderTokens, ids.clone())?;
        let targets = b.input("targets", InputRole::NextTokens, ids)?;
        let memory = self.encoder(&mut b, tokens)?;
        let x = self.embed(&mut b, "decoder.embedding", decoder_tokens)?;
        let (x, contexts) = self.bottom_layer(&mut b, x, memory)?;
        let x = self.upper_layers(&mut b, x, contexts)?;
        let head = Dense::torch(self.init_std).op(self.hidden, self.vocab, false);
        let logits = b.op("decoder.output", head, &[x])?;
        let loss = b.op("loss", OpKind::CrossEntropy { classes: self.vocab, counted: steps }, &[logits, targets])?;
        b.loss(loss).build()
    }

    fn encoder(&self, b: &mut ModelGraphBuilder, tokens: ValueId) -> Result<ValueId, ModelError> {
        let mut x = self.embed(b, "encoder.embedding", tokens)?;
        b.layer(Some(0));
        x = Place { module: "encoder.rnn", number: 0 }.both_directions(b, &self.lstm(self.hidden), x, 1)?;
        for number in 1..self.layers {
            b.layer(Some(number as u32));
            let kind = self.lstm(b.type_of(x).last());
            let y = Place { module: "encoder.rnn", number }.sequence(b, &kind, x, 1)?;
            x = if number < 2 { y } else { b.op(&format!("encoder.rnn.{number}.residual"), OpKind::Add, &[y, x])? };
        }
        b.layer(None);
        Ok(x)
    }

    /// The bottom layer and the attention, step by step: hidden states and contexts, `[steps, hidden]` each.
    fn bottom_layer(
        &self,
        b: &mut ModelGraphBuilder,
        x: ValueId,
        memory: ValueId,
    ) -> Result<(ValueId, ValueId), ModelError> {
        let (units, steps) = (self.hidden, b.type_of(x).dims[0]);
        let project = Dense::torch(self.init_std).op(units, units, false);
        b.layer(Some(self.layers as u32));
        let keys = b.op("decoder.attention.memory_layer", project.clone(), &[memory])?;
        let (mut state, mut context) = (None, None);
        let (mut outputs, mut contexts) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let at = format!("decoder.rnn.0.steps.{step}");
            let word = b.op(&format!("{at}.input"), OpKind::Slice(Slice::range(0, step, step + 1)), &[x])?;
            let input = match context {
                None => b.op(&format!("{at}.pad"), OpKind::Pad(Pad { axis: 1, before: 0, after: units }), &[word])?,
                Some(context) => {
                    let join = OpKind::Concat(Concat { axis: 1, values: 2 });
                    b.op(&format!("{at}.concat"), join, &[word, context])?
                }
            };
            let kind =
                Recurrent { initial_state: state.is_some(), output: RecurrentOutput::States, ..self.lstm(2 * units) };
            let inputs: Vec<ValueId> = std::iter::once(input).chain(state).collect();
            let states = Place { module: "decoder.rnn", number: 0 }.op(b, &at, kind.clone(), &inputs)?;
            if step + 1 < steps {
                state = Some(b.op(&format!("{at}.state"), OpKind::SelectToken { index: 0 }, &[states])?);
            }
            let output = hidden(b, &format!("{at}.hidden"), &kind, states)?;
            let query = b.op_with_params(&format!("{at}.query"), project.clone(), &[output], &[QUERY])?;
            let attention = OpKind::AdditiveAttention(AdditiveAttention { units, normed: true, bias: false });
            let attended =
                b.op_with_params(&format!("{at}.attention"), attention, &[query, keys, memory], &ATTENTION)?;
            outputs.push(output);
            contexts.push(attended);
            context = Some(attended);
        }
        let mut join =
            |name: &str, parts: &[ValueId]| b.op(name, OpKind::Concat(Concat { axis: 0, values: parts.len() }), parts);
        Ok((join("decoder.rnn.0.concat", &outputs)?, join("decoder.attention.concat", &contexts)?))
    }

    fn upper_layers(
        &self,
        b: &mut ModelGraphBuilder,
        mut x: ValueId,
        contexts: ValueId,
    ) -> Result<ValueId, ModelError> {
        for number in 1..self.layers {
            b.layer(Some((self.layers + number) as u32));
            let at = format!("decoder.rnn.{number}");
            let input = b.op(&format!("{at}.concat"), OpKind::Concat(Concat { axis: 1, values: 2 }), &[x, contexts])?;
            let y = Place { module: "decoder.rnn", number }.sequence(b, &self.lstm(2 * self.hidden), input, 1)?;
            x = if number < 2 { y } else { b.op(&format!("{at}.residual"), OpKind::Add, &[y, x])? };
        }
        b.layer(None);
        Ok(x)
    }
}

const QUERY: &str = "decoder.attention.query_layer.weight";
const ATTENTION: [&str; 2] = ["decoder.attention.v", "decoder.attention.g"];

impl Recipe for Gnmt {
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "vocab"])?;
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        Ok(())
    }

    fn check(&self, origin: &str, steps: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("layers", self.layers, MAX_LAYERS),
                ("hidden", self.hidden, MAX_HIDDEN),
                ("vocab", self.vocab, MAX_VOCAB),
            ],
        )?;
        check_length(origin, steps, "longest sequence", MAX_STEPS)
    }

    fn build(&self, origin: &str, steps: u64) -> Result<ModelGraph, ZooError> {
        self.model(steps).map_err(of_model(origin))
    }

    /// Training samples are cut to 50 tokens.
    fn context(&self) -> u64 {
        50
    }
}
