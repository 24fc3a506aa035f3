//! What follows the last backward pass: gradients meet, parameters are updated.

use std::ops::{Add, AddAssign, Mul};

use cutplane_plan::Optimizer;

use super::layout::{GradientSync, Layout, Offload, PipelineSchedule, ServerPlacement, ZeroStage};
use super::mesh::{Holders, Mesh};
use super::pipeline::{StageTime, Travel};
use super::sharding::{gradient_bytes, overlaps_gradients, scatters_each};
use super::stack::{Stack, Trait};
use crate::kernel::{GpuModel, Kernel, Precision};
use crate::network::Collective;

/// Bandwidth of copies between a device and its host, bytes/s: PCIe 4 at 0.8 of 31.5 GB/s.
const HOST_COPY: f64 = 25e9;
/// Bandwidth at which a host updates parameters, bytes/s of optimizer traffic (Ren et al. 2021 report 1.2 s for 10 G
/// parameters and 16 bytes each on 2 sockets).
const HOST_UPDATE: f64 = 130e9;
/// Buckets that gradients travel in when they overlap, bytes (PyTorch DDP's default).
const BUCKET: f64 = 25.0 * 1_048_576.0;

/// Trainable numbers that a device holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parameters {
    /// Those that all replicas hold.
    pub(super) dense: f64,
    /// Those of its experts.
    pub(super) experts: f64,
}

impl Parameters {
    pub(super) fn total(self) -> f64 {
        self.dense + self.experts
    }
}

impl Add for Parameters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { dense: self.dense + other.dense, experts: self.experts + other.experts }
    }
}

impl AddAssign for Parameters {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// So many times as many.
impl Mul<f64> for Parameters {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { dense: self.dense * times, experts: self.experts * times }
    }
}

/// Synchronisation of a stage's gradients; s.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sync {
    /// What travels beside the passes.
    pub(super) travel: Travel,
    /// What follows the last pass.
    pub(super) behind: f64,
    /// What follows the update.
    pub(super) after_update: f64,
}

impl Sync {
    /// What the gradients of the first chunk at least add behind the start of the last pass, whose times alone are `time`, s:
    /// all that is known before the passes are put in order.
    pub(super) fn least_behind(&self, time: &StageTime, layout: &Layout, stack: &Stack) -> f64 {
        let own = self.travel.chunks.first().map_or((0.0, 0.0), |(traffic, buckets)| {
            beside(completing(time, layout), *traffic, *buckets as f64, stack.overlap_slowdown)
        });
        self.behind + own.0 + own.1
    }
}

/// Synchronisation of a stage's gradients, chunk by chunk: those of the last chunk are complete first. A message between stages
/// takes `hop` seconds.
pub(super) fn gradient_sync(
    parameters: &[Parameters],
    times: &[StageTime],
    hop: f64,
    mesh: &Mesh<'_>,
    layout: &Layout,
    stack: &Stack,
) -> Sync {
    let all = parameters.iter().fold(Parameters::default(), |sum, one| sum + *one);
    if let GradientSync::ParameterServer { servers, placement } = layout.gradient_sync {
        let alone = layout.dp * layout.cp == 1;
        let behind = if alone { 0.0 } else { parameter_server(all.total(), servers, placement, layout, mesh) };
        return Sync { behind, ..Sync::default() };
    }
    let dense = exchange(all.dense, Holders::All, layout, mesh, stack);
    let experts = exchange(all.experts, Holders::Experts, layout, mesh, stack);
    let hideable = dense.hideable + experts.hideable;
    let after_update = waited_for(dense.late + experts.late, times, layout, stack);
    if !overlaps_gradients(layout, stack) || hideable <= 0.0 {
        return Sync { behind: hideable, after_update, ..Sync::default() };
    }
    let slowdown = stack.overlap_slowdown;
    let share = |parameters: Parameters| hideable * parameters.total() / all.total();
    let chunks = parameters.iter().map(|own| (share(*own), buckets(*own, layout, stack))).collect();
    let (mut carried, mut slowed_before) = (0.0_f64, 0.0);
    // As many passes as stages lie between the last one of a chunk and that of the chunk before it, a message apart.
    for (parameters, time) in parameters.iter().zip(times).skip(1).rev() {
        let all = carried + share(*parameters);
        let room = layout.pp as f64 * (time.backward * slowdown + hop);
        let hidden = all.min(room);
        slowed_before += hidden / room * layout.pp as f64 * time.backward * (slowdown - 1.0);
        carried = all - hidden;
    }
    let first = carried + share(parameters[0]);
    let window = completing(&times[0], layout);
    let (slowed, behind) = beside(window, first, buckets(parameters[0], layout, stack) as f64, slowdown);
    Sync { travel: Travel { chunks, slowed, slowed_before, behind }, behind: 0.0, after_update }
}

/// What gathering updated parameters for `late` seconds adds to a step: all of it, or what the next forward passes do not hide:
/// one over the first chunk, then as many as there are stages over each other one.
fn waited_for(late: f64, times: &[StageTime], layout: &Layout, stack: &Stack) -> f64 {
    if !stack.has(Trait::GathersAhead) {
        return late;
    }
    let slowdown = stack.overlap_slowdown;
    let passes = |chunk: usize| if chunk == 0 { 1.0 } else { layout.pp as f64 };
    let room: f64 = times.iter().enumerate().map(|(chunk, time)| passes(chunk) * time.forward * slowdown).sum();
    let hidden = late.min(room);
    late - hidden + hidden * (1.0 - 1.0 / slowdown)
}

/// The pass that completes a chunk's gradients, s.
fn completing(time: &StageTime, layout: &Layout) -> f64 {
    if layout.pp > 1 && layout.schedule == PipelineSchedule::ZeroBubble { time.weight_gradient } else { time.backward }
}

/// Buckets that the gradients of some parameters travel in.
fn buckets(parameters: Parameters, layout: &Layout, stack: &Stack) -> u64 {
    ((parameters.total() * gradient_bytes(layout, stack) / BUCKET).ceil() as u64).max(1)
}

/// What `traffic` seconds in `buckets` buckets add to a pass of `window` seconds, each bucket ready when its share of the pass
/// is done, and what is left of them behind it. The pass progresses at `1 / slowdown` while buckets travel.
fn beside(window: f64, traffic: f64, buckets: f64, slowdown: f64) -> (f64, f64) {
    let (share, each) = (window / buckets, traffic / buckets);
    if each <= share * slowdown {
        // Every bucket has arrived when the next is ready.
        return ((buckets - 1.0) * each * (1.0 - 1.0 / slowdown), each);
    }
    let slowed = (slowdown - 1.0) * (window - share);
    (slowed, traffic - slowdown * (window - share))
}

/// What some parameters' gradients cost, s.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    /// Can run beside the backward pass.
    hideable: f64,
    /// Follows the update.
    late: f64,
}

fn exchange(parameters: f64, holders: Holders, layout: &Layout, mesh: &Mesh<'_>, stack: &Stack) -> Exchange {
    let replicas = match holders {
        Holders::All => layout.dp * layout.cp,
        Holders::Experts => layout.expert_replicas(),
    };
    if replicas <= 1 || parameters <= 0.0 {
        return Exchange::default();
    }
    let gradients = parameters * gradient_bytes(layout, stack);
    let weights = parameters * layout.precision.activation_bytes() as f64;
    let ranks = layout.shard_ranks().min(replicas);
    let between = if ranks < replicas {
        mesh.between_shards(holders, Collective::AllReduce, gradients / ranks as f64, ranks)
    } else {
        0.0
    };
    match layout.zero.stage {
        ZeroStage::None => Exchange { hideable: mesh.replicas(holders, Collective::AllReduce, gradients), late: 0.0 },
        // The gradients have met in the passes.
        ZeroStage::Two if scatters_each(layout) => {
            Exchange { hideable: between, late: updates(weights, holders, ranks, mesh, stack) }
        }
        ZeroStage::One | ZeroStage::Two => Exchange {
            hideable: mesh.shards(holders, Collective::ReduceScatter, gradients, ranks) + between,
            late: updates(weights, holders, ranks, mesh, stack),
        },
        ZeroStage::Three => Exchange { hideable: between, late: 0.0 },
    }
}

/// Every rank gets the parameters that the others updated.
fn updates(weights: f64, holders: Holders, ranks: u64, mesh: &Mesh<'_>, stack: &Stack) -> f64 {
    let broadcasts = if stack.has(Trait::BroadcastsUpdates) { ranks as f64 * stack.broadcast_ms * 1e-3 } else { 0.0 };
    mesh.shards(holders, Collective::AllGather, weights, ranks) + broadcasts
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
        ServerPlacement::EveryMachine => mesh.replicas(
            Holders::All,
            Collective::ParameterServer { servers: servers as usize, colocated: true },
            bytes,
        ),
        ServerPlacement::HostMemory => 2.0 * bytes / HOST_COPY * replicas.max(1.0) / servers.max(1) as f64,
        ServerPlacement::Accelerator => mesh.replicas(Holders::All, Collective::AllReduce, bytes) * 1.5,
    }
}

/// The optimizer step over a stage's parameters, s: `(device, host)`.
pub(super) fn optimizer_seconds(
    parameters: Parameters,
    tensors: f64,
    layout: &Layout,
    gpu: &GpuModel,
    stack: &Stack,
) -> (f64, f64) {
    let ranks = if layout.zero.stage == ZeroStage::None { 1 } else { layout.shard_ranks() };
    let shard = |parameters: f64, replicas: u64| parameters / ranks.min(replicas).max(1) as f64;
    let own = shard(parameters.dense, ranks) + shard(parameters.experts, layout.expert_replicas());
    let state = layout.optimizer.state_per_parameter() as f64;
    let stated = layout.precision.is_mixed() || stack.has(Trait::UpdatesByTerms);
    let bytes = match (layout.optimizer, stated) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_gathered_ahead_cost_what_the_next_passes_do_not_hide() {
        let time = StageTime { forward: 1.0, backward: 2.0, weight_gradient: 1.0 };
        let layout = Layout { pp: 4, ..Layout::default() };
        let waits = Stack { overlap_slowdown: 1.0, ..Stack::default() };
        let mut ahead = waits.clone();
        ahead.traits.push(Trait::GathersAhead);
        assert!((waited_for(3.0, &[time], &layout, &waits) - 3.0).abs() < 1e-12);
        assert!((waited_for(3.0, &[time], &layout, &ahead) - 2.0).abs() < 1e-12);
        // A second chunk comes up after four passes of the first.
        assert!(waited_for(3.0, &[time; 2], &layout, &ahead).abs() < 1e-12);
        let slowed = Stack { overlap_slowdown: 1.25, ..ahead };
        assert!((waited_for(1.0, &[time], &layout, &slowed) - 0.2).abs() < 1e-12);
    }
}
