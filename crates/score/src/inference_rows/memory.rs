//! Memory of a device that serves a batch.

use super::step::Machine;
use crate::parse::{Products, TransformerKind};

/// Buffers of a layer over its input: queries, keys and values, feed-forward width, copies.
const BUFFERS: u64 = 4;

/// Peak memory of the fullest device, GiB: weights, cache of keys and values, activations of one layer, logits, runtime.
/// `None` for an engine that takes what it can get.
pub(super) fn predicted_gib(machine: &Machine<'_>) -> Option<f64> {
    let request = machine.request;
    let runtime = request.engine.runtime_gib?;
    let model = &request.model;
    let (tp, pp) = (request.tp as f64, request.pp as f64);
    let element = machine.element() as f64;
    let weight = match request.precision.products {
        Products::Int8 | Products::Fp8 | Products::MxFp8 => 1.0,
        _ => element,
    };
    let matrices = if model.gated { 3 } else { 2 };
    let experts = model.experts.map_or(1, |mixture| mixture.experts);
    let inner = model.experts.map_or(model.ffn_hidden, |mixture| mixture.ffn_hidden);
    let attention = model.hidden * model.head_dim * (2 * model.heads + 2 * model.kv_heads);
    let layer = (attention + experts * matrices * model.hidden * inner) as f64;
    let layers = model.layers as f64 / pp;
    let decoder = model.kind == TransformerKind::Decoder;
    // The table of words and the head lie on different stages, or are one.
    let tables = (model.vocab * model.hidden) as f64 * if decoder && !model.tied && pp < 2.0 { 2.0 } else { 1.0 };
    let length = request.input + request.output;
    let cached = if decoder { 2 * request.batch * length * model.kv_heads * model.head_dim } else { 0 };
    let cache = cached as f64 * layers * element / tp;
    let activations = (request.batch * request.input * BUFFERS * (model.hidden + inner / request.tp)) as f64 * element;
    let logits = if decoder { (request.batch * model.vocab * 4) as f64 } else { 0.0 };
    let bytes = (layer * layers + tables) * weight / tp + cache + activations + logits;
    Some(bytes / (1u64 << 30) as f64 + runtime)
}
