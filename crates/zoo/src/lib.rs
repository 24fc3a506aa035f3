//! Models and clusters by name or by file, and the text to train on.
//!
//! - [`source_from_argument`] reads what a user wrote — a built-in name, or the path of a Hugging Face `config.json` —
//!   into a [`cutplane_graph::ModelSource`], and [`build`] makes the graph of it. A plan carries the source, so the same
//!   graph can be made again anywhere.
//! - [`cluster`] does the same for devices: `cpu:2`, `dgx-h100:16`, `a100-80gb:8`, or a TOML file.
//! - [`DEFAULT_TEXT`] is a small public-domain text.
//!
//! Dropout is not part of any model: a step is a function of parameters and data alone, so that two partitions of one
//! model can be compared number by number.
//!
//! ```
//! use cutplane_zoo::{build, source_from_argument};
//! let source = source_from_argument("gpt2", Some(128), Default::default())?;
//! assert_eq!(build(&source)?.parameter_count(), 124_439_808);
//! # Ok::<(), cutplane_zoo::ZooError>(())
//! ```

mod builtin;
mod cluster;
mod error;
mod huggingface;
mod limits;
mod onnx;
mod placement;
mod recipe;
pub mod recurrent;
mod source;
pub mod topology;
pub mod transformer;
pub mod vision;
pub mod weights;

pub use builtin::{BuiltInModel, Family, built_in_models};

pub use cluster::{
    ClusterForm, Price, cluster, cluster_forms, cluster_from_text, device_from_hardware_text, device_of_product,
    devices, price, suggested_devices,
};
pub use error::ZooError;
pub use huggingface::hugging_face_types;
pub use onnx::{OnnxModel, OnnxOptions, onnx_from_bytes, onnx_operators, read_onnx};
pub use placement::{placement_from_str, read_placement};
pub use source::{build, checkpoint, onnx_source, source_from_argument};

/// A small public-domain English text to train on, ASCII; `data/README.md` says what it is.
pub const DEFAULT_TEXT: &str = include_str!("../data/text.txt");
