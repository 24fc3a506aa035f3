//! Shards that travel while layers compute: of parameters and gradients (FSDP, ZeRO-3), of gradients that sum over
//! micro-batches (ZeRO-2).

use super::layout::{GradientSync, Layout, ZeroStage};
use super::mesh::{Holders, Mesh};
use super::stack::{Stack, Trait};
use crate::network::Collective;

/// Communication of a unit's shards that computation does not hide, s for one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Exposed {
    pub(super) forward: f64,
    pub(super) backward: f64,
}

/// One unit that is gathered as a whole: a repeated layer, or what stands between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// Trainable numbers that a tensor-parallel rank needs.
    pub(super) parameters: f64,
    /// Computation forward and backward, s.
    pub(super) forward: f64,
    pub(super) backward: f64,
    /// Instances.
    pub(super) count: f64,
}

/// What sharding of parameters (ZeRO-3, Rajbhandari et al. 2020, section 7.2.2: gather, gather again, scatter) adds to the
/// passes over `units`. A unit's gather runs beside the unit before it; the scatter of its gradients beside the next one's
/// backward pass. The first gather and the last scatter are exposed.
///
/// Of several micro-batches, ZeRO-2 scatters the gradients of each, since a rank keeps the sum of its own shard alone
/// (section 5.2 there: gradients are reduced as they become available and released).
pub(super) fn exposed(units: &[Unit], layout: &Layout, mesh: &Mesh<'_>, stack: &Stack) -> Exposed {
    let ranks = layout.shard_ranks();
    let gathers = layout.zero.stage == ZeroStage::Three;
    if ranks == 1 || !(gathers || scatters_each(layout)) {
        return Exposed::default();
    }
    let weight = layout.precision.activation_bytes() as f64;
    let moved = |collective, bytes: f64| {
        let wire = mesh.shards(Holders::All, collective, bytes, ranks);
        wire.max(bytes / (stack.shard_gb_per_s * 1e9))
    };
    let gather = |unit: &Unit| if gathers { moved(Collective::AllGather, unit.parameters * weight) } else { 0.0 };
    let scatter = |unit: &Unit| moved(Collective::ReduceScatter, unit.parameters * gradient_bytes(layout, stack));
    let overlaps = if gathers { stack.has(Trait::Prefetches) } else { overlaps_gradients(layout, stack) };
    let mut total = Exposed::default();
    // Chunks of equal layers hold equal units: each collective is priced once.
    let mut known: Vec<(f64, f64, f64)> = Vec::new();
    for unit in units {
        let same = known.iter().find(|(parameters, ..)| *parameters == unit.parameters).copied();
        let (_, gathered, scattered) = same.unwrap_or_else(|| {
            let priced = (unit.parameters, gather(unit), scatter(unit));
            known.push(priced);
            priced
        });
        total.forward += unit.count * beside(unit.forward, gathered, overlaps, stack);
        total.backward += unit.count * beside(unit.backward, gathered + scattered, overlaps, stack);
    }
    if let Some(first) = units.iter().find(|unit| unit.count > 0.0 && (gathers || overlaps)) {
        total.forward += gather(first);
        total.backward += scatter(first);
    }
    total
}

/// Whether the gradients of every micro-batch are scattered: ZeRO-2, where there are several.
pub(super) fn scatters_each(layout: &Layout) -> bool {
    let all_reduces = matches!(layout.gradient_sync, GradientSync::AllReduce { .. });
    layout.zero.stage == ZeroStage::Two && layout.micro_batches() > 1 && all_reduces && !layout.frozen
}

/// Whether gradients travel beside backward passes.
pub(super) fn overlaps_gradients(layout: &Layout, stack: &Stack) -> bool {
    match layout.gradient_sync {
        GradientSync::AllReduce { overlapped } => overlapped.unwrap_or(stack.has(Trait::OverlapsGradients)),
        GradientSync::ParameterServer { .. } => false,
    }
}

/// What communication adds to computation that runs beside it: the rest that does not fit, what the stack never hides, and
/// the slowdown while both run.
fn beside(computation: f64, communication: f64, overlaps: bool, stack: &Stack) -> f64 {
    if !overlaps {
        return communication;
    }
    let hidden = communication.min(computation) * (1.0 - stack.exposed_shards);
    (communication - hidden).max(hidden * (stack.overlap_slowdown - 1.0))
}

/// Bytes of a gradient on the wire.
pub(super) fn gradient_bytes(layout: &Layout, stack: &Stack) -> f64 {
    if layout.precision.is_mixed() { stack.gradient_bytes } else { 4.0 }
}
