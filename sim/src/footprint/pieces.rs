//! A model as pieces: what stands before the layers, runs of equal layers, what stands behind.

use super::keeping::Keeping;
use super::layer::{LayerBytes, Tokens, layer_bytes};
use super::shape::{Counting, Form, Numbers, TransformerShape};
use crate::estimate::{Layout, Precision};

/// Equal layers in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) numbers: Numbers,
    pub(super) bytes: LayerBytes,
    pub(super) repeats: u64,
}

/// What stands before or behind the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct End {
    pub(super) numbers: Numbers,
    /// Bytes kept for a micro-batch.
    pub(super) kept: f64,
}

/// A model in pieces, on one rank.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pieces {
    pub(super) before: End,
    pub(super) layers: Vec<Run>,
    pub(super) behind: End,
    /// Numbers that the first and the last stage both hold, when they are two.
    pub(super) tied: f64,
    /// Bytes that the loss of a micro-batch needs while it is computed.
    pub(super) loss: f64,
    /// Bytes of a value between two layers.
    pub(super) message: f64,
    /// Share of the numbers that have gradients and optimizer state.
    pub(super) trained: f64,
    /// Ranks that hold equal copies of an expert.
    pub(super) expert_replicas: u64,
}

/// A transformer in pieces.
pub(super) fn of_transformer(shape: &TransformerShape, layout: &Layout, keeping: &Keeping) -> Pieces {
    let counting = Counting { shape, layout, keeping };
    let samples = layout.micro_batch as f64 / layout.cp as f64;
    let rows = samples * shape.sequence_length as f64;
    let last_rows = match shape.form {
        Form::EncoderDecoder { target_length } => samples * target_length as f64,
        Form::Decoder | Form::Encoder => rows,
    };
    let layers = runs(&counting, rows, last_rows);
    let message = layers.first().map_or(0.0, |run| run.bytes.input);
    let element = layout.precision.activation_bytes() as f64;
    let dropped = if keeping.dropout { message / element } else { 0.0 };
    let norm = 2.0 * message * last_rows / rows.max(1.0);
    // BERT's transform of the last layer's output, with its activation and norm.
    let transform = if shape.form == Form::Encoder { 4.0 * element * rows * shape.hidden as f64 } else { 0.0 };
    let words = keeping.padded_vocabulary(shape.vocab, layout.tp) as f64 / layout.tp as f64;
    let dense = |dense: f64| Numbers { dense, experts: 0.0 };
    Pieces {
        before: End { numbers: dense(counting.before()), kept: dropped },
        layers,
        behind: End { numbers: dense(counting.behind()), kept: norm + transform },
        tied: if shape.tied { counting.table() } else { 0.0 },
        loss: last_rows * words * loss_bytes(layout.precision, keeping),
        message,
        trained: shape.trained,
        expert_replicas: expert_replicas(layout, counting.expert_tensor_parallel()),
    }
}

fn runs(counting: &Counting<'_>, rows: f64, last_rows: f64) -> Vec<Run> {
    let (shape, length) = (counting.shape, counting.shape.sequence_length as f64);
    let run = |tokens: Tokens, crossed: bool| Run {
        numbers: counting.layer(crossed),
        bytes: layer_bytes(shape, tokens, counting.layout, counting.keeping),
        repeats: shape.layers,
    };
    let plain = run(Tokens { rows, keys: length, crossed: [0.0; 2] }, false);
    match shape.form {
        Form::Decoder | Form::Encoder => vec![plain],
        Form::EncoderDecoder { target_length } => {
            let tokens = Tokens { rows: last_rows, keys: target_length as f64, crossed: [length, rows] };
            vec![plain, run(tokens, true)]
        }
    }
}

/// Bytes of a logit at the peak of the loss; with 32-bit logits, those and their gradients.
pub(super) fn loss_bytes(precision: Precision, keeping: &Keeping) -> f64 {
    if keeping.loss_bytes_per_logit > 0.0 && !precision.is_mixed() { 8.0 } else { keeping.loss_bytes_per_logit }
}

/// Ranks that hold equal copies of an expert: all of a stage, but for those that share it or hold others.
pub(super) fn expert_replicas(layout: &Layout, expert_tp: f64) -> u64 {
    let ranks = layout.dp as f64 * layout.cp as f64 * layout.tp as f64;
    ((ranks / (layout.ep as f64 * expert_tp)) as u64).max(1)
}
