//! What can be wrong with the name or file of a model or cluster.

use std::path::PathBuf;

use cutplane_graph::placement::PlacementError;
use cutplane_graph::{DeviceGraphError, ModelError};
use thiserror::Error;

/// A model or cluster that cannot be made; each message names file or argument, field, and remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ZooError {
    /// Neither a built-in model nor a path.
    #[error(
        "'{argument}' is neither a built-in model nor a file: built in are {known}; or give the path of a Hugging Face config.json or of an ONNX file"
    )]
    UnknownModel {
        /// What was given.
        argument: String,
        /// The built-in names.
        known: String,
    },
    /// A built-in name that this build does not know, in a plan of another build.
    #[error("field 'model.source.name' is '{name}', which is not built in: built in are {known}")]
    UnknownBuiltIn {
        /// What was given.
        name: String,
        /// The built-in names.
        known: String,
    },
    /// The operating system refused to read a file.
    #[error("{path}: cannot read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not JSON.
    #[error("{origin}: not JSON: {source}; is the file whole?")]
    Json {
        /// The file.
        origin: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field that is missing, has the wrong type or an impossible value.
    #[error("{origin}: field '{field}' {problem}: {remedy}")]
    Field {
        /// The file, or the name of a built-in model.
        origin: String,
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The sizes are possible one by one, but not as a graph.
    #[error("{origin}: {source}")]
    Model {
        /// The file, or the name of a built-in model.
        origin: String,
        /// What is wrong.
        source: ModelError,
    },
    /// A cluster argument in none of the known forms.
    #[error("cluster '{argument}': {problem}: {remedy}")]
    Cluster {
        /// What was given.
        argument: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A cluster file that is not the TOML of a cluster.
    #[error("{path}: not a cluster: {source}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A cluster file whose graph is malformed.
    #[error("{path}: {source}", path = path.display())]
    DeviceGraph {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DeviceGraphError,
    },
    /// An ONNX graph that cannot be read.
    #[error("{origin}: node {node}: {problem}")]
    Onnx {
        /// The file.
        origin: String,
        /// Name and operator of the node, or the part of the file.
        node: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A checkpoint that cannot be read.
    #[error(transparent)]
    Weights(crate::weights::WeightError),
    /// A placement workload whose parts do not make a problem.
    #[error("{origin}: {source}")]
    Placement {
        /// The file.
        origin: String,
        /// What is wrong, and the remedy.
        source: PlacementError,
    },
}
