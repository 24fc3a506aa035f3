//! Decoders trained on the next token.

use cutplane_graph::{
    ActivationKind, AttentionInput, AttentionKernel, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder,
    OpKind, Overrides, Rotary, ScaleShift, TensorType, ValueId, WeightLayout,
};

use super::dialect::Dialect;
use super::feed_forward::Experts;
use super::{Dense, Norm, Scope};
use crate::error::ZooError;
use crate::limits::{
    MAX_EXPERTS, MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, Replacing, all_in_range,
    check_experts, check_length, check_scores, field_error, of_model,
};
use crate::recipe::Recipe;

/// How a decoder knows the order of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Not at all, but for the causal mask.
    None,
    /// A learned table.
    Learned {
        /// Row of the first position.
        offset: u64,
    },
    /// Rotation of queries and keys.
    Rotary(Rotary),
    /// A bias of the scores.
    Alibi {
        /// Exponent of the last head.
        max_bias: f64,
    },
}

/// How the two parts of a block follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockForm {
    /// Norm, attention, sum; norm, feed-forward, sum (GPT-2).
    PreNorm,
    /// Attention, sum, norm; feed-forward, sum, norm (GPT-1).
    PostNorm,
    /// Both parts read one norm, one sum (GPT-J, Phi, Falcon-7B).
    Parallel,
    /// Both parts read a norm of their own, one sum (GPT-NeoX, Falcon-40B).
    ParallelTwoNorms,
}

/// A decoder; parameters are named and laid out as in the checkpoints of its [`Dialect`]. Start from
/// [`Decoder::gpt2`], [`Decoder::llama`] or another preset and replace fields.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a hyper-parameter of its own")]
pub struct Decoder {
    /// Name of the model.
    pub name: String,
    /// Whose names the modules have.
    pub dialect: Dialect,
    /// Blocks.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Heads of keys and values; 0 for as many as `heads`.
    pub kv_heads: u64,
    /// Width of a head; `None` for `hidden / heads`.
    pub head_dim: Option<u64>,
    /// Width of the feed-forward layers, of each expert where there are experts.
    pub ffn_hidden: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Longest sequence: rows of the position table without its offset.
    pub context: u64,
    /// How it knows the order of tokens.
    pub positions: Positions,
    /// Normalisation.
    pub norm: Norm,
    /// Order of a block's parts.
    pub block: BlockForm,
    /// Whether a norm follows the last block.
    pub final_norm: bool,
    /// Non-linearity of the feed-forward layers.
    pub activation: ActivationKind,
    /// Whether the feed-forward layers are gated.
    pub gated: bool,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the attention's output projection.
    pub output_bias: bool,
    /// Biases of the feed-forward layers.
    pub ffn_bias: bool,
    /// Bias of the head.
    pub head_bias: bool,
    /// Whether the head shares the word embedding.
    pub tied: bool,
    /// Layout of queries, keys and values.
    pub packing: AttentionInput,
    /// Epsilon of the norms of each head's queries and keys, where there are any (Qwen3).
    pub qk_norm: Option<f64>,
    /// Keys that a query sees; `None` for all.
    pub window: Option<u64>,
    /// A mixture of experts in place of the feed-forward layers.
    pub experts: Option<Experts>,
    /// Factor of the word embedding (Gemma).
    pub embedding_scale: Option<f64>,
    /// Width of the word embedding where it is projected to the hidden size (OPT-350M).
    pub embedding_width: Option<u64>,
    /// How scores are computed.
    pub kernel: AttentionKernel,
    /// Standard deviation of initial weights; projections into the residual stream start at `std / sqrt(2 layers)`
    /// (Radford et al. 2019, section 2.3).
    pub init_std: f64,
}

impl Decoder {
    /// The graph for samples of `sequence_length` tokens: `tokens [s]` and `targets [s]` (the next tokens) to the mean
    /// cross-entropy.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        let decoder = self.normalised();
        decoder.check(&self.name, sequence_length)?;
        decoder.build(&self.name, sequence_length)
    }

    /// With the number of key heads filled in.
    fn normalised(&self) -> Self {
        let kv_heads = if self.kv_heads == 0 { self.heads } else { self.kv_heads };
        Self { kv_heads, ..self.clone() }
    }

    /// Width of a head.
    pub fn head_dim(&self) -> u64 {
        self.head_dim.unwrap_or(self.hidden / self.heads.max(1))
    }

    pub(super) fn dense(&self) -> Dense {
        Dense { layout: self.dialect.names().layout, init_std: self.init_std }
    }

    /// Linear layers whose output is added to the residual stream.
    pub(super) fn residual_dense(&self) -> Dense {
        Dense { init_std: self.init_std / (2.0 * self.layers as f64).sqrt(), ..self.dense() }
    }

    fn model(&self, s: u64) -> Result<ModelGraph, ModelError> {
        let names = self.dialect.names();
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let ids = TensorType::batched(&[s], Dtype::I32);
        let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
        let targets = b.input("targets", InputRole::NextTokens, ids)?;
        let mut x = self.embed(&mut b, tokens)?;
        for layer in 0..self.layers {
            b.layer(Some(layer as u32));
            x = self.block(&mut Scope { b: &mut b, path: format!("{}.{layer}", names.block) }, x)?;
        }
        b.layer(None);
        if self.final_norm {
            x = b.op(names.final_norm, self.norm.op(self.hidden), &[x])?;
        }
        let logits = self.head(&mut b, x)?;
        let loss = b.op("loss", OpKind::CrossEntropy { classes: self.vocab, counted: s }, &[logits, targets])?;
        b.loss(loss).build()
    }

    fn embed(&self, b: &mut ModelGraphBuilder, tokens: ValueId) -> Result<ValueId, ModelError> {
        let (names, init_std) = (self.dialect.names(), self.init_std);
        let dim = self.embedding_width.unwrap_or(self.hidden);
        let mut x = b.op(names.embedding, OpKind::Embedding { vocab: self.vocab, dim, init_std }, &[tokens])?;
        if self.embedding_width.is_some() {
            x = b.op("model.decoder.project_in", self.dense().op(dim, self.hidden, false), &[x])?;
        }
        if let Some(scale) = self.embedding_scale {
            let kind = OpKind::ScaleShift(ScaleShift { scale, shift: 0.0 });
            x = b.op(&format!("{}.scale", names.embedding), kind, &[x])?;
        }
        if let Positions::Learned { offset } = self.positions {
            let positions = self.context.saturating_add(offset);
            let kind = OpKind::PositionEmbedding { positions, dim: self.hidden, init_std, offset };
            x = b.op(names.positions, kind, &[x])?;
        }
        Ok(x)
    }

    fn head(&self, b: &mut ModelGraphBuilder, mut x: ValueId) -> Result<ValueId, ModelError> {
        let names = self.dialect.names();
        let inputs = self.embedding_width.unwrap_or(self.hidden);
        if self.embedding_width.is_some() {
            x = b.op("model.decoder.project_out", self.dense().op(self.hidden, inputs, false), &[x])?;
        }
        let kind = OpKind::Linear {
            inputs,
            outputs: self.vocab,
            bias: self.head_bias,
            layout: WeightLayout::OutIn,
            init_std: self.init_std,
        };
        let weight = format!("{}.weight", if self.tied { names.embedding } else { names.head });
        let bias = format!("{}.bias", names.head);
        b.op_with_params(names.head, kind, &[x], &[weight.as_str(), &bias][..=usize::from(self.head_bias)])
    }

    fn block(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let names = self.dialect.names();
        let norm = self.norm.op(self.hidden);
        let (attention_sum, ffn_sum) = (format!("{}.residual", names.attention), format!("{}.residual", names.ffn));
        match self.block {
            BlockForm::PreNorm => {
                let normed = scope.op(names.norm_1, norm.clone(), &[x])?;
                let mixed = self.attention(scope, normed)?;
                let x = scope.op(&attention_sum, OpKind::Add, &[mixed, x])?;
                let normed = scope.op(names.norm_2, norm, &[x])?;
                let narrow = self.feed_forward(scope, normed)?;
                scope.op(&ffn_sum, OpKind::Add, &[narrow, x])
            }
            BlockForm::PostNorm => {
                let mixed = self.attention(scope, x)?;
                let sum = scope.op(&attention_sum, OpKind::Add, &[mixed, x])?;
                let x = scope.op(names.norm_1, norm.clone(), &[sum])?;
                let narrow = self.feed_forward(scope, x)?;
                let sum = scope.op(&ffn_sum, OpKind::Add, &[narrow, x])?;
                scope.op(names.norm_2, norm, &[sum])
            }
            BlockForm::Parallel | BlockForm::ParallelTwoNorms => {
                let two = self.block == BlockForm::ParallelTwoNorms;
                let first = if two { names.parallel_norms[0] } else { names.norm_1 };
                let normed = scope.op(first, norm.clone(), &[x])?;
                let other = if two { scope.op(names.parallel_norms[1], norm, &[x])? } else { normed };
                let mixed = self.attention(scope, normed)?;
                let narrow = self.feed_forward(scope, other)?;
                let sum = scope.op(&attention_sum, OpKind::Add, &[mixed, narrow])?;
                scope.op(&ffn_sum, OpKind::Add, &[sum, x])
            }
        }
    }
}

impl Recipe for Decoder {
    /// The feed-forward layers keep their ratio to the hidden size, key heads theirs to the heads.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        *self = self.normalised();
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "heads", "vocab", "kv_heads", "ffn_hidden", "experts"])?;
        let (old_hidden, old_heads, old_head_dim) = (self.hidden, self.heads, self.head_dim());
        let wider = replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)?;
        let more_heads = replacing.size("heads", overrides.heads, &mut self.heads, MAX_HEADS)?;
        if wider {
            self.ffn_hidden = (self.ffn_hidden * self.hidden / old_hidden).clamp(1, MAX_INNER);
            self.embedding_scale =
                self.embedding_scale.map(|scale| scale * (self.hidden as f64 / old_hidden as f64).sqrt());
        }
        if wider || more_heads {
            self.head_dim = None;
            let share = (self.kv_heads * self.heads / old_heads).max(1);
            self.kv_heads = (1..=share).rev().find(|n| self.heads.is_multiple_of(*n)).unwrap_or(1);
            self.rotate_the_same_share(old_head_dim);
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        replacing.size("kv_heads", overrides.kv_heads, &mut self.kv_heads, MAX_HEADS)?;
        replacing.size("ffn_hidden", overrides.ffn_hidden, &mut self.ffn_hidden, MAX_INNER)?;
        match &mut self.experts {
            Some(experts) => {
                replacing.size("experts", overrides.experts, &mut experts.count, MAX_EXPERTS)?;
                experts.top_k = experts.top_k.min(experts.count);
            }
            None => replacing.only(&["layers", "hidden", "heads", "vocab", "kv_heads", "ffn_hidden"])?,
        }
        Ok(())
    }

    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        let [hidden_field, heads_field, positions_field] = self.dialect.names().fields;
        all_in_range(
            origin,
            &[
                ("layers", self.layers, MAX_LAYERS),
                (hidden_field, self.hidden, MAX_HIDDEN),
                (heads_field, self.heads, MAX_HEADS),
                ("kv_heads", self.kv_heads, self.heads),
                ("head_dim", self.head_dim.unwrap_or(1), MAX_HIDDEN),
                ("ffn_hidden", self.ffn_hidden, MAX_INNER),
                ("vocab_size", self.vocab, MAX_VOCAB),
                (positions_field, self.context, MAX_POSITIONS),
            ],
        )?;
        if self.head_dim.is_none() && !self.hidden.is_multiple_of(self.heads) {
            let problem = format!("is {}, which '{heads_field}' = {} does not divide", self.hidden, self.heads);
            let remedy = "choose a hidden size that is a multiple of the number of heads";
            return Err(field_error(origin, hidden_field, problem, remedy));
        }
        if let Some(experts) = &self.experts {
            all_in_range(origin, &[("experts", experts.count, MAX_EXPERTS), ("top_k", experts.top_k, experts.count)])?;
            check_experts(origin, self.layers, experts.count)?;
        }
        check_length(origin, sequence_length, positions_field, self.context)?;
        check_scores(origin, sequence_length, self.heads)
    }

    fn build(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.model(sequence_length).map_err(of_model(origin))
    }

    fn context(&self) -> u64 {
        self.context
    }
}

impl Decoder {
    /// Rotated features keep their share of the head, which had `old_head_dim`.
    fn rotate_the_same_share(&mut self, old_head_dim: u64) {
        let head_dim = self.head_dim();
        if let Positions::Rotary(rotary) = &mut self.positions {
            rotary.dims = (rotary.dims * head_dim / old_head_dim.max(1) / 2 * 2).max(2);
        }
    }
}
