//! Transformers as operator graphs: sizes and limits that both families share.

mod bert;
mod gpt;

use cutplane_graph::{ActivationKind, ModelGraph, Overrides};

use crate::error::ZooError;

/// Most repeated layers.
pub(crate) const MAX_LAYERS: u64 = 10_000;
/// Widest residual stream.
pub(crate) const MAX_HIDDEN: u64 = 1 << 20;
/// Most attention heads.
pub(crate) const MAX_HEADS: u64 = 1 << 16;
/// Widest feed-forward layer.
pub(crate) const MAX_INNER: u64 = 1 << 23;
/// Largest vocabulary.
pub(crate) const MAX_VOCAB: u64 = 1 << 27;
/// Longest sequence.
pub(crate) const MAX_POSITIONS: u64 = 1 << 24;
/// Most attention scores, over all heads, of one sample in one layer.
const MAX_SCORES: u64 = 1 << 48;

/// Sizes of a transformer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) layers: u64,
    pub(crate) hidden: u64,
    pub(crate) heads: u64,
    /// Width of the feed-forward layer.
    pub(crate) inner: u64,
    pub(crate) vocab: u64,
    /// Rows of the position table.
    pub(crate) positions: u64,
}

/// What follows the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The head that the family is pre-trained with, and its loss.
    Pretraining,
    /// BERT's pooler; no loss.
    Pooler,
}

/// Which family, with what only that family has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Gpt,
    Bert { token_types: u64, head: Head },
}

/// Everything that decides the graph of a transformer, except the sequence length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transformer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) sizes: Sizes,
    pub(crate) activation: ActivationKind,
    pub(crate) norm_eps: f64,
    pub(crate) init_std: f64,
    /// Whether the head shares the word embedding.
    pub(crate) tied: bool,
}

impl Transformer {
    /// The model with some sizes replaced; the feed-forward layer keeps its ratio to the hidden size.
    pub(crate) fn overridden(mut self, origin: &str, overrides: &Overrides) -> Result<Self, ZooError> {
        let sizes = &mut self.sizes;
        let replace = |field: &str, value: Option<u64>, old: u64, limit: u64| match value {
            Some(new) => in_range(origin, &format!("overrides.{field}"), new, limit),
            None => Ok(old),
        };
        let hidden = replace("hidden", overrides.hidden, sizes.hidden, MAX_HIDDEN)?;
        if hidden != sizes.hidden {
            sizes.inner = (sizes.inner * hidden / sizes.hidden).clamp(1, MAX_INNER);
        }
        sizes.hidden = hidden;
        sizes.layers = replace("layers", overrides.layers, sizes.layers, MAX_LAYERS)?;
        sizes.heads = replace("heads", overrides.heads, sizes.heads, MAX_HEADS)?;
        sizes.vocab = replace("vocab", overrides.vocab, sizes.vocab, MAX_VOCAB)?;
        Ok(self)
    }

    /// Checks what no single field shows.
    pub(crate) fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        let Sizes { hidden, heads, positions, .. } = self.sizes;
        let (hidden_field, heads_field, positions_field) = self.field_names();
        if hidden % heads != 0 {
            let problem = format!("is {hidden}, which '{heads_field}' = {heads} does not divide");
            let remedy = "choose a hidden size that is a multiple of the number of heads".to_owned();
            return Err(ZooError::Field { origin: origin.to_owned(), field: hidden_field.to_owned(), problem, remedy });
        }
        if !(1..=positions).contains(&sequence_length) {
            let problem = format!("is {sequence_length}, but '{positions_field}' is {positions}");
            return refuse_length(origin, problem, format!("choose 1 to {positions} tokens"));
        }
        let scores = sequence_length.saturating_mul(sequence_length).saturating_mul(heads);
        if scores > MAX_SCORES {
            let problem = format!("is {sequence_length}: {scores} attention scores a sample and layer");
            return refuse_length(origin, problem, "choose a shorter sequence".to_owned());
        }
        Ok(())
    }

    fn field_names(&self) -> (&'static str, &'static str, &'static str) {
        match self.kind {
            Kind::Gpt => ("n_embd", "n_head", "n_positions"),
            Kind::Bert { .. } => ("hidden_size", "num_attention_heads", "max_position_embeddings"),
        }
    }

    /// The graph for samples of `sequence_length` tokens.
    pub(crate) fn graph(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError> {
        self.check(origin, sequence_length)?;
        let graph = match self.kind {
            Kind::Gpt => gpt::graph(self, sequence_length),
            Kind::Bert { token_types, head } => bert::graph(self, token_types, head, sequence_length),
        };
        graph.map_err(|source| ZooError::Model { origin: origin.to_owned(), source })
    }

    fn head_dim(&self) -> u64 {
        self.sizes.hidden / self.sizes.heads
    }
}

fn refuse_length(origin: &str, problem: String, remedy: String) -> Result<(), ZooError> {
    Err(ZooError::Field { origin: origin.to_owned(), field: "sequence_length".to_owned(), problem, remedy })
}

/// `value` when it is 1 to `limit`.
pub(crate) fn in_range(origin: &str, field: &str, value: u64, limit: u64) -> Result<u64, ZooError> {
    if (1..=limit).contains(&value) {
        return Ok(value);
    }
    Err(ZooError::Field {
        origin: origin.to_owned(),
        field: field.to_owned(),
        problem: format!("is {value}"),
        remedy: format!("choose 1 to {limit}"),
    })
}
