//! The closed form of a training step: time of one optimizer step of a model under a parallel layout on a cluster, at any
//! scale, with its breakdown.

mod chunks;
mod error;
mod layout;
mod mesh;
mod model;
pub mod pipeline;
mod price;
mod program;
mod sharding;
mod stack;
mod stage;
mod stages;
mod step;
mod sync;
mod work;

pub use error::EstimateError;
pub use layout::{
    AttentionKernel, GradientSync, Layout, Offload, PipelineSchedule, Precision, Recompute, ServerPlacement, Zero,
    ZeroStage,
};
pub(crate) use model::splits;
pub use model::{Block, FoldedModel, Operator, Split};
pub use stack::{Stack, Trait, known_stacks};
pub(crate) use stages::StagePrice;
pub use step::{Breakdown, Estimator, StepEstimate};
pub use work::{Passes, Work};

use crate::kernel::GpuModel;
use crate::network::Fabric;

/// One training step to estimate.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What is trained.
    pub model: &'a FoldedModel,
    /// How it is spread.
    pub layout: &'a Layout,
    /// On which device.
    pub gpu: &'a GpuModel,
    /// Joined by what.
    pub fabric: &'a Fabric,
    /// With which software.
    pub stack: &'a Stack,
}

/// Estimates one step.
///
/// # Errors
/// [`EstimateError`].
pub fn estimate(job: &Job<'_>) -> Result<StepEstimate, EstimateError> {
    Estimator::new(job.model, job.gpu, job.fabric, job.stack).estimate(job.layout)
}
