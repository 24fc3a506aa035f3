//! Memory of convolutional and recurrent networks, by a walk over their operators.

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
    let layout = Layout {
        dp: graph.replicas.max(1),
        micro_batch: graph.micro_batch,
        global_batch: graph.micro_batch.saturating_mul(graph.replicas.max(1)),
        precision: if autocast { Precision::AmpF16 } else { Precision::F32 },
        optimizer: Optimizer::Sgd,
        ..Layout::default()
    };
    let keeping = Keeping { workspace_bytes: 0.0, ..Keeping::PYTORCH_DDP };
    let refused = |error: cutplane_sim::estimate::EstimateError| Skip::new("refused-layout", error.to_string());
    let footprint = of_model(&graph.network.graph, &layout, &keeping).map_err(refused)?;
    let device = parse::device(&row.hardware)?;
    let trace = graph.trace;
    Ok(Counted { footprint, layout, capacity_gib: capacity_gib(row, device), reports_last_stage: false, trace })
}
