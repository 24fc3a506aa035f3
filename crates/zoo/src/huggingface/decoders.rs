//! `gpt2`, `gpt_neox`, `opt`, `mpt`, `falcon`, `phi`.

use cutplane_graph::AttentionInput;

use super::fields::{Fields, HEADS, HIDDEN, INNER, KV_HEADS, LAYERS, NORM_EPS, POSITIONS};
use crate::error::ZooError;
use crate::limits::{MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB};
use crate::recipe::Recipe;
use crate::transformer::{BlockForm, Decoder, Norm, Positions};

type Read = Result<Box<dyn Recipe>, ZooError>;

/// The sizes that all decoders have, with the defaults of `preset`; the feed-forward width is `ratio` times the hidden size
/// where the file does not say it.
pub(super) fn sizes(fields: &Fields<'_>, preset: &Decoder, ratio: Option<u64>) -> Result<Decoder, ZooError> {
    let hidden = fields.size(HIDDEN, preset.hidden, MAX_HIDDEN)?;
    let ffn_default = ratio.map_or(preset.ffn_hidden, |ratio| ratio * hidden);
    Ok(Decoder {
        name: fields.name(&preset.name),
        layers: fields.size(LAYERS, preset.layers, MAX_LAYERS)?,
        hidden,
        heads: fields.size(HEADS, preset.heads, MAX_HEADS)?,
        ffn_hidden: fields.size(INNER, ffn_default, MAX_INNER)?,
        vocab: fields.size(&["vocab_size"], preset.vocab, MAX_VOCAB)?,
        context: fields.size(POSITIONS, preset.context, MAX_POSITIONS)?,
        init_std: fields.positive(&["initializer_range", "init_std"], preset.init_std, 1e3)?,
        tied: fields.flag("tie_word_embeddings", preset.tied)?,
        ..preset.clone()
    })
}

fn layer_norm(fields: &Fields<'_>) -> Result<Norm, ZooError> {
    Ok(Norm::Layer { eps: fields.positive(NORM_EPS, 1e-5, 1e3)? })
}

/// Rotation of a share of each head, as a number of features that pair up.
fn partly_rotary(
    fields: &Fields<'_>,
    decoder: &Decoder,
    share: &'static str,
    default: f64,
) -> Result<Positions, ZooError> {
    let share = fields.positive(&[share], default, 1.000_001)?;
    let dims = (decoder.head_dim() as f64 * share) as u64;
    Ok(Positions::Rotary(fields.rotary(dims.max(1), 10_000.0)?))
}

pub(super) fn gpt2(fields: &Fields<'_>) -> Read {
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("add_cross_attention", false)?;
    Ok(Box::new(Decoder {
        activation: fields.activation("gelu_new")?,
        norm: layer_norm(fields)?,
        ..sizes(fields, &Decoder::gpt2(), Some(4))?
    }))
}

pub(super) fn gpt_neox(fields: &Fields<'_>) -> Read {
    let decoder = sizes(fields, &Decoder::gpt_neox(), None)?;
    let parallel = fields.flag("use_parallel_residual", true)?;
    let bias = fields.flag("attention_bias", true)?;
    Ok(Box::new(Decoder {
        activation: fields.activation("gelu")?,
        norm: layer_norm(fields)?,
        positions: partly_rotary(fields, &decoder, "rotary_pct", 0.25)?,
        block: if parallel { BlockForm::ParallelTwoNorms } else { BlockForm::PreNorm },
        qkv_bias: bias,
        output_bias: bias,
        ..decoder
    }))
}

pub(super) fn opt(fields: &Fields<'_>) -> Read {
    fields.only("layer_norm_elementwise_affine", true)?;
    let decoder = sizes(fields, &Decoder::opt(), None)?;
    let width = fields.optional_size(&["word_embed_proj_dim"], MAX_HIDDEN)?;
    let norm_first = fields.flag("do_layer_norm_before", true)?;
    let bias = fields.flag("enable_bias", true)?;
    Ok(Box::new(Decoder {
        activation: fields.activation("relu")?,
        block: if norm_first { BlockForm::PreNorm } else { BlockForm::PostNorm },
        final_norm: norm_first && !fields.flag("_remove_final_layer_norm", false)?,
        qkv_bias: bias,
        output_bias: bias,
        ffn_bias: bias,
        embedding_width: width.filter(|width| *width != decoder.hidden),
        ..decoder
    }))
}

pub(super) fn mpt(fields: &Fields<'_>) -> Read {
    fields.only("no_bias", true)?;
    let attention = fields.object("attn_config")?;
    let attention = attention.as_ref().unwrap_or(fields);
    attention.only("qk_ln", false)?;
    let ratio = fields.size(&["expansion_ratio"], 4, 64)?;
    let alibi = attention.flag("alibi", true)?;
    let max_bias = attention.positive(&["alibi_bias_max"], 8.0, 1e3)?;
    Ok(Box::new(Decoder {
        positions: if alibi { Positions::Alibi { max_bias } } else { Positions::Learned { offset: 0 } },
        norm: Norm::LayerWithoutBias { eps: fields.positive(NORM_EPS, 1e-5, 1e3)? },
        ..sizes(fields, &Decoder::mpt(), Some(ratio))?
    }))
}

/// With `new_decoder_architecture`, groups of heads share keys and each part of a block has its norm; before it, one head
/// of keys serves all with `multi_query`, and one norm with `parallel_attn`.
pub(super) fn falcon(fields: &Fields<'_>) -> Read {
    let decoder = sizes(fields, &Decoder::falcon(), Some(4))?;
    let new = fields.flag("new_decoder_architecture", false)?;
    let multi_query = fields.flag("multi_query", true)?;
    let parallel = fields.flag("parallel_attn", true)? || new;
    let norms = fields.size(&["num_ln_in_parallel_attn"], if new { 2 } else { 1 }, 2)?;
    let kv_heads = match (new, multi_query) {
        (true, _) => fields.size(KV_HEADS, decoder.heads, MAX_HEADS)?,
        (false, true) => 1,
        (false, false) => decoder.heads,
    };
    let bias = fields.flag("bias", false)?;
    let rotary = Positions::Rotary(fields.rotary(decoder.head_dim().max(1), 10_000.0)?);
    Ok(Box::new(Decoder {
        activation: fields.activation("gelu")?,
        norm: layer_norm(fields)?,
        positions: if fields.flag("alibi", false)? { Positions::Alibi { max_bias: 8.0 } } else { rotary },
        block: match (parallel, norms) {
            (false, _) => BlockForm::PreNorm,
            (true, 1) => BlockForm::Parallel,
            (true, _) => BlockForm::ParallelTwoNorms,
        },
        kv_heads,
        qkv_bias: bias,
        output_bias: bias,
        ffn_bias: bias,
        packing: AttentionInput::PackedByGroup,
        ..decoder
    }))
}

pub(super) fn phi(fields: &Fields<'_>) -> Read {
    fields.only("qk_layernorm", false)?;
    let decoder = sizes(fields, &Decoder::phi(), None)?;
    Ok(Box::new(Decoder {
        kv_heads: fields.size(KV_HEADS, decoder.heads, MAX_HEADS)?,
        activation: fields.activation("gelu_new")?,
        norm: layer_norm(fields)?,
        positions: partly_rotary(fields, &decoder, "partial_rotary_factor", 0.5)?,
        ..decoder
    }))
}
