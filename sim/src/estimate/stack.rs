//! What a software stack adds to the device: which kernels it launches, how fast the host launches them, what it overlaps.

use serde::{Deserialize, Serialize};

use crate::kernel::AttentionAlgorithm;
use crate::network::Library;

/// A training framework by its few physical traits. A trait is a fact of the framework's code or a named constant with a
/// unit; [`Stack::source`] says which constants were fitted to which rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Name.
    pub name: &'static str,
    /// Whether attention and residuals have dropout.
    pub dropout: bool,
    /// Whether bias, activation, dropout and residual are fused into one kernel each.
    pub fused_pointwise: bool,
    /// Passes over the scores of materialised attention between its products, forward (a read or a write each).
    pub softmax_passes: f64,
    /// Whether matrix products add their bias themselves.
    pub bias_in_product: bool,
    /// Fused attention in use where [`super::AttentionKernel::Flash`] is asked for.
    pub flash: AttentionAlgorithm,
    /// Bytes of memory traffic a logit, forward and backward of the loss together, in 16-bit training; f32 takes a third more.
    pub loss_bytes_per_logit: f64,
    /// Host time to launch one kernel of a forward pass, us.
    pub forward_launch_us: f64,
    /// Host time to launch one kernel of a backward pass, us (autograd's own thread needs no Python).
    pub backward_launch_us: f64,
    /// Host time of a step besides its passes: data, logging, bookkeeping, ms.
    pub step_ms: f64,
    /// Host time of an optimizer step, us a parameter tensor.
    pub tensor_us: f64,
    /// Memory traffic of the optimizer step, bytes a parameter that the rank updates: gradients copied, checked, clipped;
    /// master weights, moments, weights.
    pub optimizer_bytes: f64,
    /// Bytes of a gradient on the wire in mixed precision.
    pub gradient_bytes: f64,
    /// Memory traffic to add a weight's gradient to its sum over micro-batches, bytes a parameter and micro-batch.
    pub accumulated_bytes: f64,
    /// Whether gradients travel in buckets beside the backward pass.
    pub overlaps_gradients: bool,
    /// Whether shards of parameters are gathered a unit ahead (FSDP, ZeRO-3).
    pub prefetches: bool,
    /// Whether a pipeline rank waits for its neighbours at every exchange.
    pub blocking_pipeline: bool,
    /// Whether pipeline messages are cut over the tensor-parallel ranks and gathered behind the wire (Narayanan et al. 2021,
    /// section 4.1).
    pub scatter_gather: bool,
    /// Share of the tensor-parallel collectives of the backward pass that hides behind products of weight gradients.
    pub tensor_overlap: f64,
    /// Slowdown of computation while collectives run beside it: multiprocessors and bandwidth that they take.
    pub overlap_slowdown: f64,
    /// Time of kernels in training over their isolated time: clocks under power limits, cold caches.
    pub sustained_slowdown: f64,
    /// Communication library.
    pub library: Library,
    /// Factor within which nine of ten measurements lie.
    pub spread: f64,
    /// Where the constants come from.
    pub source: &'static str,
}

/// The stacks that have constants of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StackName {
    /// Megatron-LM of 2021, and DeepSpeed on top of it.
    Megatron,
    /// Megatron-Core and NeMo.
    MegatronCore,
    /// PyTorch FSDP, as in Composer.
    PytorchFsdp,
    /// PyTorch DDP, eager.
    PytorchDdp,
}

impl StackName {
    /// Its traits.
    pub const fn stack(self) -> Stack {
        match self {
            Self::Megatron => MEGATRON,
            Self::MegatronCore => MEGATRON_CORE,
            Self::PytorchFsdp => PYTORCH_FSDP,
            Self::PytorchDdp => PYTORCH_DDP,
        }
    }
}

const MEGATRON: Stack = Stack {
    name: "Megatron-LM",
    dropout: true,
    fused_pointwise: true,
    softmax_passes: 4.5,
    bias_in_product: false,
    flash: AttentionAlgorithm::Flash1,
    loss_bytes_per_logit: 56.0,
    forward_launch_us: 20.0,
    backward_launch_us: 12.0,
    step_ms: 3.0,
    tensor_us: 10.0,
    optimizer_bytes: 60.0,
    gradient_bytes: 2.0,
    accumulated_bytes: 6.0,
    overlaps_gradients: false,
    prefetches: false,
    blocking_pipeline: true,
    scatter_gather: true,
    tensor_overlap: 0.0,
    overlap_slowdown: 1.1,
    sustained_slowdown: 1.0,
    library: Library::nccl(2, 8),
    spread: 1.2,
    source: "assumed",
};

const MEGATRON_CORE: Stack = Stack {
    name: "Megatron-Core",
    dropout: false,
    softmax_passes: 2.0,
    bias_in_product: true,
    flash: AttentionAlgorithm::Flash2,
    optimizer_bytes: 40.0,
    overlaps_gradients: true,
    tensor_overlap: 0.5,
    library: Library::NCCL,
    ..MEGATRON
};

const PYTORCH_FSDP: Stack = Stack {
    name: "PyTorch FSDP",
    dropout: false,
    fused_pointwise: false,
    softmax_passes: 5.0,
    bias_in_product: true,
    flash: AttentionAlgorithm::Flash2,
    loss_bytes_per_logit: 28.0,
    forward_launch_us: 12.0,
    backward_launch_us: 8.0,
    step_ms: 5.0,
    tensor_us: 10.0,
    optimizer_bytes: 40.0,
    gradient_bytes: 4.0,
    accumulated_bytes: 6.0,
    overlaps_gradients: true,
    prefetches: true,
    blocking_pipeline: false,
    scatter_gather: false,
    tensor_overlap: 0.0,
    overlap_slowdown: 1.1,
    sustained_slowdown: 1.0,
    library: Library::NCCL,
    spread: 1.25,
    source: "assumed",
};

const PYTORCH_DDP: Stack =
    Stack { name: "PyTorch DDP", dropout: true, softmax_passes: 9.0, prefetches: false, spread: 1.4, ..PYTORCH_FSDP };
