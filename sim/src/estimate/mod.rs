//! The closed form of a training step: time of one optimizer step of a model under a parallel layout on a cluster, at any
//! scale, with its breakdown.

mod error;
mod layout;

pub use error::EstimateError;
pub use layout::{
    AttentionKernel, GradientSync, Layout, Offload, PipelineSchedule, Precision, Recompute, ServerPlacement, Zero,
    ZeroStage,
};
