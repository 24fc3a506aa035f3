//! Parallel degrees and batch of a training row, completed where arithmetic leaves no choice.

use serde::Serialize;

use super::sharding::sharding;
use super::software::{SoftwareFamily, software};
use crate::prediction::Skip;
use crate::row::Row;

/// Parallel degrees and batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Degrees {
    /// Devices.
    pub gpus: u64,
    /// Devices of a node, where the row says.
    pub gpus_per_node: Option<u64>,
    /// Replicas.
    pub dp: u64,
    /// Ranks that share every layer.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Model chunks a device.
    pub vpp: u64,
    /// Ranks that share every sequence.
    pub cp: u64,
    /// Ranks that share the experts.
    pub ep: u64,
    /// Samples in a micro-batch of one replica.
    pub micro_batch: u64,
    /// Samples in a step over all replicas.
    pub global_batch: u64,
    /// Columns that were filled by an assumption, not by arithmetic.
    pub assumed: Vec<&'static str>,
}

impl Degrees {
    /// Micro-batches that a replica works through in a step.
    pub const fn micro_batches(&self) -> u64 {
        self.global_batch / (self.micro_batch * self.dp)
    }
}

/// Reads degrees and batch of a row.
///
/// A degree that is empty follows from the product of the others, or is 1 when the product already equals the devices. Of
/// a row with no degrees at all that shards nothing but data, every device is a replica. Without a micro-batch, a
/// replica's share of the batch is one (`pp` 1 only); without a global batch, a step is one micro-batch of each replica.
/// The latter are listed in [`Degrees::assumed`].
///
/// # Errors
/// [`Skip`] `missing-gpus`, `missing-layout`, `layout-contradicts-gpus`, `missing-batch`, `batch-does-not-divide`.
pub fn degrees(row: &Row) -> Result<Degrees, Skip> {
    let mut assumed = Vec::new();
    let (dp, tp, pp, cp) = axes(row, &mut assumed)?;
    let (micro_batch, global_batch) = batch(row, dp, pp, &mut assumed)?;
    Ok(Degrees {
        gpus: dp * tp * pp * cp,
        gpus_per_node: row.gpus_per_node,
        dp,
        tp,
        pp,
        vpp: row.vpp.unwrap_or(1),
        cp,
        ep: row.ep.unwrap_or(1),
        micro_batch,
        global_batch,
        assumed,
    })
}

/// `dp, tp, pp, cp`.
fn axes(row: &Row, assumed: &mut Vec<&'static str>) -> Result<(u64, u64, u64, u64), Skip> {
    let given = [row.dp, row.tp, row.pp, row.cp];
    let known: u64 = given.iter().flatten().product();
    let gpus = match row.gpus {
        Some(gpus) => gpus,
        None if row.dp.is_some() && row.tp.is_some() => known,
        None => return Err(Skip::new("missing-gpus", "columns 'gpus' and 'dp' are empty")),
    };
    let contradiction = || {
        let texts = ["dp", "tp", "pp", "cp"].iter().zip(given);
        let said: Vec<String> = texts.filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
        Skip::new("layout-contradicts-gpus", format!("{} on {gpus} devices", said.join(", ")))
    };
    if known > gpus || !gpus.is_multiple_of(known) {
        return Err(contradiction());
    }
    let rest = gpus / known;
    let ones = |dp: u64| (dp, row.tp.unwrap_or(1), row.pp.unwrap_or(1), row.cp.unwrap_or(1));
    match row.dp {
        Some(dp) if rest == 1 => Ok(ones(dp)),
        Some(dp) => fill_one(row, dp, rest).ok_or_else(contradiction),
        None => {
            let stated = row.tp.is_some() || row.pp.is_some() || rest == 1;
            let data_only = sharding(&row.zero_stage_or_fsdp)?.is_some() || is_data_parallel(row);
            if !stated && !data_only {
                return Err(Skip::new("missing-layout", format!("{gpus} devices, and no parallel degree")));
            }
            if row.tp.is_none() || row.pp.is_none() {
                assumed.push("tp, pp");
            }
            Ok(ones(rest))
        }
    }
}

/// Software that cuts nothing but the data unless it is told to.
fn is_data_parallel(row: &Row) -> bool {
    use SoftwareFamily::{DeepSpeed, Pytorch, PytorchFsdp};
    matches!(software(&row.framework).family, DeepSpeed | Pytorch | PytorchFsdp)
}

/// With data parallelism given, the one other empty degree takes what is left.
fn fill_one(row: &Row, dp: u64, rest: u64) -> Option<(u64, u64, u64, u64)> {
    match (row.tp, row.pp, row.cp) {
        (None, Some(pp), cp) => Some((dp, rest, pp, cp.unwrap_or(1))),
        (Some(tp), None, cp) => Some((dp, tp, rest, cp.unwrap_or(1))),
        (Some(tp), Some(pp), None) => Some((dp, tp, pp, rest)),
        _ => None,
    }
}

/// `micro_batch, global_batch`.
fn batch(row: &Row, dp: u64, pp: u64, assumed: &mut Vec<&'static str>) -> Result<(u64, u64), Skip> {
    let (micro, global) = match (row.micro_batch, row.global_batch) {
        (Some(micro), Some(global)) => (micro, global),
        (None, Some(global)) if pp == 1 && global.is_multiple_of(dp) => {
            assumed.push("micro_batch");
            (global / dp, global)
        }
        (Some(micro), None) if pp == 1 => {
            assumed.push("global_batch");
            (micro, micro.saturating_mul(dp))
        }
        _ => return Err(Skip::new("missing-batch", "columns 'micro_batch' and 'global_batch' do not tell the batch")),
    };
    match micro.checked_mul(dp) {
        Some(samples) if global.is_multiple_of(samples) => Ok((micro, global)),
        // The micro-batch of some tables is a device's batch in a step that accumulates nothing.
        _ => Err(Skip::new(
            "batch-does-not-divide",
            format!("global batch {global} is no multiple of micro-batch {micro} on {dp} replicas"),
        )),
    }
}
