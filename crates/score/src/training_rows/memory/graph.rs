//! Memory of convolutional and recurrent networks, by a walk over their operators.

use cutplane_graph::{DeviceSpec, ModelGraph};
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{Layout, Precision};
use cutplane_sim::footprint::{Keeping, of_model};

use super::{Counted, capacity_gib};
use crate::parse;
use crate::prediction::Skip;
use crate::profile::Profile;
use crate::row::Row;
use crate::training_rows::graph_row;

/// Bytes of a trainable number in 32-bit training with one moment (momentum, or the mean square of RMSprop): itself, its
/// gradient, the moment.
const STATE: f64 = 12.0;

/// State of so many trainable numbers, bytes.
pub(super) fn state_bytes(numbers: f64) -> f64 {
    numbers * STATE
}

/// The largest batch of `most` halved time and again whose step fits a device, down to one sample.
pub(in crate::training_rows) fn fitting_batch(graph: &ModelGraph, most: u64, narrow: bool, device: &DeviceSpec) -> u64 {
    let fits = |batch: &u64| {
        of_model(graph, &layout(1, *batch, narrow), &keeping())
            .is_ok_and(|footprint| footprint.verdict((device.memory_gib * super::GIB) as u64).fits)
    };
    std::iter::successors(Some(most), |batch| (*batch > 1).then_some(batch / 2)).find(fits).unwrap_or(1)
}

fn layout(replicas: u64, batch: u64, narrow: bool) -> Layout {
    Layout {
        dp: replicas.max(1),
        micro_batch: batch,
        global_batch: batch.saturating_mul(replicas.max(1)),
        precision: if narrow { Precision::AmpF16 } else { Precision::F32 },
        optimizer: Optimizer::Sgd,
        ..Layout::default()
    }
}

const fn keeping() -> Keeping {
    Keeping { workspace_bytes: 0.0, ..Keeping::PYTORCH_DDP }
}

/// The footprint of a row's network on one device.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn counted(row: &Row, profile: &Profile) -> Result<Counted, Skip> {
    let (graph, _) = graph_row(row, profile)?;
    if row.pp.is_some_and(|stages| stages > 1) {
        return Err(Skip::new("unsupported-memory", "stages of unlike operators"));
    }
    let autocast = parse::precision(&row.precision)?.is_some_and(|precision| precision.products.is_low());
    let layout = layout(graph.replicas, graph.micro_batch, autocast);
    let refused = |error: cutplane_sim::estimate::EstimateError| Skip::new("refused-layout", error.to_string());
    let footprint = of_model(&graph.network.graph, &layout, &keeping()).map_err(refused)?;
    let device = parse::device(&row.hardware)?;
    let trace = graph.trace;
    Ok(Counted { footprint, layout, capacity_gib: capacity_gib(row, device), reports_last_stage: false, trace })
}
