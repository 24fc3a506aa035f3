//! What sizes are possible, and the errors that say so.

use cutplane_graph::{ModelError, Overrides};

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
/// Most experts of a layer.
pub(crate) const MAX_EXPERTS: u64 = 4096;
/// Largest image, pixels a side.
pub(crate) const MAX_IMAGE: u64 = 1 << 14;
/// Most attention scores, over all heads, of one sample in one layer.
const MAX_SCORES: u64 = 1 << 48;
/// Most experts of all layers: each has parameters of its own.
const MAX_ALL_EXPERTS: u64 = 1 << 18;

pub(crate) fn field_error(origin: &str, field: &str, problem: String, remedy: &str) -> ZooError {
    ZooError::Field { origin: origin.to_owned(), field: field.to_owned(), problem, remedy: remedy.to_owned() }
}

/// `value` when it is 1 to `limit`.
pub(crate) fn in_range(origin: &str, field: &str, value: u64, limit: u64) -> Result<u64, ZooError> {
    if (1..=limit).contains(&value) {
        return Ok(value);
    }
    Err(field_error(origin, field, format!("is {value}"), &format!("choose 1 to {limit}")))
}

/// Checks a list of fields, each `(name, value, limit)`.
pub(crate) fn all_in_range(origin: &str, fields: &[(&str, u64, u64)]) -> Result<(), ZooError> {
    fields.iter().try_for_each(|(field, value, limit)| in_range(origin, field, *value, *limit).map(|_| ()))
}

/// A sequence length that is above what the field `limit_field` allows.
pub(crate) fn check_length(origin: &str, length: u64, limit_field: &str, limit: u64) -> Result<(), ZooError> {
    if (1..=limit).contains(&length) {
        return Ok(());
    }
    let problem = format!("is {length}, but '{limit_field}' is {limit}");
    Err(field_error(origin, "sequence_length", problem, &format!("choose 1 to {limit} tokens")))
}

/// Attention scores of `heads` heads over `length` tokens, of which memory could hold some.
pub(crate) fn check_scores(origin: &str, length: u64, heads: u64) -> Result<(), ZooError> {
    let scores = length.saturating_mul(length).saturating_mul(heads);
    if scores <= MAX_SCORES {
        return Ok(());
    }
    let problem = format!("is {length}: {scores} attention scores a sample and layer");
    Err(field_error(origin, "sequence_length", problem, "choose a shorter sequence"))
}

/// Experts of all layers.
pub(crate) fn check_experts(origin: &str, layers: u64, experts: u64) -> Result<(), ZooError> {
    if layers.saturating_mul(experts) <= MAX_ALL_EXPERTS {
        return Ok(());
    }
    let problem = format!("are {experts} in each of {layers} layers");
    Err(field_error(origin, "experts", problem, &format!("choose at most {MAX_ALL_EXPERTS} in all")))
}

/// Replaces sizes, each by a checked override.
pub(crate) struct Replacing<'a> {
    pub(crate) origin: &'a str,
    pub(crate) overrides: &'a Overrides,
}

impl Replacing<'_> {
    /// Replaces `size` where `value` is given; whether it changed.
    pub(crate) fn size(&self, field: &str, value: Option<u64>, size: &mut u64, limit: u64) -> Result<bool, ZooError> {
        let Some(new) = value else { return Ok(false) };
        let changed = new != *size;
        *size = in_range(self.origin, &format!("overrides.{field}"), new, limit)?;
        Ok(changed)
    }

    /// Refuses overrides that this model has no use for.
    pub(crate) fn only(&self, used: &[&str]) -> Result<(), ZooError> {
        let given = [
            ("layers", self.overrides.layers),
            ("hidden", self.overrides.hidden),
            ("heads", self.overrides.heads),
            ("vocab", self.overrides.vocab),
            ("kv_heads", self.overrides.kv_heads),
            ("ffn_hidden", self.overrides.ffn_hidden),
            ("experts", self.overrides.experts),
            ("image", self.overrides.image),
        ];
        match given.iter().find(|(field, value)| value.is_some() && !used.contains(field)) {
            None => Ok(()),
            Some((field, _)) => {
                let remedy = format!("this model has {}", used.join(", "));
                Err(field_error(self.origin, &format!("overrides.{field}"), "is not a size of it".to_owned(), &remedy))
            }
        }
    }
}

/// Names the model in an error of its graph.
pub(crate) fn of_model(origin: &str) -> impl FnOnce(ModelError) -> ZooError + '_ {
    |source| ZooError::Model { origin: origin.to_owned(), source }
}
