//! `bert`, `roberta`, `t5`.

use super::fields::{Fields, HEADS, HIDDEN, INNER, LAYERS, NORM_EPS, POSITIONS, shortened};
use crate::error::ZooError;
use crate::limits::{MAX_HEADS, MAX_HIDDEN, MAX_INNER, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB};
use crate::recipe::Recipe;
use crate::transformer::{Encoder, EncoderDecoder, EncoderHead};

type Read = Result<Box<dyn Recipe>, ZooError>;

fn encoder(fields: &Fields<'_>, preset: &Encoder, bare: &str) -> Result<Encoder, ZooError> {
    fields.only("is_decoder", false)?;
    fields.only("add_cross_attention", false)?;
    if let Some(other) = fields.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        let problem = format!("is '{}'", shortened(other));
        return Err(fields.refuse("position_embedding_type", problem, "only 'absolute' can be built"));
    }
    Ok(Encoder {
        name: fields.name(&preset.name),
        layers: fields.size(LAYERS, preset.layers, MAX_LAYERS)?,
        hidden: fields.size(HIDDEN, preset.hidden, MAX_HIDDEN)?,
        heads: fields.size(HEADS, preset.heads, MAX_HEADS)?,
        ffn_hidden: fields.size(INNER, preset.ffn_hidden, MAX_INNER)?,
        vocab: fields.size(&["vocab_size"], preset.vocab, MAX_VOCAB)?,
        positions: fields.size(POSITIONS, preset.positions, MAX_POSITIONS)?,
        token_types: fields.size(&["type_vocab_size"], preset.token_types, MAX_VOCAB)?,
        activation: fields.activation("gelu")?,
        norm_eps: fields.positive(NORM_EPS, preset.norm_eps, 1e3)?,
        init_std: fields.positive(&["initializer_range"], preset.init_std, 1e3)?,
        tied: fields.flag("tie_word_embeddings", true)?,
        head: if fields.has_architecture(bare) { EncoderHead::Pooler } else { EncoderHead::MaskedLm },
        ..preset.clone()
    })
}

pub(super) fn bert(fields: &Fields<'_>) -> Read {
    Ok(Box::new(encoder(fields, &Encoder::bert(), "BertModel")?))
}

/// Positions begin after the row for padding, `pad_token_id`.
pub(super) fn roberta(fields: &Fields<'_>) -> Read {
    let preset = Encoder { positions: 512, token_types: 2, norm_eps: 1e-12, ..Encoder::roberta() };
    let encoder = encoder(fields, &preset, "RobertaModel")?;
    let padding = match fields.get("pad_token_id").map(|value| (value, value.as_u64())) {
        None => 1,
        Some((_, Some(id))) if id < MAX_VOCAB => id,
        Some((value, _)) => {
            let problem = format!("is {}", shortened(&value.to_string()));
            return Err(fields.refuse("pad_token_id", problem, "give the id of the padding token"));
        }
    };
    Ok(Box::new(Encoder { position_offset: padding + 1, ..encoder }))
}

/// `feed_forward_proj` is an activation, or `gated-` and an activation; `gated-gelu` means the approximation.
pub(super) fn t5(fields: &Fields<'_>) -> Read {
    let preset = EncoderDecoder::t5_small();
    let projection = fields.text("feed_forward_proj")?.unwrap_or("relu");
    let (gated, activation) = match projection.split_once('-') {
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", activation)) => (true, activation),
        _ => (false, projection),
    };
    let layers = fields.size(LAYERS, preset.layers, MAX_LAYERS)?;
    Ok(Box::new(EncoderDecoder {
        name: fields.name(&preset.name),
        layers,
        decoder_layers: fields.size(&["num_decoder_layers"], layers, MAX_LAYERS)?,
        hidden: fields.size(HIDDEN, preset.hidden, MAX_HIDDEN)?,
        heads: fields.size(HEADS, preset.heads, MAX_HEADS)?,
        head_dim: fields.size(&["d_kv"], preset.head_dim, MAX_HIDDEN)?,
        ffn_hidden: fields.size(INNER, preset.ffn_hidden, MAX_INNER)?,
        vocab: fields.size(&["vocab_size"], preset.vocab, MAX_VOCAB)?,
        activation: fields.activation_named("feed_forward_proj", activation)?,
        gated,
        buckets: fields.size(&["relative_attention_num_buckets"], preset.buckets, 1 << 16)?,
        max_distance: fields.size(&["relative_attention_max_distance"], preset.max_distance, MAX_POSITIONS)?,
        norm_eps: fields.positive(NORM_EPS, preset.norm_eps, 1e3)?,
        tied: fields.flag("tie_word_embeddings", true)?,
        ..preset
    }))
}
