//! Where a model comes from, as plain data: a plan carries it, and the zoo rebuilds the same graph from it anywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A reproducible description of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelSource {
    /// A model of the built-in zoo.
    BuiltIn {
        /// Its name, as `cutplane models` lists it.
        name: String,
        /// Changes to the named sizes.
        #[serde(default, skip_serializing_if = "Overrides::is_empty")]
        overrides: Overrides,
        /// Tokens a sample.
        sequence_length: u64,
    },
    /// A Hugging Face `config.json`, kept whole.
    HuggingFace {
        /// The parsed file.
        config: serde_json::Value,
        /// Changes to the sizes in the file.
        #[serde(default, skip_serializing_if = "Overrides::is_empty")]
        overrides: Overrides,
        /// Tokens a sample.
        sequence_length: u64,
    },
    /// An ONNX file, which is read again wherever the graph is built.
    Onnx {
        /// Where it is.
        path: String,
        /// Lengths of single axes, by the names that the file gives them or as `input.axis`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        dims: BTreeMap<String, u64>,
        /// Whether a cross-entropy of its first output is added, so that it can be trained.
        loss: bool,
        /// Tokens a sample.
        sequence_length: u64,
    },
}

impl ModelSource {
    /// Tokens a sample.
    pub fn sequence_length(&self) -> u64 {
        match self {
            Self::BuiltIn { sequence_length, .. }
            | Self::HuggingFace { sequence_length, .. }
            | Self::Onnx { sequence_length, .. } => *sequence_length,
        }
    }
}

/// Sizes that replace a model's own: how a small twin of a large model is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Number of repeated layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u64>,
    /// Width of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<u64>,
    /// Attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<u64>,
    /// Vocabulary size; of an image model the number of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab: Option<u64>,
    /// Heads of keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u64>,
    /// Width of the feed-forward layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffn_hidden: Option<u64>,
    /// Experts of a mixture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<u64>,
    /// Height and width of an image, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u64>,
}

impl Overrides {
    /// True when nothing is replaced.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
