//! Transformer-XL (Dai et al. 2019): a post-norm decoder that also attends to the activations of the segment before, with
//! relative positions. The head is a plain softmax over the vocabulary, not the adaptive one of the paper.

use cutplane_graph::{
    ActivationKind, Attention, AttentionInput, Concat, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder,
    OpKind, Overrides, PositionScheme, TensorType, ValueId,
};

use super::{Dense, Scope};
use crate::error::ZooError;
use crate::limits::{
    MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, Replacing, all_in_range, check_length,
    check_scores, of_model,
};
use crate::recipe::Recipe;

/// A Transformer-XL.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerXl {
    /// Name of the model.
    pub name: String,
    /// Blocks.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Width of the feed-forward layers.
    pub ffn_hidden: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Tokens of the segment before that are remembered; 0 for none.
    pub memory_length: u64,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

impl TransformerXl {
    /// The base model for WikiText-103.
    pub fn base() -> Self {
        Self {
            name: "transformer-xl-base".to_owned(),
            layers: 16,
            hidden: 512,
            heads: 8,
            head_dim: 64,
            ffn_hidden: 2048,
            vocab: 267_735,
            memory_length: 192,
            init_std: 0.02,
        }
    }

    /// The large model for WikiText-103.
    pub fn large() -> Self {
        Self {
            name: "transformer-xl-large".to_owned(),
            layers: 18,
            hidden: 1024,
            heads: 16,
            ffn_hidden: 4096,
            memory_length: 384,
            ..Self::base()
        }
    }

    /// The graph for samples of `sequence_length` tokens: `tokens [s]`, `targets [s]` and, with a memory of `m` tokens,
    /// `memory.{layer} [m, hidden]` to the mean cross-entropy.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, sequence_length)?;
        self.build(&self.name, sequence_length)
    }

    const fn dense(&self, inputs: u64, outputs: u64, bias: bool) -> OpKind {
        Dense::torch(self.init_std).op(inputs, outputs, bias)
    }

    fn model(&self, s: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let ids = TensorType::batched(&[s], Dtype::I32);
        let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
        let targets = b.input("targets", InputRole::NextTokens, ids)?;
        let kind = OpKind::Embedding { vocab: self.vocab, dim: self.hidden, init_std: self.init_std };
        let mut x = b.op("word_emb", kind, &[tokens])?;
        for layer in 0..self.layers {
            b.layer(Some(layer as u32));
            let memory = self.memory(&mut b, layer)?;
            x = self.block(&mut Scope { b: &mut b, path: format!("layers.{layer}") }, x, memory)?;
        }
        b.layer(None);
        let head = self.dense(self.hidden, self.vocab, true);
        let logits = b.op_with_params("crit", head, &[x], &["word_emb.weight", "crit.bias"])?;
        let loss = b.op("loss", OpKind::CrossEntropy { classes: self.vocab, counted: s }, &[logits, targets])?;
        b.loss(loss).build()
    }

    fn memory(&self, b: &mut ModelGraphBuilder, layer: u64) -> Result<Option<ValueId>, ModelError> {
        if self.memory_length == 0 {
            return Ok(None);
        }
        let ty = TensorType::batched(&[self.memory_length, self.hidden], Dtype::F32);
        b.input(&format!("memory.{layer}"), InputRole::Memory, ty).map(Some)
    }

    /// Queries of the segment, keys and values of memory and segment.
    fn block(&self, scope: &mut Scope<'_>, x: ValueId, memory: Option<ValueId>) -> Result<ValueId, ModelError> {
        let (hidden, width) = (self.hidden, self.heads * self.head_dim);
        let seen = match memory {
            Some(memory) => scope.op("attn.cat", OpKind::Concat(Concat { axis: 0, values: 2 }), &[memory, x])?,
            None => x,
        };
        let mut project =
            |part: &str, from| scope.op(&format!("attn.{part}_net"), self.dense(hidden, width, false), &[from]);
        let (q, k, v) = (project("q", x)?, project("k", seen)?, project("v", seen)?);
        let attention = Attention {
            position: PositionScheme::RelativeProjection { hidden },
            ..Attention::new(self.heads, self.head_dim, true, AttentionInput::Separate)
        };
        let mixed = scope.op("attn", OpKind::Attention(attention), &[q, k, v])?;
        let output = scope.op("attn.o_net", self.dense(width, hidden, false), &[mixed])?;
        let sum = scope.op("attn.residual", OpKind::Add, &[output, x])?;
        let x = scope.op("attn.layer_norm", OpKind::layer_norm(hidden, 1e-5), &[sum])?;
        let wide = scope.op("ff.CoreNet.0", self.dense(hidden, self.ffn_hidden, true), &[x])?;
        let active = scope.op("ff.CoreNet.1", OpKind::Activation { function: ActivationKind::Relu }, &[wide])?;
        let narrow = scope.op("ff.CoreNet.3", self.dense(self.ffn_hidden, hidden, true), &[active])?;
        let sum = scope.op("ff.residual", OpKind::Add, &[narrow, x])?;
        scope.op("ff.layer_norm", OpKind::layer_norm(hidden, 1e-5), &[sum])
    }
}

impl Recipe for TransformerXl {
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "heads", "vocab", "ffn_hidden"])?;
        let old = self.hidden;
        let wider = replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)?;
        let more_heads = replacing.size("heads", overrides.heads, &mut self.heads, MAX_HEADS)?;
        if wider {
            self.ffn_hidden = (self.ffn_hidden * self.hidden / old).clamp(1, MAX_INNER);
        }
        if wider || more_heads {
            self.head_dim = (self.hidden / self.heads).max(1);
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        replacing.size("ffn_hidden", overrides.ffn_hidden, &mut self.ffn_hidden, MAX_INNER)?;
        Ok(())
    }

    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("layers", self.layers, MAX_LAYERS),
                ("hidden", self.hidden, MAX_HIDDEN),
                ("heads", self.heads, MAX_HEADS),
                ("head_dim", self.head_dim, MAX_HIDDEN),
                ("ffn_hidden", self.ffn_hidden, MAX_INNER),
                ("vocab", self.vocab, MAX_VOCAB),
                ("memory_length", self.memory_length.max(1), MAX_POSITIONS),
            ],
        )?;
        check_length(origin, sequence_length, "longest sequence", MAX_POSITIONS)?;
        check_scores(origin, sequence_length + self.memory_length, self.heads)
    }

    fn build(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.model(sequence_length).map_err(of_model(origin))
    }

    fn context(&self) -> u64 {
        192
    }
}
