//! The closed form of a training step of any operator graph: convolutional and recurrent networks, whose operators differ
//! too much to be priced as a stack of equal layers ([`crate::estimate`] does those).
//!
//! 1. [`operator_charges`] walks the graph: each operator becomes kernels of the kernel model for its output, the gradient
//!    of its inputs and that of its weights, and passes over memory for everything pointwise. A [`GraphStack`] says what
//!    the framework fuses and in which layout it keeps images.
//! 2. [`Replica::of`] queues them on one device: the host launches one after the other and runs ahead, so that a step is
//!    bound by launches exactly where kernels are shorter than these.
//! 3. [`data_parallel`] adds the exchange of gradients: collectives in buckets beside the backward pass, or parameter
//!    servers in host memory, on the devices, or on every machine.
//! 4. [`pipeline`] runs GPipe's schedule over stages of the same charges, with checkpointed recomputation.

mod charge;
mod error;
mod exchange;
mod fusion;
mod numerics;
mod operators;
mod pipeline;
mod replica;
mod stack;

pub use charge::{Charge, OperatorCharge};
pub use error::GraphStepError;
pub use exchange::{Exchange, GradientGroup, data_parallel};
pub use numerics::Numerics;
pub use operators::{Mode, operator_charges};
pub use pipeline::{Checkpoint, GpipeStep, balanced_stages, pipeline};
pub use replica::{GradientReady, Replica};
pub use stack::{FamilySpeed, Fuses, GraphCalibration, GraphStack, Images, Speeds};
