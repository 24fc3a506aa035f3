//! Operations of a step, counted as sources of throughput tables do: matrix products and attention, the causal half
//! included.

use cutplane_graph::OpKind;
use cutplane_sim::estimate::{FoldedModel, Layout, Operator, Recompute};

/// Operations of one step over all devices: the model's own (forward, and twice that backward), and those executed with
/// what full recomputation repeats (Narayanan et al. 2021, appendix: `96 B s L h^2 (1 + s / 6 h + V / 16 L h)`).
///
/// `attended` is the share of a causal attention's pairs that is counted: 1 by convention, a half in NeMo since its core.
pub(super) fn of_step(model: &FoldedModel, layout: &Layout, attended: f64) -> (f64, f64) {
    let (mut layers, mut others) = (0.0, 0.0);
    for block in &model.blocks {
        let forward: f64 =
            block.operators.iter().map(|operator| forward(operator, attended)).sum::<f64>() * block.repeats as f64;
        if block.is_layer {
            layers += forward;
        } else {
            others += forward;
        }
    }
    let repeated = match layout.recompute {
        Recompute::Full => 1.0,
        Recompute::Layers(some) => (some * layout.pp) as f64 / model.layers().max(1) as f64,
        Recompute::None | Recompute::Selective => 0.0,
    };
    let samples = layout.global_batch as f64;
    // Of frozen weights there are no gradients.
    let passes = if layout.frozen { 2.0 } else { 3.0 };
    (passes * (layers + others) * samples, ((passes + repeated.min(1.0)) * layers + passes * others) * samples)
}

/// Forward operations of a sample.
fn forward(operator: &Operator, attended: f64) -> f64 {
    let rows = operator.output.rows(1) as f64;
    match &operator.kind {
        OpKind::Linear { inputs, outputs, .. } => 2.0 * rows * (*inputs * *outputs) as f64,
        OpKind::ExpertLinear(expert) => 2.0 * rows * (expert.inputs * expert.outputs) as f64,
        OpKind::Attention(attention) => {
            let keys = operator.inputs.get(1).or(operator.inputs.first()).and_then(|ty| ty.dims.first());
            let counted = if attention.causal { attended } else { 1.0 };
            4.0 * counted * rows * keys.copied().unwrap_or(1) as f64 * (attention.heads * attention.head_dim) as f64
        }
        _ => 0.0,
    }
}
