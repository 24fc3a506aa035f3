//! What follows the last backward pass: gradients meet, parameters are updated.

use cutplane_plan::Optimizer;

use super::layout::{GradientSync, Layout, Offload, ServerPlacement, ZeroStage};
use super::mesh::Mesh;
use super::sharding::gradient_bytes;
use super::stack::Stack;
use crate::kernel::{GpuModel, Kernel, Precision};
use crate::network::Collective;

/// Bandwidth of copies between a device and its host, bytes/s: PCIe 4 at 0.8 of 31.5 GB/s.
const HOST_COPY: f64 = 25e9;
/// Bandwidth at which a host updates parameters, bytes/s of optimizer traffic (Ren et al. 2021 report 1.2 s for 10 G
/// parameters and 16 bytes each on 2 sockets).
const HOST_UPDATE: f64 = 130e9;
/// Buckets that gradients travel in when they overlap, bytes (PyTorch DDP's default).
const BUCKET: f64 = 25.0 * 1_048_576.0;

/// Exposed time of the synchronisation of a stage's gradients, s. `window` is the computation that it can run beside: the
/// last micro-batch's backward pass.
pub(super) fn gradient_sync(parameters: f64, window: f64, layout: &Layout, mesh: &Mesh<'_>, stack: &Stack) -> f64 {
    let replicas = layout.dp * layout.cp;
    if replicas == 1 || parameters <= 0.0 {
        return 0.0;
    }
    let overlapped = match layout.gradient_sync {
        GradientSync::AllReduce { overlapped } => overlapped.unwrap_or(stack.overlaps_gradients),
        GradientSync::ParameterServer { servers, placement } => {
            return parameter_server(parameters, servers, placement, layout, mesh);
        }
    };
    let gradients = parameters * gradient_bytes(layout, stack);
    let weights = parameters * layout.precision.activation_bytes() as f64;
    let ranks = layout.shard_ranks();
    let between = if ranks < replicas {
        mesh.between_shards(Collective::AllReduce, gradients / ranks as f64, ranks)
    } else {
        0.0
    };
    let (hideable, late) = match layout.zero.stage {
        ZeroStage::None => (mesh.replicas(Collective::AllReduce, gradients), 0.0),
        ZeroStage::One | ZeroStage::Two => (
            mesh.shards(Collective::ReduceScatter, gradients, ranks) + between,
            mesh.shards(Collective::AllGather, weights, ranks),
        ),
        ZeroStage::Three => (between, 0.0),
    };
    if !overlapped {
        return hideable + late;
    }
    let tail = hideable * (BUCKET / gradients).min(1.0);
    let slowed = hideable.min(window) * (stack.overlap_slowdown - 1.0);
    (hideable - window).max(tail).max(slowed) + late
}

/// Pull and push of parameter servers: through the network where they live on every machine, else over PCIe, which the
/// replicas of a machine share when the servers are one place.
fn parameter_server(
    parameters: f64,
    servers: u64,
    placement: ServerPlacement,
    layout: &Layout,
    mesh: &Mesh<'_>,
) -> f64 {
    let bytes = parameters * 4.0;
    let replicas = (layout.dp * layout.cp) as f64;
    match placement {
        ServerPlacement::EveryMachine => {
            mesh.replicas(Collective::ParameterServer { servers: servers as usize, colocated: true }, bytes)
        }
        ServerPlacement::HostMemory => 2.0 * bytes / HOST_COPY * replicas.max(1.0) / servers.max(1) as f64,
        ServerPlacement::Accelerator => mesh.replicas(Collective::AllReduce, bytes) * 1.5,
    }
}

/// The optimizer step over a stage's parameters, s: `(device, host)`.
pub(super) fn optimizer_seconds(
    parameters: f64,
    tensors: f64,
    layout: &Layout,
    gpu: &GpuModel,
    stack: &Stack,
) -> (f64, f64) {
    let sharded = layout.zero.stage != ZeroStage::None;
    let own = if sharded { parameters / layout.shard_ranks() as f64 } else { parameters };
    let state = layout.optimizer.state_per_parameter() as f64;
    let bytes = match (layout.optimizer, layout.precision.is_mixed()) {
        (_, false) => 4.0 * (3.0 + 2.0 * state),
        (Optimizer::AdamW, true) => stack.optimizer_bytes,
        (Optimizer::Sgd, true) => stack.optimizer_bytes - 16.0,
    };
    let host = tensors * stack.tensor_us * 1e-6;
    if layout.offload == Offload::Optimizer {
        return (own * bytes / HOST_UPDATE + own * 4.0 / HOST_COPY, host);
    }
    let kernel = Kernel::pointwise((own * bytes) as u64, 0);
    (gpu.seconds(&kernel, Precision::F32), host)
}
