//! Shards of parameters that travel while layers compute: FSDP, ZeRO-3.

use super::layout::{Layout, ZeroStage};
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
pub(super) fn exposed(units: &[Unit], layout: &Layout, mesh: &Mesh<'_>, stack: &Stack) -> Exposed {
    let ranks = layout.shard_ranks();
    if layout.zero.stage != ZeroStage::Three || ranks == 1 {
        return Exposed::default();
    }
    let weight = layout.precision.activation_bytes() as f64;
    let moved = |collective, bytes: f64| {
        let wire = mesh.shards(Holders::All, collective, bytes, ranks);
        wire.max(bytes / (stack.shard_gb_per_s * 1e9))
    };
    let gather = |unit: &Unit| moved(Collective::AllGather, unit.parameters * weight);
    let scatter = |unit: &Unit| moved(Collective::ReduceScatter, unit.parameters * gradient_bytes(layout, stack));
    let mut total = Exposed::default();
    for unit in units {
        total.forward += unit.count * beside(unit.forward, gather(unit), stack);
        total.backward += unit.count * beside(unit.backward, gather(unit) + scatter(unit), stack);
    }
    if let Some(first) = units.iter().find(|unit| unit.count > 0.0) {
        total.forward += gather(first);
        total.backward += scatter(first);
    }
    total
}

/// What communication adds to computation that runs beside it: the rest that does not fit, what the stack never hides, and
/// the slowdown while both run.
fn beside(computation: f64, communication: f64, stack: &Stack) -> f64 {
    if !stack.has(Trait::Prefetches) {
        return communication;
    }
    let hidden = communication.min(computation) * (1.0 - stack.exposed_shards);
    (communication - hidden).max(hidden * (stack.overlap_slowdown - 1.0))
}

/// Bytes of a gradient on the wire.
pub(super) fn gradient_bytes(layout: &Layout, stack: &Stack) -> f64 {
    if layout.precision.is_mixed() { stack.gradient_bytes } else { 4.0 }
}
