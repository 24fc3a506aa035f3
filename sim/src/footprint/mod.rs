//! Peak memory of a device in a training step, by part and by pipeline stage, in closed form.
//!
//! [`of_transformer`] counts a transformer from its sizes, as frameworks keep it: which tensors each operator saves for its
//! backward pass, what tensor, sequence, context and expert parallelism leave on a rank, how many micro-batches each
//! schedule holds on each stage, what recomputation drops. [`of_model`] does the same for any model by walking its
//! operators. Neither measures anything: what a framework keeps is written down in [`Keeping`].
//!
//! What one device holds at its peak ([`Parts`]): weights, gradients and optimizer state ([`StateBytes`], sharded as ZeRO
//! does), weights gathered for a moment (ZeRO-3), activations of the layers in flight, activations of what stands before
//! and behind the layers, the spike of the moment (the logits of the loss in 32 bits, a layer's backward pass, a step of
//! the optimizer), messages of the pipeline, communication buckets, and the workspaces of libraries.
//!
//! ```
//! use cutplane_sim::estimate::Layout;
//! use cutplane_sim::footprint::{Keeping, TransformerShape, of_transformer};
//! let gpt3 = TransformerShape::gpt(96, 12_288, 96, 51_200, 2_048);
//! let layout = Layout { tp: 8, pp: 16, dp: 8, global_batch: 1_536, ..Layout::default() };
//! let footprint = of_transformer(&gpt3, &layout, &Keeping::MEGATRON_LM)?;
//! assert!(footprint.verdict(80 << 30).fits);
//! # Ok::<(), cutplane_sim::estimate::EstimateError>(())
//! ```

mod assemble;
mod counter;
mod keeping;
mod layer;
mod parts;
mod pieces;
mod shape;
mod state;
mod walk;

#[cfg(test)]
mod tests;

pub use assemble::in_flight;
pub use counter::Counter;
pub use keeping::{Keeping, Master, Recomputed};
pub use layer::{Tokens, layer_bytes};
pub use parts::{Footprint, Moment, Parts, StageFootprint, Verdict};
pub use shape::{ExpertShape, Form, TransformerShape};
pub use state::{ModelState, StateBytes, model_state};

use cutplane_graph::ModelGraph;

use crate::estimate::{EstimateError, Layout, splits};

/// Peak memory of a training step of a transformer.
///
/// # Errors
/// [`EstimateError::Inconsistent`] when degrees are zero or out of range, or there are more chunks than layers.
pub fn of_transformer(
    shape: &TransformerShape,
    layout: &Layout,
    keeping: &Keeping,
) -> Result<Footprint, EstimateError> {
    assemble::check(layout)?;
    assemble::assemble(&pieces::of_transformer(shape, layout, keeping), layout, keeping)
}

/// Peak memory of a training step of any model, by a walk over its operators: each keeps what its kind needs for the
/// backward pass.
///
/// # Errors
/// As [`of_transformer`].
pub fn of_model(model: &ModelGraph, layout: &Layout, keeping: &Keeping) -> Result<Footprint, EstimateError> {
    assemble::check(layout)?;
    assemble::assemble(&walk::pieces(model, &splits(model), layout, keeping), layout, keeping)
}
