//! The fields of one config, read with the defaults and the several names that `transformers` has for them.

use cutplane_graph::{ActivationKind, Rotary, RotaryScaling};
use serde_json::{Map, Value};

use crate::error::ZooError;
use crate::limits::{MAX_POSITIONS, field_error, in_range};

pub(super) const LAYERS: &[&str] = &["n_layer", "num_hidden_layers", "num_layers", "n_layers"];
pub(super) const HIDDEN: &[&str] = &["n_embd", "hidden_size", "d_model"];
pub(super) const HEADS: &[&str] = &["n_head", "num_attention_heads", "num_heads", "n_heads"];
pub(super) const KV_HEADS: &[&str] = &["num_key_value_heads", "num_kv_heads"];
pub(super) const INNER: &[&str] = &["n_inner", "intermediate_size", "ffn_dim", "ffn_hidden_size", "d_ff"];
pub(super) const POSITIONS: &[&str] = &["n_positions", "max_position_embeddings", "n_ctx", "max_seq_len"];
pub(super) const NORM_EPS: &[&str] = &["layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps"];
const ACTIVATION: &[&str] = &["activation_function", "hidden_act", "activation"];

/// The fields of one config. `null` counts as absent, as in `transformers`.
pub(super) struct Fields<'a> {
    pub(super) origin: &'a str,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The first of several names for one field that is there.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    pub(super) fn refuse(&self, field: &str, problem: String, remedy: &str) -> ZooError {
        field_error(self.origin, field, problem, remedy)
    }

    fn wrong_type(&self, field: &str, value: &Value, wanted: &str) -> ZooError {
        self.refuse(field, format!("is {}", shown(value)), &format!("give {wanted}"))
    }

    pub(super) fn size(&self, names: &[&'static str], default: u64, limit: u64) -> Result<u64, ZooError> {
        Ok(self.optional_size(names, limit)?.unwrap_or(default.min(limit)))
    }

    pub(super) fn optional_size(&self, names: &[&'static str], limit: u64) -> Result<Option<u64>, ZooError> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        match value.as_u64() {
            Some(size) => in_range(self.origin, name, size, limit).map(Some),
            None => Err(self.wrong_type(name, value, &format!("a whole number from 1 to {limit}"))),
        }
    }

    pub(super) fn positive(&self, names: &[&'static str], default: f64, limit: f64) -> Result<f64, ZooError> {
        let Some((name, value)) = self.first(names) else { return Ok(default) };
        match value.as_f64().filter(|number| *number > 0.0 && *number < limit) {
            Some(number) => Ok(number),
            None => Err(self.wrong_type(name, value, &format!("a number above 0 and below {limit}"))),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ZooError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong_type(name, value, "true or false")),
        }
    }

    /// Refuses a flag whose other value would be another model.
    pub(super) fn only(&self, name: &str, wanted: bool) -> Result<(), ZooError> {
        if self.flag(name, wanted)? == wanted {
            return Ok(());
        }
        Err(self.refuse(name, format!("is {}", !wanted), &format!("only models with {wanted} can be built")))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ZooError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong_type(name, value, "a text")),
        }
    }

    /// A field that is an object in itself.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ZooError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_object() {
                Some(map) => Ok(Some(Fields { origin: self.origin, map })),
                None => Err(self.wrong_type(name, value, "an object")),
            },
        }
    }

    pub(super) fn activation(&self, default: &str) -> Result<ActivationKind, ZooError> {
        let found = self.first(ACTIVATION);
        let name = found.map_or(ACTIVATION[0], |(name, _)| name);
        let text = match found {
            None => default,
            Some((_, value)) => value.as_str().ok_or_else(|| self.wrong_type(name, value, "a text"))?,
        };
        self.activation_named(name, text)
    }

    /// The activation that `transformers` calls `text`.
    pub(super) fn activation_named(&self, field: &str, text: &str) -> Result<ActivationKind, ZooError> {
        match text {
            "gelu" | "gelu_python" => Ok(ActivationKind::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(ActivationKind::GeluTanh),
            "relu" => Ok(ActivationKind::Relu),
            "tanh" => Ok(ActivationKind::Tanh),
            "silu" | "swish" => Ok(ActivationKind::Silu),
            "sigmoid" => Ok(ActivationKind::Sigmoid),
            "relu6" => Ok(ActivationKind::Relu6),
            "leaky_relu" => Ok(ActivationKind::LeakyRelu),
            "quick_gelu" => Ok(ActivationKind::QuickGelu),
            "relu2" => Ok(ActivationKind::SquaredRelu),
            other => {
                let remedy = "known are gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, tanh, silu, swish, sigmoid, \
                              relu6, leaky_relu, quick_gelu, relu2";
                Err(self.refuse(field, format!("is '{}'", shortened(other)), remedy))
            }
        }
    }

    /// Rotation of `dims` features: base and stretching from `rope_theta` and `rope_scaling`, or from `rope_parameters`.
    pub(super) fn rotary(&self, dims: u64, default_base: f64) -> Result<Rotary, ZooError> {
        let parameters = self.object("rope_parameters")?;
        let base_from = if parameters.is_some() { parameters.as_ref().unwrap_or(self) } else { self };
        let base = base_from.positive(&["rope_theta", "rotary_emb_base"], default_base, 1e12)?;
        let scaling = match (parameters, self.object("rope_scaling")?) {
            (Some(fields), _) | (None, Some(fields)) => fields.rotary_scaling()?,
            (None, None) => RotaryScaling::None,
        };
        Ok(Rotary { base, dims, interleaved: false, scaling })
    }

    fn rotary_scaling(&self) -> Result<RotaryScaling, ZooError> {
        let kind = match self.text("rope_type")? {
            Some(kind) => kind,
            None => self.text("type")?.unwrap_or("default"),
        };
        let factor = || self.positive(&["factor"], 1.0, 1e6);
        match kind {
            "default" => Ok(RotaryScaling::None),
            "linear" => Ok(RotaryScaling::Linear { factor: factor()? }),
            "llama3" => Ok(RotaryScaling::Llama3 {
                factor: factor()?,
                low_frequency: self.positive(&["low_freq_factor"], 1.0, 1e6)?,
                high_frequency: self.positive(&["high_freq_factor"], 4.0, 1e6)?,
                original_positions: self.size(&["original_max_position_embeddings"], 8192, MAX_POSITIONS)?,
            }),
            other => {
                let problem = format!("is '{}'", shortened(other));
                Err(self.refuse("rope_scaling.rope_type", problem, "known are default, linear, llama3"))
            }
        }
    }

    pub(super) fn has_architecture(&self, wanted: &str) -> bool {
        let list = self.get("architectures").and_then(Value::as_array);
        list.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(wanted)))
    }

    /// What the file calls the model: the last part of `_name_or_path`, or the family.
    pub(super) fn name(&self, family: &str) -> String {
        let given = self.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
        let last = given.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if last.is_empty() { family.to_owned() } else { shortened(last) }
    }
}

/// At most the first forty characters.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(40).chain("...".chars()).collect() }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) => format!("the text '{}'", shortened(text)),
        other => type_name(other).to_owned(),
    }
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
