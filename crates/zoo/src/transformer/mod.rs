//! Transformers of any size: [`Decoder`] (GPT, Llama, Mixtral, Falcon, ...), [`Encoder`] (BERT, RoBERTa) and
//! [`EncoderDecoder`] (T5), each with every hyper-parameter as a field, and [`TransformerXl`].
//!
//! ```
//! use cutplane_zoo::transformer::{Decoder, Dialect};
//! let gpt = Decoder { layers: 2, hidden: 64, heads: 4, ffn_hidden: 256, vocab: 100, ..Decoder::gpt2() };
//! assert_eq!(gpt.graph(32)?.layer_count(), 2);
//! let llama = Decoder { layers: 2, kv_heads: 8, ..Decoder::llama() };
//! assert_eq!(llama.dialect, Dialect::Llama);
//! # Ok::<(), cutplane_zoo::ZooError>(())
//! ```

mod attention;
mod decoder;
mod dialect;
mod encoder;
mod encoder_decoder;
mod feed_forward;
mod presets;
mod transformer_xl;

pub use decoder::{BlockForm, Decoder, Positions};
pub use dialect::Dialect;
pub use encoder::{Encoder, EncoderDialect, EncoderHead};
pub use encoder_decoder::EncoderDecoder;
pub use feed_forward::Experts;
pub use transformer_xl::TransformerXl;

use cutplane_graph::{ModelError, ModelGraphBuilder, OpKind, RmsNorm, ValueId, WeightLayout};

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Layer norm with weight and bias.
    Layer {
        /// Added to the variance.
        eps: f64,
    },
    /// Layer norm with a weight only (MPT).
    LayerWithoutBias {
        /// Added to the variance.
        eps: f64,
    },
    /// Root-mean-square norm (Llama, T5).
    Rms {
        /// Added to the mean square.
        eps: f64,
    },
    /// Root-mean-square norm times one plus the weight (Gemma).
    RmsUnitOffset {
        /// Added to the mean square.
        eps: f64,
    },
}

impl Norm {
    /// The operator over the last axis of width `dim`.
    pub fn op(self, dim: u64) -> OpKind {
        match self {
            Self::Layer { eps } => OpKind::layer_norm(dim, eps),
            Self::LayerWithoutBias { eps } => OpKind::LayerNorm { dim, eps, bias: false },
            Self::Rms { eps } => OpKind::RmsNorm(RmsNorm { dim, eps, unit_offset: false }),
            Self::RmsUnitOffset { eps } => OpKind::RmsNorm(RmsNorm { dim, eps, unit_offset: true }),
        }
    }
}

/// The linear layers of a stack: how their weights lie and start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dense {
    pub(crate) layout: WeightLayout,
    pub(crate) init_std: f64,
}

impl Dense {
    /// `torch.nn.Linear`.
    pub(crate) const fn torch(init_std: f64) -> Self {
        Self { layout: WeightLayout::OutIn, init_std }
    }

    pub(crate) const fn op(self, inputs: u64, outputs: u64, bias: bool) -> OpKind {
        OpKind::Linear { inputs, outputs, bias, layout: self.layout, init_std: self.init_std }
    }
}

/// Operators below one module, by its path.
pub(crate) struct Scope<'b> {
    pub(crate) b: &'b mut ModelGraphBuilder,
    pub(crate) path: String,
}

impl Scope<'_> {
    /// An operator named `path.name`.
    pub(crate) fn op(&mut self, name: &str, kind: OpKind, inputs: &[ValueId]) -> Result<ValueId, ModelError> {
        self.b.op(&format!("{}.{name}", self.path), kind, inputs)
    }
}
