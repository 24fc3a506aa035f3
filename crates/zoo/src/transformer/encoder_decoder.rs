//! T5 (Raffel et al. 2020): encoder and decoder without biases, root-mean-square norms, a relative bias that all layers of
//! a stack share, parameters named as in Hugging Face's `t5` checkpoints.

use cutplane_graph::{
    ActivationKind, Attention, AttentionInput, AttentionKernel, Dtype, Gate, InputRole, ModelError, ModelGraph,
    ModelGraphBuilder, OpKind, Overrides, PositionScheme, RmsNorm, ScaleShift, TensorType, ValueId,
};

use super::{Dense, Scope};
use crate::error::ZooError;
use crate::limits::{
    MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, Replacing, all_in_range, check_length,
    check_scores, field_error, of_model,
};
use crate::recipe::Recipe;

/// An encoder-decoder. Start from [`EncoderDecoder::t5_small`] and replace fields.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderDecoder {
    /// Name of the model.
    pub name: String,
    /// Blocks of the encoder.
    pub layers: u64,
    /// Blocks of the decoder.
    pub decoder_layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Width of a head; `heads head_dim` need not be `hidden`.
    pub head_dim: u64,
    /// Width of the feed-forward layers.
    pub ffn_hidden: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Non-linearity of the feed-forward layers.
    pub activation: ActivationKind,
    /// Whether the feed-forward layers are gated (version 1.1).
    pub gated: bool,
    /// Buckets of distances.
    pub buckets: u64,
    /// Distances from here on share the last bucket.
    pub max_distance: u64,
    /// Added to the mean square by the norms.
    pub norm_eps: f64,
    /// Whether the head shares the word embedding; then its input is scaled by `1 / sqrt(hidden)`.
    pub tied: bool,
    /// Tokens of the decoder; `None` for as many as the encoder has.
    pub target_length: Option<u64>,
    /// How scores are computed.
    pub kernel: AttentionKernel,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

/// One of the two stacks.
struct Stack<'a> {
    model: &'a EncoderDecoder,
    name: &'static str,
    causal: bool,
}

impl EncoderDecoder {
    /// T5 small: 60 M parameters.
    pub fn t5_small() -> Self {
        Self {
            name: "t5".to_owned(),
            layers: 6,
            decoder_layers: 6,
            hidden: 512,
            heads: 8,
            head_dim: 64,
            ffn_hidden: 2048,
            vocab: 32_128,
            activation: ActivationKind::Relu,
            gated: false,
            buckets: 32,
            max_distance: 128,
            norm_eps: 1e-6,
            tied: true,
            target_length: None,
            kernel: AttentionKernel::Materialised,
            init_std: 0.05,
        }
    }

    /// The graph for samples of `sequence_length` tokens: `tokens [s]`, `decoder_tokens [t]` and `targets [t]` to the mean
    /// cross-entropy.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.check(&self.name, sequence_length)?;
        self.build(&self.name, sequence_length)
    }

    fn model(&self, s: u64) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.name.clone());
        let t = self.target_length.unwrap_or(s);
        let ids = |length| TensorType::batched(&[length], Dtype::I32);
        let tokens = b.input("tokens", InputRole::Tokens, ids(s))?;
        let decoder_tokens = b.input("decoder_tokens", InputRole::DecoderTokens, ids(t))?;
        let targets = b.input("targets", InputRole::NextTokens, ids(t))?;
        let x = self.embed(&mut b, "encoder.embed_tokens", tokens)?;
        let encoder = Stack { model: self, name: "encoder", causal: false };
        let memory = encoder.run(&mut b, x, None, 0)?;
        let x = self.embed(&mut b, "decoder.embed_tokens", decoder_tokens)?;
        let decoder = Stack { model: self, name: "decoder", causal: true };
        let mut x = decoder.run(&mut b, x, Some(memory), self.layers)?;
        if self.tied {
            let scale = OpKind::ScaleShift(ScaleShift { scale: (self.hidden as f64).powf(-0.5), shift: 0.0 });
            x = b.op("lm_head.scale", scale, &[x])?;
        }
        let weight = if self.tied { "shared.weight" } else { "lm_head.weight" };
        let head = self.dense().op(self.hidden, self.vocab, false);
        let logits = b.op_with_params("lm_head", head, &[x], &[weight])?;
        let loss = b.op("loss", OpKind::CrossEntropy { classes: self.vocab, counted: t }, &[logits, targets])?;
        b.loss(loss).build()
    }

    const fn dense(&self) -> Dense {
        Dense::torch(self.init_std)
    }

    const fn norm(&self) -> OpKind {
        OpKind::RmsNorm(RmsNorm { dim: self.hidden, eps: self.norm_eps, unit_offset: false })
    }

    fn embed(&self, b: &mut ModelGraphBuilder, name: &str, ids: ValueId) -> Result<ValueId, ModelError> {
        let kind = OpKind::Embedding { vocab: self.vocab, dim: self.hidden, init_std: 1.0 };
        b.op_with_params(name, kind, &[ids], &["shared.weight"])
    }
}

impl Stack<'_> {
    /// All blocks and the last norm; layers are numbered from `first_layer` on.
    fn run(
        &self,
        b: &mut ModelGraphBuilder,
        mut x: ValueId,
        memory: Option<ValueId>,
        first_layer: u64,
    ) -> Result<ValueId, ModelError> {
        let layers = if self.causal { self.model.decoder_layers } else { self.model.layers };
        for layer in 0..layers {
            b.layer(Some((first_layer + layer) as u32));
            let mut scope = Scope { b, path: format!("{}.block.{layer}.layer", self.name) };
            x = self.self_attention(&mut scope, x)?;
            if let Some(memory) = memory {
                x = self.cross_attention(&mut scope, x, memory)?;
            }
            x = self.feed_forward(&mut scope, x, 1 + usize::from(memory.is_some()))?;
        }
        b.layer(None);
        b.op(&format!("{}.final_layer_norm", self.name), self.model.norm(), &[x])
    }

    /// Scores are not scaled: the initial weights are (Raffel et al. 2020's code).
    fn attention(&self, causal: bool, position: PositionScheme) -> OpKind {
        let Self { model, .. } = self;
        let plain = Attention::new(model.heads, model.head_dim, causal, AttentionInput::Separate);
        OpKind::Attention(Attention { position, scale: Some(1.0), kernel: model.kernel, ..plain })
    }

    fn self_attention(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let Self { model, name, causal } = self;
        let position = PositionScheme::RelativeBias { buckets: model.buckets, max_distance: model.max_distance };
        let bias = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let normed = scope.op("0.layer_norm", model.norm(), &[x])?;
        self.attend(scope, "0.SelfAttention", [x, normed, normed], self.attention(*causal, position), &[&bias])
    }

    fn cross_attention(&self, scope: &mut Scope<'_>, x: ValueId, memory: ValueId) -> Result<ValueId, ModelError> {
        let normed = scope.op("1.layer_norm", self.model.norm(), &[x])?;
        let kind = self.attention(false, PositionScheme::None);
        self.attend(scope, "1.EncDecAttention", [x, normed, memory], kind, &[])
    }

    /// Projections, attention of `normed` over `keys`, output projection, sum with the stream.
    fn attend(
        &self,
        scope: &mut Scope<'_>,
        module: &str,
        [stream, normed, keys]: [ValueId; 3],
        kind: OpKind,
        params: &[&str],
    ) -> Result<ValueId, ModelError> {
        let (hidden, width, dense) = (self.model.hidden, self.model.heads * self.model.head_dim, self.model.dense());
        let mut project =
            |part: &str, from| scope.op(&format!("{module}.{part}"), dense.op(hidden, width, false), &[from]);
        let (q, k, v) = (project("q", normed)?, project("k", keys)?, project("v", keys)?);
        let name = format!("{}.{module}", scope.path);
        let mixed = scope.b.op_with_params(&name, kind, &[q, k, v], params)?;
        let output = scope.op(&format!("{module}.o"), dense.op(width, hidden, false), &[mixed])?;
        scope.op(&format!("{module}.residual"), OpKind::Add, &[output, stream])
    }

    fn feed_forward(&self, scope: &mut Scope<'_>, x: ValueId, part: usize) -> Result<ValueId, ModelError> {
        let Self { model, .. } = self;
        let (function, dense) = (model.activation, model.dense());
        let at = format!("{part}.DenseReluDense");
        let wide = dense.op(model.hidden, model.ffn_hidden, false);
        let normed = scope.op(&format!("{part}.layer_norm"), model.norm(), &[x])?;
        let active = if model.gated {
            let gate = scope.op(&format!("{at}.wi_0"), wide.clone(), &[normed])?;
            let up = scope.op(&format!("{at}.wi_1"), wide, &[normed])?;
            scope.op(&format!("{at}.act"), OpKind::Gate(Gate { function, packed: false }), &[gate, up])?
        } else {
            let up = scope.op(&format!("{at}.wi"), wide, &[normed])?;
            scope.op(&format!("{at}.act"), OpKind::Activation { function }, &[up])?
        };
        let narrow = scope.op(&format!("{at}.wo"), dense.op(model.ffn_hidden, model.hidden, false), &[active])?;
        scope.op(&format!("{part}.residual"), OpKind::Add, &[narrow, x])
    }
}

impl Recipe for EncoderDecoder {
    /// Both stacks get the number of layers; the feed-forward layers keep their ratio to the hidden size.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "heads", "vocab", "ffn_hidden"])?;
        let (old_hidden, old_width) = (self.hidden, self.heads.saturating_mul(self.head_dim));
        let wider = replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)?;
        let more_heads = replacing.size("heads", overrides.heads, &mut self.heads, MAX_HEADS)?;
        if wider {
            self.ffn_hidden = (self.ffn_hidden * self.hidden / old_hidden).clamp(1, MAX_INNER);
        }
        if wider || more_heads {
            let width = u128::from(old_width) * u128::from(self.hidden) / u128::from(old_hidden);
            self.head_dim = (width / u128::from(self.heads)).clamp(1, u128::from(MAX_HIDDEN)) as u64;
        }
        replacing.size("layers", overrides.layers, &mut self.layers, MAX_LAYERS)?;
        replacing.size("layers", overrides.layers, &mut self.decoder_layers, MAX_LAYERS)?;
        replacing.size("vocab", overrides.vocab, &mut self.vocab, MAX_VOCAB)?;
        replacing.size("ffn_hidden", overrides.ffn_hidden, &mut self.ffn_hidden, MAX_INNER)?;
        Ok(())
    }

    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("num_layers", self.layers, MAX_LAYERS),
                ("num_decoder_layers", self.decoder_layers, MAX_LAYERS),
                ("d_model", self.hidden, MAX_HIDDEN),
                ("num_heads", self.heads, MAX_HEADS),
                ("d_kv", self.head_dim, MAX_HIDDEN),
                ("d_ff", self.ffn_hidden, MAX_INNER),
                ("vocab_size", self.vocab, MAX_VOCAB),
            ],
        )?;
        if self.buckets < 4 || self.max_distance <= self.buckets / 2 || self.buckets > MAX_POSITIONS {
            let problem = format!("is {}, and the largest distance {}", self.buckets, self.max_distance);
            let remedy = "choose at least 4 buckets, and a distance above half of them";
            return Err(field_error(origin, "relative_attention_num_buckets", problem, remedy));
        }
        let longest = sequence_length.max(self.target_length.unwrap_or(1));
        check_length(origin, sequence_length, "longest sequence", MAX_POSITIONS)?;
        check_length(origin, longest, "longest sequence", MAX_POSITIONS)?;
        check_scores(origin, longest, self.heads)
    }

    fn build(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.model(sequence_length).map_err(of_model(origin))
    }

    /// Positions are relative; 512 tokens is what T5 was trained with.
    fn context(&self) -> u64 {
        512
    }
}
