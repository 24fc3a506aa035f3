//! The layout of a row, as far as memory goes.

use cutplane_graph::DeviceSpec;
use cutplane_sim::estimate::{AttentionKernel, Layout, PipelineSchedule, Recompute};

use super::LADDER;
use super::recipe::Recipe;
use crate::metric::{Metric, Quantity};
use crate::parse::{self, SoftwareFamily};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;
use crate::training_rows::language;

/// Micro-batches of a replica in a release run of Megatron that does not say its devices. With [`MOST_REPLICAS`] found from
/// the two drawn rows of `megatron_ci_golden` that it decides.
const MICRO_BATCHES: u64 = 32;
/// Most replicas of such a run.
const MOST_REPLICAS: u64 = 16;
/// Devices of a functional test of Megatron that does not say them: one node, or two of four.
const TEST_DEVICES: u64 = 8;

/// A layout, and what may be recomputed where the row does not say.
pub(super) struct MemoryPlan {
    pub(super) layout: Layout,
    pub(super) usual_recompute: &'static [Recompute],
    /// Whether a step that was timed may have sharded its optimizer without the row's saying so, as Megatron-Core's recipes do.
    pub(super) may_shard_optimizer: bool,
    pub(super) trace: Vec<TraceEntry>,
}

impl MemoryPlan {
    /// # Errors
    /// [`Skip`] where a column is not understood, or degrees and batch do not fit together.
    pub(super) fn of(row: &Row, recipe: &Recipe, device: &DeviceSpec) -> Result<Self, Skip> {
        if row.micro_batch.is_none() && row.global_batch > row.dp.or(row.gpus) {
            return Err(Skip::new("missing-micro-batch", "column 'micro_batch': memory goes with it"));
        }
        let (completed, mut trace) = completed(row, recipe);
        let planned = language::layout(&completed, device)?;
        trace.extend(planned.trace);
        let mut layout = planned.layout;
        if recipe.has_local_layers() || recipe.predates_fused_attention(row) {
            layout.attention = AttentionKernel::Materialised;
        }
        let chunks = row.vpp.unwrap_or(1);
        if chunks > 1 && layout.pp > 1 {
            (layout.vpp, layout.schedule) = (chunks, PipelineSchedule::Interleaved);
        }
        let replicas = layout.dp.saturating_mul(layout.cp);
        if recipe.says(&["multi_dist_optimizer_instances"]) && replicas.is_multiple_of(2) {
            layout.zero.shard_group = Some(replicas / 2);
        }
        let layers = row.layers.unwrap_or(0);
        if recipe.is_megatron() && layout.pp > 1 && !layers.is_multiple_of(layout.pp.saturating_mul(layout.vpp)) {
            let detail = format!("{layers} layers on {} stages of {} chunks", layout.pp, layout.vpp);
            return Err(Skip::new("unknown-stage-split", detail));
        }
        let stated = parse::recompute(&completed.recompute)?.is_some();
        let timed = !matches!(Metric::of(row)?.quantity, Quantity::OutOfMemory);
        let usual_recompute = if timed && !stated { LADDER } else { &[] };
        let unstated = parse::sharding(&row.zero_stage_or_fsdp)?.is_none();
        let may_shard_optimizer = timed && unstated && recipe.family == SoftwareFamily::MegatronCore;
        Ok(Self { layout, usual_recompute, may_shard_optimizer, trace })
    }
}

/// The row with replicas, where a recipe of Megatron leaves them open.
fn completed(row: &Row, recipe: &Recipe) -> (Row, Vec<TraceEntry>) {
    let mut row = row.clone();
    // What only another's example does is no statement of this run.
    if row.recompute.contains("not restated") {
        row.recompute.clear();
    }
    let open = row.gpus.is_none() && row.dp.is_none();
    if !open || !recipe.is_megatron() {
        return (row, Vec::new());
    }
    let ranks = [row.tp, row.pp, row.cp].iter().flatten().fold(1_u64, |all, axis| all.saturating_mul(*axis)).max(1);
    let micro_batch = row.micro_batch.unwrap_or(1).max(1);
    let samples = row.global_batch.map(|batch| batch / micro_batch);
    let wanted = match samples {
        _ if recipe.is_functional_test => (TEST_DEVICES / ranks).max(1),
        Some(samples) => (samples / MICRO_BATCHES).clamp(1, MOST_REPLICAS),
        None => MOST_REPLICAS,
    };
    // A step is a whole number of micro-batches.
    let divides = |replicas: &u64| samples.is_none_or(|samples| samples.is_multiple_of(*replicas));
    let dp = (1..=wanted).rev().find(divides).unwrap_or(1);
    row.dp = Some(dp);
    row.gpus = Some(dp.saturating_mul(ranks));
    row.global_batch = row.global_batch.or(Some(dp.saturating_mul(micro_batch).saturating_mul(MICRO_BATCHES)));
    let trace = TraceEntry { name: "replicas".into(), value: dp.to_string(), origin: Origin::Assumed };
    (row, vec![trace])
}
