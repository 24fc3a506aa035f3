//! A transformer by its sizes, and the trainable numbers that a rank holds of it.

use serde::Serialize;

use super::keeping::Keeping;
use crate::estimate::Layout;

/// Which kind of transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Predicts the next token (GPT, Llama).
    Decoder,
    /// Reads a sequence at once; with BERT's heads: a transform before the word table, a pooler and a pair classifier.
    Encoder,
    /// Both with cross-attention (T5); as many layers in each half.
    EncoderDecoder {
        /// Tokens of a target.
        target_length: u64,
    },
}

/// A mixture of experts in place of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ExpertShape {
    /// Experts of a layer.
    pub experts: u64,
    /// Experts that see a token.
    pub top_k: u64,
    /// Width of an expert.
    pub ffn_hidden: u64,
    /// Width of the experts that see every token, all together.
    pub shared_ffn_hidden: u64,
    /// Ranks that share one expert, when other than the layout's `tp`.
    pub tensor_parallel: Option<u64>,
}

/// A transformer by its sizes.
#[expect(clippy::struct_excessive_bools, reason = "each is a hyper-parameter of its own")]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransformerShape {
    /// Which kind.
    pub form: Form,
    /// Repeated layers; of an encoder-decoder, those of each half.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Width of the feed-forward layer.
    pub ffn_hidden: u64,
    /// Vocabulary, before padding.
    pub vocab: u64,
    /// Tokens of a sample.
    pub sequence_length: u64,
    /// Whether the feed-forward layer is gated: three matrices instead of two.
    pub gated: bool,
    /// Whether linear layers have biases.
    pub biases: bool,
    /// Whether norms have a bias beside their weight.
    pub norm_bias: bool,
    /// Whether positions have a learned table.
    pub learned_positions: bool,
    /// Whether the head shares the word embedding.
    pub tied: bool,
    /// Whether queries and keys have norms of their own, over the width of a head.
    pub query_norms: bool,
    /// Experts, where there are any.
    pub experts: Option<ExpertShape>,
    /// Share of the numbers that are trained: 1, or nearly 0 where small adapters are (Hu et al. 2021). The others have
    /// weights, but neither gradients nor optimizer state.
    pub trained: f64,
}

impl TransformerShape {
    /// A GPT of these sizes: heads of equal width, a feed-forward layer four times as wide, biases, learned positions, one
    /// table of words.
    pub const fn gpt(layers: u64, hidden: u64, heads: u64, vocab: u64, sequence_length: u64) -> Self {
        Self {
            form: Form::Decoder,
            layers,
            hidden,
            heads,
            kv_heads: heads,
            head_dim: match hidden.checked_div(heads) {
                Some(width) => width,
                None => 0,
            },
            ffn_hidden: 4 * hidden,
            vocab,
            sequence_length,
            gated: false,
            biases: true,
            norm_bias: true,
            learned_positions: true,
            tied: true,
            query_norms: false,
            experts: None,
            trained: 1.0,
        }
    }

    /// Width of all queries.
    pub(super) fn query_width(&self) -> f64 {
        self.heads as f64 * self.head_dim as f64
    }

    /// Width of all keys, and of all values.
    pub(super) fn key_width(&self) -> f64 {
        self.kv_heads as f64 * self.head_dim as f64
    }

    /// Width of what the first feed-forward matrices give, over the feed-forward width.
    pub(super) const fn gates(&self) -> f64 {
        if self.gated { 2.0 } else { 1.0 }
    }
}

/// Trainable numbers of a part of the model on one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    /// Those that data-parallel ranks hold equal copies of.
    pub(super) dense: f64,
    /// Those of experts, which fewer ranks hold equal copies of.
    pub(super) experts: f64,
}

/// Counts the trainable numbers on a rank.
pub(super) struct Counting<'a> {
    pub(super) shape: &'a TransformerShape,
    pub(super) layout: &'a Layout,
    pub(super) keeping: &'a Keeping,
}

impl Counting<'_> {
    fn bias(&self, width: f64) -> f64 {
        if self.shape.biases { width } else { 0.0 }
    }

    fn norm(&self) -> f64 {
        self.shape.hidden as f64 * if self.shape.norm_bias { 2.0 } else { 1.0 }
    }

    /// Ranks that share one expert.
    pub(super) fn expert_tensor_parallel(&self) -> f64 {
        let own = self.shape.experts.and_then(|experts| experts.tensor_parallel);
        own.unwrap_or(self.layout.expert_tp()).max(1) as f64
    }

    /// One attention with its norm: queries, keys and values by columns, the output by rows.
    fn attention(&self) -> f64 {
        let (hidden, tp) = (self.shape.hidden as f64, self.layout.tp as f64);
        let columns = self.shape.query_width() + 2.0 * self.shape.key_width();
        let weights = hidden * (columns + self.shape.query_width()) / tp;
        weights + self.bias(columns / tp + hidden) + self.norm()
    }

    /// A feed-forward layer of this width over `ranks` ranks, without its norm.
    fn feed_forward(&self, width: f64, ranks: f64) -> f64 {
        let (hidden, gates) = (self.shape.hidden as f64, self.shape.gates());
        hidden * width * (gates + 1.0) / ranks + self.bias(gates * width / ranks + hidden)
    }

    /// A repeated layer; `crossed` with a second attention, to the encoder.
    pub(super) fn layer(&self, crossed: bool) -> Numbers {
        let (hidden, tp) = (self.shape.hidden as f64, self.layout.tp as f64);
        let attention = self.attention() * if crossed { 2.0 } else { 1.0 };
        let Some(experts) = self.shape.experts else {
            let feed_forward = self.feed_forward(self.shape.ffn_hidden as f64, tp);
            return Numbers { dense: attention + self.norm() + feed_forward, experts: 0.0 };
        };
        let shared = match experts.shared_ffn_hidden {
            0 => 0.0,
            width => self.feed_forward(width as f64, tp),
        };
        let router = hidden * experts.experts as f64;
        let own = experts.experts as f64 / self.layout.ep as f64;
        Numbers {
            dense: attention + self.norm() + router + shared,
            experts: own * self.feed_forward(experts.ffn_hidden as f64, self.expert_tensor_parallel()),
        }
    }

    /// The table of words.
    pub(super) fn table(&self) -> f64 {
        let padded = self.keeping.padded_vocabulary(self.shape.vocab, self.layout.tp);
        padded as f64 * self.shape.hidden as f64 / self.layout.tp as f64
    }

    /// What stands before the layers: words, positions, BERT's kinds of segments.
    pub(super) fn before(&self) -> f64 {
        let hidden = self.shape.hidden as f64;
        let positions = if self.shape.learned_positions { self.shape.sequence_length as f64 * hidden } else { 0.0 };
        let segments = if self.shape.form == Form::Encoder { 2.0 * hidden } else { 0.0 };
        self.table() + positions + segments
    }

    /// What stands behind the layers: a norm, the head and its bias.
    pub(super) fn behind(&self) -> f64 {
        let hidden = self.shape.hidden as f64;
        let words = self.keeping.padded_vocabulary(self.shape.vocab, self.layout.tp) as f64 / self.layout.tp as f64;
        let head = if self.shape.tied { 0.0 } else { words * hidden };
        match self.shape.form {
            Form::Decoder => self.norm() + head,
            // The transform and its norm; the pooler; the classifier of two classes.
            Form::Encoder => self.norm() + head + words + 2.0 * hidden * hidden + 6.0 * hidden,
            Form::EncoderDecoder { .. } => 2.0 * self.norm() + head + words,
        }
    }
}
