//! What can be wrong with a problem of stages, or with its answer.

use std::path::PathBuf;

use thiserror::Error;

/// Why a problem of stages has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StagesError {
    /// The operating system refused.
    #[error("{path}: cannot read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no such file.
    #[error(
        "{origin}: not a workload of stages: {source}; give JSON with maxDevices, maxMemoryPerDevice, bandwidth, \
         mbsInBatch, nodes with TMPCs, edges"
    )]
    Json {
        /// The file.
        origin: String,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A field of a file does not make sense.
    #[error("{origin}: {field}: {problem}")]
    Field {
        /// The file.
        origin: String,
        /// The field.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No layers, or too many.
    #[error("{count} layers: give 1 to {most}; join layers that need not be cut apart", most = super::MOST_STAGED_LAYERS)]
    Layers {
        /// How many there are.
        count: usize,
    },
    /// Devices, memory, bandwidth or micro-batches are not positive.
    #[error("devices, memory, bandwidth and micro-batches: give finite numbers above zero")]
    Machine,
    /// A layer without variants, or with wrong ones.
    #[error("layer '{name}': give at least one variant, degrees from 1, finite amounts of zero or more")]
    Layer {
        /// Its name.
        name: String,
    },
    /// An edge that leads nowhere, or a negative amount on it.
    #[error("the edge from layer {from} to layer {to}: join two layers that are there, with zero bytes or more")]
    Edge {
        /// Position of its first layer.
        from: usize,
        /// Position of its last layer.
        to: usize,
    },
    /// Layers that wait for each other.
    #[error("layers wait for each other in a circle: remove one of its edges")]
    Cycle,
    /// A graph with too many ways to cut it.
    #[error("the graph can be cut in more than {most} ways: join layers that need not be cut apart")]
    Cuts {
        /// Most that are tried.
        most: usize,
    },
    /// Stages that are no plan of the problem.
    #[error("not a plan of this problem: {problem}")]
    Plan {
        /// What is wrong.
        problem: String,
    },
    /// Nothing fits.
    #[error("no cut fits into {devices} devices of {memory:.3e} bytes: give more or larger devices")]
    Infeasible {
        /// Number of devices.
        devices: u64,
        /// Memory of one, bytes.
        memory: f64,
    },
}
