//! Published shapes of transformers: `data/models.csv`, read once.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::model::Positions;

/// Which kind of transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransformerKind {
    /// Predicts the next token.
    Decoder,
    /// Reads a sequence at once.
    Encoder,
    /// Both, with cross-attention.
    EncoderDecoder,
}

/// A published shape.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Published {
    names: String,
    pub(super) kind: TransformerKind,
    pub(super) layers: u64,
    pub(super) hidden: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: Option<u64>,
    pub(super) ffn_hidden: u64,
    pub(super) vocab: u64,
    gated: Option<bool>,
    pub(super) positions: Positions,
    tied: Option<bool>,
    pub(super) experts: Option<u64>,
    pub(super) top_k: Option<u64>,
    pub(super) expert_ffn: Option<u64>,
    pub(super) source: String,
}

impl Published {
    pub(super) fn is_gated(&self) -> bool {
        self.gated.unwrap_or(false)
    }

    pub(super) fn is_tied(&self) -> bool {
        self.tied.unwrap_or(false)
    }
}

static PUBLISHED: LazyLock<Vec<Published>> = LazyLock::new(|| {
    let text = include_str!("../../data/models.csv").as_bytes();
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text);
    reader.deserialize().collect::<Result<_, _>>().expect("a test reads data/models.csv")
});

/// Lower case, letters, digits and points.
pub(super) fn canonical(model: &str) -> String {
    model.to_ascii_lowercase().chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.').collect()
}

/// The published shape whose name a model's name contains; the longest wins.
pub(super) fn published(model: &str) -> Option<&'static Published> {
    let model = canonical(model);
    let length = |shape: &Published| shape.names.split(' ').filter(|name| contains(&model, name)).map(str::len).max();
    PUBLISHED
        .iter()
        .filter_map(|shape| Some((length(shape)?, shape)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, shape)| shape)
}

/// Whether a name contains another that no digit goes on at either end: `gpt320b` is not in `gpt320b5`, `235b` not in
/// `1235b`.
fn contains(model: &str, name: &str) -> bool {
    model.match_indices(name).any(|(at, found)| {
        let digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit() || letter == '.');
        let starts = !(digit(model[..at].chars().next_back()) && digit(name.chars().next()));
        let goes_on = model[at + found.len()..].chars().next();
        starts && !(digit(goes_on) && digit(name.chars().next_back()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_consistent_and_names_its_source() {
        for shape in PUBLISHED.iter() {
            assert!(shape.heads.is_multiple_of(shape.kv_heads), "{}", shape.names);
            assert!(shape.head_dim.is_some() || shape.hidden.is_multiple_of(shape.heads), "{}", shape.names);
            assert_eq!(shape.experts.is_some(), shape.top_k.is_some() && shape.expert_ffn.is_some(), "{}", shape.names);
            assert!(!shape.source.is_empty(), "{}", shape.names);
            assert!(shape.names.split(' ').all(|name| name == canonical(name)), "{}", shape.names);
        }
    }

    #[test]
    fn names_are_found_in_any_spelling_and_not_in_longer_numbers() {
        let layers = |model| published(model).map(|shape| shape.layers);
        assert_eq!(layers("Llama-2-7b-hf"), Some(32));
        assert_eq!(layers("LLAMA3_70B"), Some(80));
        assert_eq!(layers("meta-llama/Meta-Llama-3.1-405B"), Some(126));
        assert_eq!(layers("GPT-3 20B"), Some(44));
        assert_eq!(layers("Qwen2.5-7B-Instruct"), Some(28));
        assert_eq!(layers("BERT-large (BioBERT-base)"), Some(24));
        assert_eq!(layers("Mixtral 8\u{d7}22B"), Some(56));
        assert_eq!(layers("Qwen3_235B_a22B"), Some(94));
        assert_eq!(layers("GPT-3 1755B"), None);
        assert_eq!(layers("ResNet-50"), None);
    }
}
