//! `llama` and its relatives: `mistral`, `mixtral`, `qwen2`, `qwen3`, `gemma`.

use super::decoders::sizes;
use super::fields::{Fields, KV_HEADS, NORM_EPS};
use crate::error::ZooError;
use crate::limits::{MAX_EXPERTS, MAX_HEADS, MAX_HIDDEN, MAX_POSITIONS};
use crate::recipe::Recipe;
use crate::transformer::{Decoder, Experts, Norm, Positions};

type Read = Result<Box<dyn Recipe>, ZooError>;

/// What all of them read: key heads, head width, rotation, root-mean-square norm, activation. Without a number of key
/// heads, `kv_heads` counts, and 0 stands for as many as heads.
fn family(fields: &Fields<'_>, preset: &Decoder, kv_heads: u64, activation: &str) -> Result<Decoder, ZooError> {
    let base = match preset.positions {
        Positions::Rotary(rotary) => rotary.base,
        _ => 10_000.0,
    };
    let eps = match preset.norm {
        Norm::Rms { eps } | Norm::RmsUnitOffset { eps } | Norm::Layer { eps } | Norm::LayerWithoutBias { eps } => eps,
    };
    let eps = fields.positive(NORM_EPS, eps, 1e3)?;
    let unit_offset = matches!(preset.norm, Norm::RmsUnitOffset { .. });
    let decoder = sizes(fields, preset, None)?;
    let head_dim = fields.optional_size(&["head_dim"], MAX_HIDDEN)?.or(decoder.head_dim);
    let decoder = Decoder { head_dim, ..decoder };
    let default_kv_heads = if kv_heads == 0 { decoder.heads } else { kv_heads };
    Ok(Decoder {
        kv_heads: fields.size(KV_HEADS, default_kv_heads, MAX_HEADS)?,
        positions: Positions::Rotary(fields.rotary(decoder.head_dim().max(1), base)?),
        norm: if unit_offset { Norm::RmsUnitOffset { eps } } else { Norm::Rms { eps } },
        activation: fields.activation(activation)?,
        qk_norm: decoder.qk_norm.map(|_| eps),
        ..decoder
    })
}

pub(super) fn llama(fields: &Fields<'_>) -> Read {
    let bias = fields.flag("attention_bias", false)?;
    let ffn_bias = fields.flag("mlp_bias", false)?;
    Ok(Box::new(Decoder {
        qkv_bias: bias,
        output_bias: bias,
        ffn_bias,
        ..family(fields, &Decoder::llama(), 0, "silu")?
    }))
}

fn window(fields: &Fields<'_>, default: Option<u64>) -> Result<Option<u64>, ZooError> {
    // A field that is there and null means no window; one that is not there means the default.
    if fields.map.contains_key("sliding_window") {
        return fields.optional_size(&["sliding_window"], MAX_POSITIONS);
    }
    Ok(default)
}

pub(super) fn mistral(fields: &Fields<'_>) -> Read {
    let window = window(fields, Some(4096))?;
    Ok(Box::new(Decoder { window, ..family(fields, &Decoder::mistral(), 8, "silu")? }))
}

pub(super) fn mixtral(fields: &Fields<'_>) -> Read {
    let count = fields.size(&["num_local_experts", "num_experts"], 8, MAX_EXPERTS)?;
    let top_k = fields.size(&["num_experts_per_tok"], 2, count)?;
    let experts = Some(Experts { count, top_k, capacity_factor: None, normalised: true });
    let window = window(fields, None)?;
    Ok(Box::new(Decoder { window, experts, ..family(fields, &Decoder::mixtral(), 8, "silu")? }))
}

pub(super) fn qwen2(fields: &Fields<'_>) -> Read {
    fields.only("use_sliding_window", false)?;
    Ok(Box::new(family(fields, &Decoder::qwen2(), 32, "silu")?))
}

pub(super) fn qwen3(fields: &Fields<'_>) -> Read {
    fields.only("use_sliding_window", false)?;
    let bias = fields.flag("attention_bias", false)?;
    let decoder = family(fields, &Decoder::qwen3(), 32, "silu")?;
    Ok(Box::new(Decoder { qkv_bias: bias, output_bias: bias, ..decoder }))
}

/// `hidden_activation` counts before `hidden_act`: the first files said "gelu" and meant its approximation.
pub(super) fn gemma(fields: &Fields<'_>) -> Read {
    let bias = fields.flag("attention_bias", false)?;
    let decoder = family(fields, &Decoder::gemma(), 16, "gelu_pytorch_tanh")?;
    let meant = fields.text("hidden_activation")?.unwrap_or("gelu_pytorch_tanh");
    Ok(Box::new(Decoder {
        activation: fields.activation_named("hidden_activation", meant)?,
        embedding_scale: Some((decoder.hidden as f64).sqrt()),
        qkv_bias: bias,
        output_bias: bias,
        ..decoder
    }))
}
