//! How long one kernel takes on one device.
//!
//! A [`Kernel`] is a shape; a [`GpuModel`] is a datasheet ([`cutplane_graph::DeviceSpec`]) with a few named
//! [`Parameters`] of the device's family and libraries. Each formula is physics with those parameters: whole waves of
//! tiles for matrix products (`matmul.rs`), traffic through cache and memory for pointwise kernels (`memory.rs`), fused or
//! materialised attention (`attention.rs`), the best of a library's algorithms for convolutions (`convolution.rs`), steps that
//! wait for one another for recurrent layers (`recurrent.rs`).
//!
//! [`GpuModel::time`] is for the hot path; [`GpuModel::explain`] tells where every number comes from. [`fit`] fits the
//! parameters to measurements, held to their priors; `sim/data/kernels.toml` keeps what was fitted, on which rows, and
//! `sim/data/kernel-priors.toml` what is assumed of families that nobody measured.
//!
//! Times are of the device. A host that launches kernels one by one may be slower: [`GpuModel::launch_seconds`].

mod attention;
mod calibration;
mod convolution;
mod explain;
mod facts;
pub mod fit;
mod gpu;
mod matmul;
mod memory;
mod parameters;
mod precision;
mod recurrent;
mod shape;

pub use calibration::{Calibration, Spreads, calibrations, calibrations_of, calibrations_to_toml, prior_of};
pub use gpu::{GpuModel, KernelClass, Standing};
pub use parameters::{Parameters, Prior};
pub use precision::Precision;
pub use shape::{Attention, AttentionAlgorithm, Convolution, Kernel, Product, Recurrent, RecurrentCell, RowBlocks};
