//! Hugging Face `config.json`: the fields that decide a graph, with the defaults of `transformers`.
//!
//! Unknown fields are ignored, known ones are checked. A config without a `BertModel` architecture gets the head that
//! its family is pre-trained with, because that is what can be trained.

use cutplane_graph::ActivationKind;
use serde_json::{Map, Value};

use crate::error::ZooError;
use crate::transformer::{
    Head, Kind, MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, Sizes, Transformer, in_range,
};

/// `model_type`s that can be read.
const KNOWN_TYPES: &str = "gpt2, bert";

/// Reads a parsed `config.json`; `origin` names it in messages.
pub(crate) fn transformer(origin: &str, config: &Value) -> Result<Transformer, ZooError> {
    let Some(map) = config.as_object() else {
        let problem = format!("is {}, not an object", type_name(config));
        return Err(field_error(origin, "(whole file)", problem, "give a Hugging Face config.json"));
    };
    let fields = Fields { origin, map };
    match fields.text("model_type")? {
        Some("gpt2") => gpt2(&fields),
        Some("bert") => bert(&fields),
        Some(other) => Err(fields.refuse("model_type", format!("is '{other}'"), &format!("known are {KNOWN_TYPES}"))),
        None => Err(fields.refuse("model_type", "is missing".to_owned(), &format!("add one of {KNOWN_TYPES}"))),
    }
}

const LAYERS: &[&str] = &["n_layer", "num_hidden_layers"];
const HIDDEN: &[&str] = &["n_embd", "hidden_size"];
const HEADS: &[&str] = &["n_head", "num_attention_heads"];
const INNER: &[&str] = &["n_inner", "intermediate_size"];
const POSITIONS: &[&str] = &["n_positions", "max_position_embeddings", "n_ctx"];
const NORM_EPS: &[&str] = &["layer_norm_epsilon", "layer_norm_eps"];
const ACTIVATION: &[&str] = &["activation_function", "hidden_act"];

fn gpt2(fields: &Fields<'_>) -> Result<Transformer, ZooError> {
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("add_cross_attention", false)?;
    let hidden = fields.size(HIDDEN, 768, MAX_HIDDEN)?;
    Ok(Transformer {
        name: fields.name("gpt2"),
        kind: Kind::Gpt,
        sizes: Sizes {
            layers: fields.size(LAYERS, 12, MAX_LAYERS)?,
            hidden,
            heads: fields.size(HEADS, 12, MAX_HEADS)?,
            inner: fields.size(INNER, 4 * hidden, MAX_INNER)?,
            vocab: fields.size(&["vocab_size"], 50_257, MAX_VOCAB)?,
            positions: fields.size(POSITIONS, 1024, MAX_POSITIONS)?,
        },
        activation: fields.activation("gelu_new")?,
        norm_eps: fields.positive(NORM_EPS, 1e-5)?,
        init_std: fields.positive(&["initializer_range"], 0.02)?,
        tied: fields.flag("tie_word_embeddings", true)?,
    })
}

fn bert(fields: &Fields<'_>) -> Result<Transformer, ZooError> {
    fields.only("is_decoder", false)?;
    fields.only("add_cross_attention", false)?;
    if let Some(other) = fields.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        return Err(fields.refuse("position_embedding_type", format!("is '{other}'"), "only 'absolute' can be built"));
    }
    let head = if fields.has_architecture("BertModel") { Head::Pooler } else { Head::Pretraining };
    let token_types = fields.size(&["type_vocab_size"], 2, MAX_VOCAB)?;
    Ok(Transformer {
        name: fields.name("bert"),
        kind: Kind::Bert { token_types, head },
        sizes: Sizes {
            layers: fields.size(LAYERS, 12, MAX_LAYERS)?,
            hidden: fields.size(HIDDEN, 768, MAX_HIDDEN)?,
            heads: fields.size(HEADS, 12, MAX_HEADS)?,
            inner: fields.size(INNER, 3072, MAX_INNER)?,
            vocab: fields.size(&["vocab_size"], 30_522, MAX_VOCAB)?,
            positions: fields.size(POSITIONS, 512, MAX_POSITIONS)?,
        },
        activation: fields.activation("gelu")?,
        norm_eps: fields.positive(NORM_EPS, 1e-12)?,
        init_std: fields.positive(&["initializer_range"], 0.02)?,
        tied: fields.flag("tie_word_embeddings", true)?,
    })
}

/// The fields of one config. `null` counts as absent, as in `transformers`.
struct Fields<'a> {
    origin: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The first of several names for one field that is there.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    fn refuse(&self, field: &str, problem: String, remedy: &str) -> ZooError {
        field_error(self.origin, field, problem, remedy)
    }

    fn wrong_type(&self, field: &str, value: &Value, wanted: &str) -> ZooError {
        self.refuse(field, format!("is {}", shown(value)), &format!("give {wanted}"))
    }

    fn size(&self, names: &[&'static str], default: u64, limit: u64) -> Result<u64, ZooError> {
        let Some((name, value)) = self.first(names) else { return Ok(default.min(limit)) };
        match value.as_u64() {
            Some(size) => in_range(self.origin, name, size, limit),
            None => Err(self.wrong_type(name, value, &format!("a whole number from 1 to {limit}"))),
        }
    }

    fn positive(&self, names: &[&'static str], default: f64) -> Result<f64, ZooError> {
        let Some((name, value)) = self.first(names) else { return Ok(default) };
        match value.as_f64().filter(|number| *number > 0.0 && *number < 1e3) {
            Some(number) => Ok(number),
            None => Err(self.wrong_type(name, value, "a number above 0 and below 1000")),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, ZooError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong_type(name, value, "true or false")),
        }
    }

    /// Refuses a flag whose other value would be another model.
    fn only(&self, name: &str, wanted: bool) -> Result<(), ZooError> {
        if self.flag(name, wanted)? == wanted {
            return Ok(());
        }
        Err(self.refuse(name, format!("is {}", !wanted), &format!("only models with {wanted} can be built")))
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, ZooError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong_type(name, value, "a text")),
        }
    }

    fn activation(&self, default: &str) -> Result<ActivationKind, ZooError> {
        let found = self.first(ACTIVATION);
        let name = found.map_or(ACTIVATION[0], |(name, _)| name);
        let text = match found {
            None => default,
            Some((_, value)) => value.as_str().ok_or_else(|| self.wrong_type(name, value, "a text"))?,
        };
        match text {
            "gelu" | "gelu_python" => Ok(ActivationKind::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(ActivationKind::GeluTanh),
            "relu" => Ok(ActivationKind::Relu),
            "tanh" => Ok(ActivationKind::Tanh),
            other => {
                let remedy = "known are gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, tanh";
                Err(self.refuse(name, format!("is '{}'", shortened(other)), remedy))
            }
        }
    }

    fn has_architecture(&self, wanted: &str) -> bool {
        let list = self.get("architectures").and_then(Value::as_array);
        list.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(wanted)))
    }

    /// What the file calls the model: the last part of `_name_or_path`, or the family.
    fn name(&self, family: &str) -> String {
        let given = self.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
        let last = given.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if last.is_empty() { family.to_owned() } else { shortened(last) }
    }
}

fn field_error(origin: &str, field: &str, problem: String, remedy: &str) -> ZooError {
    ZooError::Field { origin: origin.to_owned(), field: field.to_owned(), problem, remedy: remedy.to_owned() }
}

/// At most the first forty characters.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(40).chain("...".chars()).collect() }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) => format!("the text '{}'", shortened(text)),
        other => type_name(other).to_owned(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
