//! Which tensor of a checkpoint a parameter is: checkpoints are saved with or without the name of the model's body, and
//! of two tied tensors only one is kept.

use std::collections::HashMap;

use super::Place;

/// Names of bodies that checkpoints may put first, or leave out.
const BODIES: [&str; 9] = [
    "model.",
    "transformer.",
    "bert.",
    "roberta.",
    "gpt_neox.",
    "decoder.",
    "model.decoder.",
    "language_model.",
    "base_model.",
];

/// Names by which the same tensor goes.
const SYNONYMS: [(&str, &str); 9] = [
    ("encoder.embed_tokens.weight", "shared.weight"),
    ("decoder.embed_tokens.weight", "shared.weight"),
    ("shared.weight", "encoder.embed_tokens.weight"),
    ("lm_head.weight", "embed_tokens.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ("lm_head.decoder.bias", "lm_head.bias"),
    ("lm_head.bias", "lm_head.decoder.bias"),
    ("LayerNorm.weight", "LayerNorm.gamma"),
];

/// The tensor for a parameter: by its own name, by one with another body, or by a synonym.
pub(super) fn find<'a>(tensors: &'a HashMap<String, Place>, param: &str) -> Option<(&'a str, &'a Place)> {
    let by_name = |name: &str| tensors.get_key_value(name).map(|(name, place)| (name.as_str(), place));
    let with_bodies = |name: &str| {
        let added = BODIES.iter().find_map(|body| by_name(&format!("{body}{name}")));
        added.or_else(|| BODIES.iter().find_map(|body| by_name(name.strip_prefix(body)?)))
    };
    let any = |name: &str| by_name(name).or_else(|| with_bodies(name));
    let synonym = |(own, other): &(&str, &str)| any(&format!("{}{other}", param.strip_suffix(own)?));
    any(param)
        .or_else(|| SYNONYMS.iter().find_map(synonym))
        .or_else(|| any(&param.strip_suffix("LayerNorm.bias").map(|path| format!("{path}LayerNorm.beta"))?))
}

/// A few names that share their last parts with `param`, for a message.
pub(super) fn alike(tensors: &HashMap<String, Place>, param: &str) -> String {
    let last = |name: &str| name.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    let mut names: Vec<&str> = tensors.keys().filter(|name| last(name) == last(param)).map(String::as_str).collect();
    names.sort_unstable();
    names.truncate(5);
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
