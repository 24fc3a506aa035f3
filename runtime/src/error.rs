//! What can go wrong while a program runs.

use cutplane_graph::Dtype;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::devices::NotReady;

/// A failed run, by its cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A program that is not of this model.
    #[error("the program's tensor axis does not fit the model: {0}")]
    Split(#[from] cutplane_graph::ModelError),
    /// A value that the graph does not expect, or of another shape.
    #[error("value '{value}': {problem}")]
    Value {
        /// Name of the value.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// A micro-batch was asked for that is not in flight.
    #[error("micro-batch {micro_batch} is not in flight: {problem}")]
    MicroBatch {
        /// The micro-batch.
        micro_batch: u64,
        /// What was asked of it.
        problem: &'static str,
    },
    /// A rank failed; the other ranks of the run were stopped.
    #[error("rank {rank}: {problem}")]
    Rank {
        /// The rank.
        rank: u32,
        /// Why.
        problem: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start the thread of rank {rank}: {problem}")]
    Thread {
        /// The rank.
        rank: usize,
        /// Why.
        problem: String,
    },
    /// A device that does not compute in the precision of the plan.
    #[error("{backend} does not compute in {precision}: plan with --precision f32, bf16 or f16, whichever it does")]
    Precision {
        /// The back end.
        backend: &'static str,
        /// What was asked for.
        precision: Dtype,
    },
    /// A card that cannot be computed on here and now.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Samples that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint that cannot be written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A device did not do what it was asked.
    #[error("the device failed: {problem}")]
    Device {
        /// What it answered.
        problem: String,
    },
    /// The user interrupted the run.
    #[error("interrupted")]
    Interrupted,
}
