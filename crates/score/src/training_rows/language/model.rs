//! The model of a row as the estimator takes it.

use cutplane_graph::{ModelGraph, OpKind};
use cutplane_sim::estimate::FoldedModel;
use cutplane_zoo::transformer::{
    Decoder, Encoder, EncoderDecoder, EncoderHead, Experts, Norm, Positions, TransformerXl,
};

use crate::parse::words::says;
use crate::parse::{self, RowModel, SoftwareFamily, Transformer, TransformerKind};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

/// Share of a sequence that BERT predicts, with room for rounding: 20 of 128 and 80 of 512 places (Devlin et al. 2019).
const PREDICTED: f64 = 0.16;
/// Filled share of samples of 512 tokens that are binned by length, as NVIDIA's PyTorch and Paddle examples of BERT do (LDDL).
const FILLED: f64 = 0.6;
/// Width of ELECTRA's generator over the discriminator's, inverted (Clark et al. 2020, section 3.2).
const GENERATOR: u64 = 3;
/// Logits that Transformer-XL's adaptive softmax computes a token: the head of 20 000 words and its clusters, and of the
/// tails of 20 000, 160 000 and 67 735 words what the one token in eight needs that lies there (both of its implementations
/// gather these tokens first). Assumed.
const ADAPTIVE_LOGITS: u64 = 30_000;
/// Tokens of a sample where entities are recognised: NVIDIA's benchmarks of BioBERT train with 128 and with 512, of which their
/// batches fit the memory in 32 bits with 128 alone.
const ENTITY_TOKENS: u64 = 128;

/// A model and where its sizes come from.
pub(super) struct TrainedModel {
    pub(super) folded: FoldedModel,
    pub(super) trace: Vec<TraceEntry>,
}

/// The model of a row.
///
/// # Errors
/// [`Skip`] `unknown-model`, `unknown-experts`, `missing-sequence-length`, `impossible-model`.
pub(super) fn model(row: &Row) -> Result<TrainedModel, Skip> {
    let length = |usual: Option<u64>| {
        let missing = || Skip::new("missing-sequence-length", format!("column 'seq_len' of '{}'", row.model));
        stated_length(row).or(usual).ok_or_else(missing)
    };
    match parse::model(row)? {
        RowModel::Named { name } => {
            let (preset, segment) = transformer_xl_of(&name);
            transformer_xl(preset, length(Some(segment))?)
        }
        RowModel::Transformer(shape) => {
            let length = length(None)?;
            if !is_binned(row, &shape, length) {
                let mut model = transformer_model(row, shape, length)?;
                if row.seq_len != Some(length) {
                    model
                        .trace
                        .push(assumed("tokens of a sample, which the notes call another task's default", &length));
                }
                return Ok(model);
            }
            let filled = (length as f64 * FILLED) as u64;
            let mut model = transformer_model(row, shape, filled)?;
            model.trace.push(assumed("tokens of a sample that is not padded", &filled));
            Ok(model)
        }
    }
}

/// Tokens of a sample. A length that the notes take from the default of question answering does not hold where the task is to
/// recognise entities.
fn stated_length(row: &Row) -> Option<u64> {
    let notes = row.notes.to_ascii_lowercase();
    let borrowed = says(&notes, &["repo default"]) && says(&notes, &["for ner "]);
    if borrowed { Some(ENTITY_TOKENS) } else { row.seq_len }
}

fn transformer_model(row: &Row, shape: Transformer, length: u64) -> Result<TrainedModel, Skip> {
    let shape_of_generator = Transformer {
        hidden: shape.hidden / GENERATOR,
        heads: (shape.heads / GENERATOR).max(1),
        ffn_hidden: shape.ffn_hidden / GENERATOR,
        ..shape.clone()
    };
    let graph = match shape.kind {
        TransformerKind::Decoder => decoder(&shape, length).graph(length),
        TransformerKind::Encoder => encoder(row, &shape, length).graph(length),
        TransformerKind::EncoderDecoder => encoder_decoder(&shape).graph(length),
    };
    let graph = built(graph)?;
    let mut folded = FoldedModel::new(&graph);
    let mut trace = shape.trace;
    if shape.kind == TransformerKind::Encoder && gathers_predicted(row) {
        restrict_head(&mut folded, length, ((length as f64 * PREDICTED) as u64).max(1));
        let value = format!("{:.0} % of the tokens", PREDICTED * 100.0);
        trace.push(assumed("words that the head predicts", &value));
    }
    if row.model.to_ascii_lowercase().contains("electra") && !is_fine_tuning(row) {
        folded.blocks.splice(0..0, generator(row, &shape_of_generator, length)?.blocks);
    }
    Ok(TrainedModel { folded, trace })
}

/// ELECTRA's generator: a small encoder that predicts the masked words.
fn generator(row: &Row, shape: &Transformer, length: u64) -> Result<FoldedModel, Skip> {
    let graph = built(encoder(row, shape, length).graph(length))?;
    let mut folded = FoldedModel::new(&graph);
    restrict_head(&mut folded, length, ((length as f64 * PREDICTED) as u64).max(1));
    Ok(folded)
}

fn assumed(name: &'static str, value: &impl ToString) -> TraceEntry {
    TraceEntry { name: name.into(), value: value.to_string(), origin: Origin::Assumed }
}

/// Whether samples of one length are batched with their like, so that few tokens are padding.
fn is_binned(row: &Row, shape: &Transformer, length: u64) -> bool {
    let family = parse::software(&row.framework).family;
    shape.kind == TransformerKind::Encoder
        && length >= 512
        && !is_fine_tuning(row)
        && matches!(family, SoftwareFamily::Pytorch | SoftwareFamily::Paddle)
        && row.source.contains("deeplearningexamples")
}

fn built(graph: Result<ModelGraph, cutplane_zoo::ZooError>) -> Result<ModelGraph, Skip> {
    graph.map_err(|error| Skip::new("impossible-model", error.to_string()))
}

fn decoder(shape: &Transformer, length: u64) -> Decoder {
    let preset = match (shape.gated, shape.experts, shape.positions) {
        (_, Some(_), _) => Decoder::mixtral(),
        (true, ..) => Decoder::llama(),
        (false, None, parse::Positions::Alibi) => Decoder::mpt(),
        (false, ..) => Decoder::gpt2(),
    };
    let positions = match (shape.positions, preset.positions) {
        (parse::Positions::Learned, _) => Positions::Learned { offset: 0 },
        (parse::Positions::Rotary, _) => Positions::Rotary(cutplane_graph::Rotary {
            base: 10_000.0,
            dims: shape.head_dim & !1,
            interleaved: false,
            scaling: cutplane_graph::RotaryScaling::None,
        }),
        (parse::Positions::Alibi | parse::Positions::Relative, _) => Positions::Alibi { max_bias: 8.0 },
    };
    let experts = shape.experts.map(|experts| Experts {
        count: experts.experts,
        top_k: experts.top_k,
        capacity_factor: None,
        normalised: true,
    });
    // Families without biases: their modern kin and those with ALiBi as MPT has it.
    Decoder {
        name: shape.name.clone(),
        layers: shape.layers,
        hidden: shape.hidden,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: Some(shape.head_dim),
        ffn_hidden: shape.experts.map_or(shape.ffn_hidden, |experts| experts.ffn_hidden),
        vocab: shape.vocab,
        context: length,
        positions,
        gated: shape.gated,
        tied: shape.tied,
        experts,
        window: None,
        norm: if shape.gated { preset.norm } else { Norm::Layer { eps: 1e-5 } },
        ..preset
    }
}

fn encoder(row: &Row, shape: &Transformer, length: u64) -> Encoder {
    Encoder {
        name: shape.name.clone(),
        layers: shape.layers,
        hidden: shape.hidden,
        heads: shape.heads,
        ffn_hidden: shape.ffn_hidden,
        vocab: shape.vocab,
        positions: length.max(512),
        head: if is_fine_tuning(row) { EncoderHead::Pooler } else { EncoderHead::MaskedLm },
        ..Encoder::bert()
    }
}

fn encoder_decoder(shape: &Transformer) -> EncoderDecoder {
    EncoderDecoder {
        name: shape.name.clone(),
        layers: shape.layers,
        decoder_layers: shape.layers,
        hidden: shape.hidden,
        heads: shape.heads,
        head_dim: shape.head_dim,
        ffn_hidden: shape.ffn_hidden,
        vocab: shape.vocab,
        gated: shape.gated,
        tied: shape.tied,
        ..EncoderDecoder::t5_small()
    }
}

/// Whether a row trains a task on top of a trained encoder: two numbers a token, or one answer a sample.
pub(super) fn is_fine_tuning(row: &Row) -> bool {
    let text = format!("{} {} {}", row.metric_name, row.model, row.notes).to_ascii_lowercase();
    says(&text, &["fine-tun", "finetun", "squad", "mrpc", "glue", "question answering"])
}

/// Whether the head of an encoder computes only the words that are predicted, as all but Megatron's models do.
fn gathers_predicted(row: &Row) -> bool {
    let family = parse::software(&row.framework).family;
    !is_fine_tuning(row)
        && !matches!(
            family,
            SoftwareFamily::MegatronLm
                | SoftwareFamily::MegatronCore
                | SoftwareFamily::MegatronDeepSpeed
                | SoftwareFamily::OneFlow
        )
}

/// What stands behind the last layer works on `kept` of the `length` positions.
fn restrict_head(model: &mut FoldedModel, length: u64, kept: u64) {
    let Some(last) = model.blocks.iter().rposition(|block| block.is_layer) else { return };
    for operator in model.blocks[last + 1..].iter_mut().flat_map(|block| &mut block.operators) {
        for ty in operator.inputs.iter_mut().chain([&mut operator.output]) {
            if let Some(first) = ty.dims.first_mut().filter(|extent| **extent == length) {
                *first = kept;
            }
        }
    }
}

/// A Transformer-XL by its name, and the tokens of a segment that it is trained with.
fn transformer_xl_of(name: &str) -> (TransformerXl, u64) {
    if name.ends_with("large") { (TransformerXl::large(), 384) } else { (TransformerXl::base(), 192) }
}

/// Transformer-XL as NVIDIA trains it: the memory is as long as the segment, the softmax adaptive.
fn transformer_xl(preset: TransformerXl, length: u64) -> Result<TrainedModel, Skip> {
    let vocab = preset.vocab;
    let graph = built(TransformerXl { memory_length: length, ..preset }.graph(length))?;
    let mut folded = FoldedModel::new(&graph);
    for operator in folded.blocks.iter_mut().flat_map(|block| &mut block.operators) {
        match &mut operator.kind {
            OpKind::Linear { outputs, .. } if *outputs == vocab => *outputs = ADAPTIVE_LOGITS,
            OpKind::CrossEntropy { classes, .. } => *classes = ADAPTIVE_LOGITS,
            _ => continue,
        }
        for ty in operator.inputs.iter_mut().chain([&mut operator.output]) {
            if let Some(last) = ty.dims.last_mut().filter(|extent| **extent == vocab) {
                *last = ADAPTIVE_LOGITS;
            }
        }
    }
    let trace = vec![
        TraceEntry { name: "sizes of the model".into(), value: "Dai et al. 2019".into(), origin: Origin::Datasheet },
        assumed("logits of a token", &ADAPTIVE_LOGITS),
    ];
    Ok(TrainedModel { folded, trace })
}
