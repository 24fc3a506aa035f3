//! Encoders trained on masked tokens: BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019), post-norm, parameters named
//! and laid out as in their Hugging Face checkpoints.

use cutplane_graph::{
    ActivationKind, Arithmetic, Attention, AttentionInput, AttentionKernel, Dtype, Init, InputRole, Learned,
    ModelError, ModelGraph, ModelGraphBuilder, OpKind, Overrides, TensorType, ValueId,
};

use super::{Dense, Scope};
use crate::error::ZooError;
use crate::limits::{
    MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, Replacing, all_in_range, check_length,
    check_scores, field_error, of_model,
};
use crate::recipe::Recipe;

/// Share of the tokens that are masked, percent (Devlin et al. 2019, section 3.1).
const MASKED_PERCENT: u64 = 15;

/// What follows the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncoderHead {
    /// The masked-language-model head, and its loss.
    MaskedLm,
    /// The pooler; no loss.
    Pooler,
}

/// Whose names the modules have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncoderDialect {
    /// `bert`.
    Bert,
    /// `roberta`.
    Roberta,
}

/// An encoder. Start from [`Encoder::bert`] or [`Encoder::roberta`] and replace fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// Name of the model.
    pub name: String,
    /// Whose names the modules have.
    pub dialect: EncoderDialect,
    /// Layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Width of the feed-forward layers.
    pub ffn_hidden: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Rows of the position table.
    pub positions: u64,
    /// Row of the first position.
    pub position_offset: u64,
    /// Segments that a sample can have; with one, its embedding is added to every token.
    pub token_types: u64,
    /// Non-linearity of the feed-forward layers and of the head.
    pub activation: ActivationKind,
    /// Added to the variance by the norms.
    pub norm_eps: f64,
    /// Standard deviation of initial weights.
    pub init_std: f64,
    /// Whether the head shares the word embedding.
    pub tied: bool,
    /// What follows the last layer.
    pub head: EncoderHead,
    /// How scores are computed.
    pub kernel: AttentionKernel,
}

impl Encoder {
    /// BERT base with the masked-language-model head.
    pub fn bert() -> Self {
        Self {
            name: "bert".to_owned(),
            dialect: EncoderDialect::Bert,
            layers: 12,
            hidden: 768,
            heads: 12,
            ffn_hidden: 3072,
            vocab: 30_522,
            positions: 512,
            position_offset: 0,
            token_types: 2,
            activation: ActivationKind::Gelu,
            norm_eps: 1e-12,
            init_std: 0.02,
            tied: true,
            head: EncoderHead::MaskedLm,
            kernel: AttentionKernel::Materialised,
        }
    }

    /// RoBERTa base.
    pub fn roberta() -> Self {
        Self {
            name: "roberta".to_owned(),
            dialect: EncoderDialect::Roberta,
            vocab: 50_265,
            positions: 514,
            position_offset: 2,
            token_types: 1,
            norm_eps: 1e-5,
            ..Self::bert()
        }
    }

    /// The graph for samples of `sequence_length` tokens: `tokens [s]`, `token_types [s]` where there are several, and with
    /// the masked-language-model head `targets [s]`.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, sequence_length)?;
        self.build(&self.name, sequence_length)
    }

    const fn prefix(&self) -> &'static str {
        match self.dialect {
            EncoderDialect::Bert => "bert",
            EncoderDialect::Roberta => "roberta",
        }
    }

    fn norm(&self) -> OpKind {
        OpKind::layer_norm(self.hidden, self.norm_eps)
    }

    const fn linear(&self, inputs: u64, outputs: u64) -> OpKind {
        Dense::torch(self.init_std).op(inputs, outputs, true)
    }

    fn model(&self, s: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let mut x = self.embeddings(&mut b, s)?;
        for layer in 0..self.layers {
            b.layer(Some(layer as u32));
            let mut scope = Scope { b: &mut b, path: format!("{}.encoder.layer.{layer}", self.prefix()) };
            x = self.attention(&mut scope, x)?;
            x = self.feed_forward(&mut scope, x)?;
        }
        b.layer(None);
        match self.head {
            EncoderHead::MaskedLm => self.masked_lm(&mut b, s, x),
            EncoderHead::Pooler => self.pooler(&mut b, x),
        }
    }

    fn embeddings(&self, b: &mut ModelGraphBuilder, s: u64) -> Result<ValueId, ModelError> {
        let (dim, init_std) = (self.hidden, self.init_std);
        let ids = TensorType::batched(&[s], Dtype::I32);
        let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
        let types = match self.token_types {
            1 => None,
            _ => Some(b.input("token_types", InputRole::TokenTypes, ids)?),
        };
        let mut scope = Scope { b, path: format!("{}.embeddings", self.prefix()) };
        let words = OpKind::Embedding { vocab: self.vocab, dim, init_std };
        let words = scope.op("word_embeddings", words, &[tokens])?;
        let sum = if let Some(types) = types {
            let table = OpKind::Embedding { vocab: self.token_types, dim, init_std };
            let types = scope.op("token_type_embeddings", table, &[types])?;
            scope.op("sum", OpKind::Add, &[words, types])?
        } else {
            let (function, init) = (Arithmetic::Add, Init::Normal { std: init_std });
            let row = OpKind::Learned(Learned { function, dims: vec![1, dim], init });
            scope.op("token_type_embeddings", row, &[words])?
        };
        let offset = self.position_offset;
        let positions = OpKind::PositionEmbedding { positions: self.positions, dim, init_std, offset };
        let x = scope.op("position_embeddings", positions, &[sum])?;
        scope.op("LayerNorm", self.norm(), &[x])
    }

    fn attention(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let hidden = self.hidden;
        let mut project = |part| scope.op(&format!("attention.self.{part}"), self.linear(hidden, hidden), &[x]);
        let (query, key, value) = (project("query")?, project("key")?, project("value")?);
        let attention = Attention {
            kernel: self.kernel,
            ..Attention::new(self.heads, self.hidden / self.heads, false, AttentionInput::Separate)
        };
        let mixed = scope.op("attention.self", OpKind::Attention(attention), &[query, key, value])?;
        let projected = scope.op("attention.output.dense", self.linear(hidden, hidden), &[mixed])?;
        let x = scope.op("attention.output.residual", OpKind::Add, &[projected, x])?;
        scope.op("attention.output.LayerNorm", self.norm(), &[x])
    }

    fn feed_forward(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let (hidden, inner) = (self.hidden, self.ffn_hidden);
        let wide = scope.op("intermediate.dense", self.linear(hidden, inner), &[x])?;
        let active = scope.op("intermediate.act", OpKind::Activation { function: self.activation }, &[wide])?;
        let narrow = scope.op("output.dense", self.linear(inner, hidden), &[active])?;
        let x = scope.op("output.residual", OpKind::Add, &[narrow, x])?;
        scope.op("output.LayerNorm", self.norm(), &[x])
    }

    fn masked_lm(&self, b: &mut ModelGraphBuilder, s: u64, x: ValueId) -> Result<ModelGraph, ModelError> {
        let (hidden, vocab) = (self.hidden, self.vocab);
        let [dense, act, norm, decoder, bias] = match self.dialect {
            EncoderDialect::Bert => [
                "cls.predictions.transform.dense",
                "cls.predictions.transform.act",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.decoder",
                "cls.predictions.bias",
            ],
            EncoderDialect::Roberta => {
                ["lm_head.dense", "lm_head.act", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"]
            }
        };
        let targets = b.input("targets", InputRole::MaskedTokens, TensorType::batched(&[s], Dtype::I32))?;
        let x = b.op(dense, self.linear(hidden, hidden), &[x])?;
        let x = b.op(act, OpKind::Activation { function: self.activation }, &[x])?;
        let x = b.op(norm, self.norm(), &[x])?;
        let tied = format!("{}.embeddings.word_embeddings.weight", self.prefix());
        let weight = if self.tied { tied } else { format!("{decoder}.weight") };
        let logits = b.op_with_params(decoder, self.linear(hidden, vocab), &[x], &[&weight, bias])?;
        let counted = (s * MASKED_PERCENT / 100).max(1);
        let loss = b.op("loss", OpKind::CrossEntropy { classes: vocab, counted }, &[logits, targets])?;
        b.loss(loss).build()
    }

    fn pooler(&self, b: &mut ModelGraphBuilder, x: ValueId) -> Result<ModelGraph, ModelError> {
        let hidden = self.hidden;
        let mut scope = Scope { b, path: format!("{}.pooler", self.prefix()) };
        let first = scope.op("first_token", OpKind::SelectToken { index: 0 }, &[x])?;
        let dense = scope.op("dense", self.linear(hidden, hidden), &[first])?;
        let pooled = scope.op("act", OpKind::Activation { function: ActivationKind::Tanh }, &[dense])?;
        b.output(x).output(pooled).build()
    }
}

impl Recipe for Encoder {
    /// The feed-forward layers keep their ratio to the hidden size.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "heads", "vocab", "ffn_hidden"])?;
        let old = self.hidden;
        if replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)? {
            self.ffn_hidden = (self.ffn_hidden * self.hidden / old).clamp(1, MAX_INNER);
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("heads", overrides.heads, &mut self.heads, MAX_HEADS)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        replacing.size("ffn_hidden", overrides.ffn_hidden, &mut self.ffn_hidden, MAX_INNER)?;
        Ok(())
    }

    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        let (hidden_field, heads_field) = ("hidden_size", "num_attention_heads");
        all_in_range(
            origin,
            &[
                ("num_hidden_layers", self.layers, MAX_LAYERS),
                (hidden_field, self.hidden, MAX_HIDDEN),
                (heads_field, self.heads, MAX_HEADS),
                ("intermediate_size", self.ffn_hidden, MAX_INNER),
                ("vocab_size", self.vocab, MAX_VOCAB),
                ("max_position_embeddings", self.positions, MAX_POSITIONS),
                ("type_vocab_size", self.token_types, MAX_VOCAB),
            ],
        )?;
        if !self.hidden.is_multiple_of(self.heads) {
            let problem = format!("is {}, which '{heads_field}' = {} does not divide", self.hidden, self.heads);
            let remedy = "choose a hidden size that is a multiple of the number of heads";
            return Err(field_error(origin, hidden_field, problem, remedy));
        }
        check_length(origin, sequence_length, "max_position_embeddings", self.context())?;
        check_scores(origin, sequence_length, self.heads)
    }

    fn build(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.model(sequence_length).map_err(of_model(origin))
    }

    fn context(&self) -> u64 {
        self.positions.saturating_sub(self.position_offset)
    }
}
