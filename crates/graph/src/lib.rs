//! The two graphs that every plan joins: a model as a DAG of typed operators, and the devices that it runs on.
//!
//! The graph *is* the model. The simulator prices its operators, the planner cuts it, the runtime executes the same
//! operators on tensors: whatever can be planned can be run, at any cut.
//!
//! - [`ModelGraph`]: operators ([`Op`]) that read and write values ([`Value`]) and own parameters ([`Param`]), built by
//!   [`ModelGraphBuilder`], which infers every shape and refuses malformed input by name. Operators stand in
//!   topological order, so a contiguous range of [`OpId`]s is a legal pipeline stage.
//! - [`OpKind`]: what an operator computes, with its shape rule, parameters, and — in [`facts`] — its floating-point
//!   operations, bytes and what it keeps for the backward pass.
//! - [`DeviceGraph`]: devices, hosts, switches and links, with routes.
//!
//! ```
//! use cutplane_graph::{Dtype, InputRole, ModelGraphBuilder, OpKind, TensorType};
//!
//! let mut b = ModelGraphBuilder::new("two-layer");
//! let x = b.input("x", InputRole::Features, TensorType::batched(&[8], Dtype::F32))?;
//! let h = b.op("up", OpKind::linear(8, 32), &[x])?;
//! let y = b.op("down", OpKind::linear(32, 8), &[h])?;
//! let graph = b.output(y).build()?;
//! assert_eq!(graph.parameter_count(), 8 * 32 + 32 + 32 * 8 + 8);
//! # Ok::<(), cutplane_graph::ModelError>(())
//! ```

mod accelerator;
mod cluster;
pub mod device;
mod digest;
mod error;
pub mod facts;
pub mod fold;
mod ids;
mod local;
mod model;
mod op;
pub mod placement;
pub mod sharding;
mod source;
mod tensor;

pub use accelerator::{AcceleratorFacts, Architecture};
pub use cluster::{ClusterSpec, DeviceKind, DeviceSpec, LinkKind, LinkSpec, NodeKind, NodeSpec};
pub use device::{Device, DeviceGraph, Link, Route};
pub use digest::digest_of;
pub use error::{DeviceGraphError, ModelError};
pub use facts::{OpFacts, Pass, ProfileKey};
pub use fold::{Block, BlockClass, Folded, fold};
pub use ids::{DeviceId, LinkId, OpId, ParamId, ValueId};
pub use local::{LocalGraph, LocalParam, Splits, axis_places, by_split, context_splits, expert_splits, tensor_splits};
pub use model::{InputRole, ModelGraph, ModelGraphBuilder, Op, Param, Value};
pub use op::{
    ActivationKind, AdditiveAttention, Arithmetic, Attention, AttentionInput, AttentionKernel, BatchNorm, Binary, Cell,
    Combine, Concat, Convolution, CrossEntropyShare, Dispatch, Dropout, Exchange, ExpertLinear, Fixed, Gate, Gather,
    GroupNorm, IGNORED_TARGET, Init, JoinedCrossEntropy, Learned, MatMul, MeanSquaredError, OpKind, Pad, ParamSpec,
    Pool, PoolKind, PositionScheme, PrependTokens, Recurrent, RecurrentBias, RecurrentOutput, Reduce, Reduction,
    Reshape, RmsNorm, Rotary, RotaryScaling, Router, Routing, ScaleShift, Slice, Softmax, Transpose, Upsample,
    WeightLayout, Window,
};
pub use source::{ModelSource, Overrides};
pub use tensor::{Dtype, TensorType};
