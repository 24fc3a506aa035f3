//! The runtime: executes a lowered program on real devices, and measures what the simulator predicts from.
//!
//! - [`ops`]: the operators of a model graph, interpreted on Burn tensors.
//! - [`segment`]: one segment of one rank: forward, backward as a vector-Jacobian product at its boundary, gradients.
//! - [`optimizer`]: update rules. [`init`]: initial weights that are the same under every plan.
//! - [`backend`]: the device, and ranks pinned to cores. [`memory`]: live and peak bytes of a rank.
//! - [`devices`]: what this machine has to compute with, found without computing.
//! - [`comm`]: messages and collectives between ranks. [`exec`]: the interpreter of a rank's program.
//! - [`checkpoint`]: the state of a run in files, for any plan to go on from.
//! - [`data`]: text, tokens and pictures to micro-batches. [`profile`]: what is measured of this machine.

pub mod allocator;
pub mod backend;
pub mod checkpoint;
pub mod comm;
pub mod data;
pub mod devices;
pub mod error;
pub mod exec;
pub mod init;
pub mod memory;
pub mod ops;
pub mod optimizer;
pub mod profile;
pub mod segment;
pub mod tensor;

pub use backend::Backend;
pub use error::RuntimeError;
pub use optimizer::OptimizerSettings;
pub use segment::SegmentRunner;
pub use tensor::{HostData, HostTensor};
