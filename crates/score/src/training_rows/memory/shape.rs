//! The model of a row, as far as memory goes.

use cutplane_sim::footprint::{ExpertShape, Form, TransformerShape};

use super::recipe::Recipe;
use crate::parse::{self, Positions, RowModel, Transformer, TransformerKind};
use crate::prediction::{Skip, TraceEntry};
use crate::row::Row;

/// Words of the cased BERT vocabulary, which Megatron's tests of BERT and T5 use.
const CASED_WORDS: u64 = 28_996;
/// Sentinel tokens that T5 adds to it.
const SENTINELS: u64 = 100;
/// Tokens of a T5 target in Megatron's recipes, where the source has 512.
const TARGET_SHARE: u64 = 4;
/// Width of T5's heads, whatever their number.
const T5_HEAD: u64 = 64;

/// The shape of a row's model and what had to be assumed for it.
///
/// # Errors
/// [`Skip`] when the columns and the name do not tell the sizes, or the network is no transformer.
pub(super) fn shape(row: &Row, recipe: &Recipe) -> Result<(TransformerShape, Vec<TraceEntry>), Skip> {
    let model = match parse::model(row)? {
        RowModel::Transformer(transformer) => transformer,
        RowModel::Named { name } => {
            return Err(Skip::new("unsupported-memory", format!("'{name}' is no plain transformer")));
        }
    };
    let length = row
        .seq_len
        .ok_or_else(|| Skip::new("missing-sequence-length", format!("column 'seq_len' of '{}'", row.model)))?;
    let form = form(&model, length);
    let gated = model.gated || recipe.says(&["swiglu"]);
    let traits = Traits::of(recipe, &model, gated);
    let shape = TransformerShape {
        form,
        layers: model.layers,
        hidden: model.hidden,
        heads: model.heads,
        kv_heads: model.kv_heads,
        head_dim: if model.kind == TransformerKind::EncoderDecoder { T5_HEAD } else { model.head_dim },
        ffn_hidden: feed_forward(row, recipe, &model, gated),
        vocab: vocabulary(row, recipe, &model),
        sequence_length: length,
        gated,
        biases: traits.biases,
        norm_bias: traits.norm_bias,
        learned_positions: traits.learned_positions,
        tied: tied(recipe, &model),
        query_norms: recipe.says(&["qk_layernorm", "qk-layernorm", "qwen3"]),
        experts: experts(row, recipe, &model),
        trained: if recipe.says(&["lora"]) { 0.0 } else { 1.0 },
    };
    sane(&shape, &row.model)?;
    Ok((shape, model.trace))
}

/// Sizes beyond all machines are typing errors.
fn sane(shape: &TransformerShape, name: &str) -> Result<(), Skip> {
    let sizes = [shape.layers, shape.hidden, shape.heads, shape.head_dim, shape.ffn_hidden, shape.vocab];
    let experts = shape.experts.map_or([1; 2], |experts| [experts.experts, experts.ffn_hidden]);
    let possible = |size: &u64| (1..1 << 32).contains(size);
    if sizes.iter().chain(&experts).all(possible) && shape.sequence_length < 1 << 40 {
        return Ok(());
    }
    Err(Skip::new("impossible-model", format!("sizes of '{name}'")))
}

fn form(model: &Transformer, length: u64) -> Form {
    match model.kind {
        TransformerKind::Decoder => Form::Decoder,
        TransformerKind::Encoder => Form::Encoder,
        TransformerKind::EncoderDecoder => Form::EncoderDecoder { target_length: (length / TARGET_SHARE).max(1) },
    }
}

/// What Megatron's defaults and the families' habits decide.
struct Traits {
    biases: bool,
    norm_bias: bool,
    learned_positions: bool,
}

impl Traits {
    /// Functional tests of Megatron keep its defaults; its release runs of decoders, and decoders with gates elsewhere, have
    /// neither biases nor a table of positions.
    fn of(recipe: &Recipe, model: &Transformer, gated: bool) -> Self {
        let decoder = model.kind == TransformerKind::Decoder;
        let bare = decoder && (recipe.is_release_run || (gated && !recipe.is_functional_test));
        let rotary = recipe.says(&["rope", "rotary"]);
        let learned =
            if recipe.is_functional_test || !decoder { !rotary } else { model.positions == Positions::Learned };
        Self {
            biases: !bare && model.experts.is_none() && !recipe.says(&["disable_bias_linear"]),
            norm_bias: !(bare && gated),
            learned_positions: learned && !bare,
        }
    }
}

fn tied(recipe: &Recipe, model: &Transformer) -> bool {
    match () {
        () if recipe.says(&["untied", "untie_embeddings", "untie-embeddings"]) => false,
        () if recipe.says(&["tied embedding"]) => true,
        () => model.tied,
    }
}

/// Megatron narrows a gated layer whose width nobody sets: two thirds of four times the hidden width, in steps of 64.
fn feed_forward(row: &Row, recipe: &Recipe, model: &Transformer, gated: bool) -> u64 {
    let unset = recipe.is_functional_test
        && gated
        && row.ffn_hidden.is_none_or(|width| width == model.hidden.saturating_mul(4));
    if unset { (model.hidden.saturating_mul(8) / 3) / 64 * 64 } else { model.ffn_hidden }
}

fn vocabulary(row: &Row, recipe: &Recipe, model: &Transformer) -> u64 {
    let tests = recipe.is_megatron();
    match (row.vocab, model.kind) {
        (None, TransformerKind::Encoder) if tests => CASED_WORDS,
        (None, TransformerKind::EncoderDecoder) if tests => CASED_WORDS + SENTINELS,
        _ => model.vocab,
    }
}

/// Experts; recipes of Megatron name the ranks that share one where those are not the layer's own.
fn experts(row: &Row, recipe: &Recipe, model: &Transformer) -> Option<ExpertShape> {
    let stated = model.experts?;
    let named = recipe.degree("etp").or_else(|| recipe.degree("tp"));
    let tests = recipe.is_megatron();
    // Beyond Megatron's tests, experts are spread by expert parallelism alone.
    let tensor_parallel = if tests { named.or(row.tp) } else { Some(1).filter(|_| row.ep.is_some_and(|ep| ep > 1)) };
    Some(ExpertShape {
        experts: stated.experts,
        top_k: stated.top_k,
        ffn_hidden: stated.ffn_hidden,
        shared_ffn_hidden: 0,
        tensor_parallel: tensor_parallel.filter(|ranks| *ranks > 0),
    })
}
