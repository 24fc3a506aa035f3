//! From the prices of operators to the time of a step.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::Serialize;

use super::chunks::held;
use super::error::EstimateError;
use super::layout::{AttentionKernel, Layout, PipelineSchedule, Precision, Recompute};
use super::mesh::Mesh;
use super::model::FoldedModel;
use super::pipeline::{Hop, StageTime, stage_ends};
use super::price::Pricer;
use super::sharding::{Exposed, Unit, exposed, gradient_bytes};
use super::stack::{Stack, Trait};
use super::sync::{Parameters, gradient_sync, optimizer_seconds};
use super::work::{Passes, Work};
use crate::kernel::GpuModel;
use crate::network::Fabric;
use crate::prediction::Predicted;

/// Where the time of a step goes, s, on the pipeline stage that finishes last; the parts add up to the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Breakdown {
    /// Computation of forward passes.
    pub forward: f64,
    /// Computation of backward passes, without what is computed again.
    pub backward: f64,
    /// Computation that is done again.
    pub recompute: f64,
    /// Exposed collectives of tensor parallelism.
    pub tensor_parallel: f64,
    /// Exposed exchange of context parallelism.
    pub context_parallel: f64,
    /// Exposed all-to-all of expert parallelism.
    pub expert_parallel: f64,
    /// Waiting for the exchange with neighbouring stages.
    pub pipeline_messages: f64,
    /// Waiting for micro-batches: filling, draining, slower stages.
    pub bubble: f64,
    /// Exposed gathering and scattering of shards, and what collectives beside computation slow it down by.
    pub sharding: f64,
    /// Exposed synchronisation of gradients.
    pub gradient_sync: f64,
    /// Optimizer step.
    pub optimizer: f64,
    /// The device waiting for its host.
    pub host: f64,
    /// Fixed cost of a step: data, logging, bookkeeping.
    pub overhead: f64,
}

impl Breakdown {
    /// Sum of the parts.
    pub fn total(&self) -> f64 {
        self.forward
            + self.backward
            + self.recompute
            + self.tensor_parallel
            + self.context_parallel
            + self.expert_parallel
            + self.pipeline_messages
            + self.bubble
            + self.sharding
            + self.gradient_sync
            + self.optimizer
            + self.host
            + self.overhead
    }
}

/// The estimate of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepEstimate {
    /// The time of the step with its interval.
    pub predicted: Predicted,
    /// Where it goes.
    pub breakdown: Breakdown,
    /// Samples of the step.
    pub samples: u64,
    /// Tokens of the step.
    pub tokens: u64,
    /// Time that each stage computes or communicates in its passes, s.
    pub stage_busy: Vec<f64>,
    /// Work of the passes of all micro-batches on the stage that finishes last.
    pub work: Work,
}

impl StepEstimate {
    /// Samples a second over all devices.
    pub fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.predicted.seconds
    }

    /// Tokens a second over all devices.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.predicted.seconds
    }
}

/// What decides the price of a block.
type PriceKey = (u64, u64, u64, u64, [bool; 3], Precision, AttentionKernel);

/// Estimates many layouts of one model on one cluster: prices of layers are kept.
#[derive(Debug)]
pub struct Estimator<'a> {
    model: &'a FoldedModel,
    gpu: &'a GpuModel,
    fabric: &'a Fabric,
    stack: &'a Stack,
    prices: RefCell<HashMap<PriceKey, Rc<[Passes]>>>,
}

/// One device of the pipeline; times of one micro-batch, s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    passes: Passes,
    exposed: Exposed,
    /// Wait for the host.
    host: f64,
    pub(super) time: StageTime,
    pub(super) sync: f64,
    pub(super) optimizer: f64,
}

/// What holds for every stage of a layout.
pub(super) struct Context<'a> {
    pricer: Pricer<'a>,
    prices: Rc<[Passes]>,
    /// Exchange with a neighbour that a stage waits for, forward and backward each.
    exchange: f64,
}

impl<'a> Estimator<'a> {
    /// For a model on a device, a fabric and a stack.
    pub fn new(model: &'a FoldedModel, gpu: &'a GpuModel, fabric: &'a Fabric, stack: &'a Stack) -> Self {
        Self { model, gpu, fabric, stack, prices: RefCell::default() }
    }

    /// Estimates one layout.
    ///
    /// # Errors
    /// [`EstimateError`] for fields that do not fit together or the model.
    pub fn estimate(&self, layout: &Layout) -> Result<StepEstimate, EstimateError> {
        let (context, stages, hop) = self.priced(layout)?;
        Ok(self.compose(&context, &stages, hop))
    }

    /// What holds for every stage, the stages, and the part of a message between two that neither waits for.
    pub(super) fn priced<'l>(&'l self, layout: &'l Layout) -> Result<(Context<'l>, Vec<Stage>, f64), EstimateError> {
        layout.validate()?;
        let held = held(self.model, layout)?;
        let mesh = Mesh::new(layout, self.fabric, self.stack);
        let slowdown = self.stack.sustained_slowdown;
        let pricer = Pricer { gpu: self.gpu, stack: self.stack, mesh, layout, slowdown };
        let hop = self.hop_seconds(&pricer);
        let interleaved = layout.schedule == PipelineSchedule::Interleaved && layout.vpp > 1;
        let waits =
            self.stack.has(Trait::BlockingPipeline) && !(interleaved && self.stack.has(Trait::OverlapsMessages));
        let exchange = if layout.pp > 1 && waits { hop } else { 0.0 };
        let context = Context { prices: self.prices(&pricer), pricer, exchange };
        let mut stages: Vec<Stage> = Vec::with_capacity(held.len());
        for (at, own) in held.iter().enumerate() {
            // Stages in the middle of a pipeline are alike.
            let alike = at.checked_sub(1).filter(|before| held[*before] == *own).map(|before| stages[before]);
            stages.push(alike.unwrap_or_else(|| self.stage(&context, own)));
        }
        Ok((context, stages, hop - exchange))
    }

    /// Forward and backward time of one repeated layer over one micro-batch, recomputation with the backward pass: of the
    /// longest layer where they differ.
    ///
    /// # Errors
    /// [`EstimateError`] for fields that do not fit together.
    pub fn layer(&self, layout: &Layout) -> Result<(Predicted, Predicted), EstimateError> {
        layout.validate()?;
        let mesh = Mesh::new(layout, self.fabric, self.stack);
        let slowdown = self.stack.sustained_slowdown;
        let pricer = Pricer { gpu: self.gpu, stack: self.stack, mesh, layout, slowdown };
        let prices = self.prices(&pricer);
        let layers = self.model.blocks.iter().zip(prices.iter()).filter(|(block, _)| block.is_layer);
        let unit = |passes: &Passes| {
            let repeated = repeated_share(layout, 1);
            self.unit(&recomputed(*passes, layout, repeated, true), checkpoints(layout, repeated), 0.0, 1.0)
        };
        let units = layers.map(|(_, passes)| unit(passes));
        let longest = units.max_by(|a, b| (a.forward + a.backward).total_cmp(&(b.forward + b.backward)));
        let within = |seconds: f64| Predicted::within(seconds, self.stack.spread);
        Ok(longest.map_or((Predicted::ZERO, Predicted::ZERO), |unit| (within(unit.forward), within(unit.backward))))
    }

    /// Prices of one instance of each block.
    fn prices(&self, pricer: &Pricer<'_>) -> Rc<[Passes]> {
        let Layout { micro_batch, tp, cp, ep, sequence_parallel, whole_experts, frozen, precision, attention, .. } =
            *pricer.layout;
        let key = (micro_batch, tp, cp, ep, [sequence_parallel, whole_experts, frozen], precision, attention);
        let mut known = self.prices.borrow_mut();
        Rc::clone(known.entry(key).or_insert_with(|| {
            // Outside of the layers products stay in 16 bits.
            let outside = Layout { precision: precision.outside_of_layers(), ..pricer.layout.clone() };
            let block = |block: &super::Block| {
                let pricer = Pricer { layout: if block.is_layer { pricer.layout } else { &outside }, ..*pricer };
                block.operators.iter().fold(Passes::default(), |sum, operator| sum + pricer.operator(operator))
            };
            self.model.blocks.iter().map(block).collect()
        }))
    }

    /// Handing one micro-batch's activation to the next stage.
    fn hop_seconds(&self, pricer: &Pricer<'_>) -> f64 {
        let layout = pricer.layout;
        if layout.pp == 1 {
            return 0.0;
        }
        let elements = (layout.micro_batch * self.model.boundary_elements()) as f64 / layout.cp as f64;
        let cut = if layout.sequence_parallel { layout.tp as f64 } else { 1.0 };
        let bytes = elements * layout.precision.activation_bytes() as f64;
        pricer.mesh.hand_over(bytes / cut, layout.sequence_parallel)
    }

    fn stage(&self, context: &Context<'_>, held: &[(usize, u64)]) -> Stage {
        let layout = context.pricer.layout;
        let layers: u64 =
            held.iter().filter(|(index, _)| self.model.blocks[*index].is_layer).map(|(_, count)| count).sum();
        let repeated = repeated_share(layout, layers);
        let mut sum = StageSum::default();
        let mut units = Vec::with_capacity(held.len());
        for &(index, count) in held {
            let block = &self.model.blocks[index];
            let one = recomputed(context.prices[index], layout, repeated, block.is_layer);
            let (dense, experts) = block.parameters_of_rank(layout.tp, layout.expert_tp() * layout.ep);
            let parameters = Parameters { dense: dense as f64, experts: experts as f64 };
            let checkpoints = if block.is_layer { checkpoints(layout, repeated) } else { 0.0 };
            let unit = self.unit(&one, checkpoints, parameters.total(), count as f64);
            sum.add(&one, &unit, parameters, block.tensors());
            units.push(unit);
        }
        sum.exposed = exposed(&units, layout, &context.pricer.mesh, self.stack);
        self.timed(context, &sum)
    }

    /// One block's passes with the host that launches them.
    fn unit(&self, passes: &Passes, checkpoints: f64, parameters: f64, count: f64) -> Unit {
        let stack = self.stack;
        let gradients = passes.input_gradient + passes.weight_gradient;
        let host =
            |work: &Work, launch_us: f64| (work.launches * launch_us + work.collectives * stack.collective_us) * 1e-6;
        let forward_host = host(&passes.forward, stack.forward_launch_us);
        let backward_host = host(&passes.recompute, stack.forward_launch_us)
            + host(&gradients, stack.backward_launch_us)
            + checkpoints * stack.checkpoint_us * 1e-6;
        Unit {
            parameters,
            forward: launched(passes.forward.device(), forward_host),
            backward: launched(passes.backward().device(), backward_host),
            count,
        }
    }

    fn timed(&self, context: &Context<'_>, sum: &StageSum) -> Stage {
        let layout = context.pricer.layout;
        let turns = if layout.pp > 1 { layout.vpp as f64 } else { 0.0 };
        let exchange = context.exchange * turns;
        let StageSum { passes, exposed, forward, backward, parameters, tensors } = *sum;
        let time = StageTime {
            forward: forward + exposed.forward + exchange,
            backward: backward + exposed.backward + exchange,
            weight_gradient: passes.weight_gradient.device(),
        };
        let window = backward + exposed.backward;
        let (trained, tensors) = if layout.frozen { (Parameters::default(), 0.0) } else { (parameters, tensors) };
        let sync = gradient_sync(trained, window, layout, &context.pricer.mesh, self.stack);
        let (update, host) = optimizer_seconds(trained, tensors, layout, self.gpu, self.stack);
        let host_wait = forward + backward - (passes.forward + passes.backward()).device();
        Stage { passes, exposed, host: host_wait, time, sync, optimizer: update.max(host) }
    }

    fn compose(&self, context: &Context<'_>, stages: &[Stage], hop: f64) -> StepEstimate {
        let layout = context.pricer.layout;
        let m = layout.micro_batches();
        let times: Vec<StageTime> = stages.iter().map(|stage| stage.time).collect();
        let hops = vec![Hop { transfer: hop, latency: 0.0 }; stages.len() - 1];
        let ends = stage_ends(layout.schedule, &times, &hops, m, layout.vpp);
        let synced = ends.iter().zip(stages).map(|(end, stage)| end + stage.sync);
        let (last, end) =
            synced.enumerate().fold((0, 0.0), |best, (at, end)| if end > best.1 { (at, end) } else { best });
        let tied = if layout.pp > 1 && self.model.tied_parameters > 0 {
            let bytes = self.model.tied_parameters as f64 / layout.tp as f64 * gradient_bytes(layout, self.stack);
            context.pricer.mesh.tied(bytes)
        } else {
            0.0
        };
        let optimizer = stages.iter().map(|stage| stage.optimizer).fold(0.0, f64::max);
        let overhead = self.stack.step_ms * 1e-3;
        let seconds = end + tied + optimizer + overhead;
        let mut breakdown = Self::passes_of(&stages[last], layout);
        breakdown.bubble = end - stages[last].sync - m as f64 * stages[last].time.both();
        breakdown.gradient_sync = stages[last].sync + tied;
        (breakdown.optimizer, breakdown.overhead) = (optimizer, overhead);
        StepEstimate {
            predicted: Predicted::within(seconds, self.stack.spread),
            breakdown,
            samples: layout.global_batch,
            tokens: layout.global_batch * self.model.sequence_length,
            stage_busy: stages.iter().map(|stage| m as f64 * stage.time.both()).collect(),
            work: (stages[last].passes.forward + stages[last].passes.backward()) * m as f64,
        }
    }

    /// The parts of the breakdown that a stage's passes decide.
    fn passes_of(stage: &Stage, layout: &Layout) -> Breakdown {
        let m = layout.micro_batches() as f64;
        let Stage { passes, exposed, host, time, .. } = stage;
        let gradients = passes.input_gradient + passes.weight_gradient;
        let all: Work = (passes.forward + passes.backward()) * m;
        let sharding = exposed.forward + exposed.backward;
        Breakdown {
            forward: passes.forward.compute() * m,
            backward: gradients.compute() * m,
            recompute: passes.recompute.compute() * m,
            tensor_parallel: all.tensor_parallel,
            context_parallel: all.context_parallel,
            expert_parallel: all.expert_parallel,
            sharding: sharding * m,
            host: host * m,
            pipeline_messages: time.both() * m - all.device() - (sharding + host) * m,
            ..Breakdown::default()
        }
    }
}

/// What a stage's blocks add up to, for one micro-batch.
#[derive(Clone, Copy, Debug, Default)]
struct StageSum {
    passes: Passes,
    exposed: Exposed,
    /// With the waits for the host, s.
    forward: f64,
    backward: f64,
    parameters: Parameters,
    tensors: f64,
}

impl StageSum {
    fn add(&mut self, one: &Passes, unit: &Unit, parameters: Parameters, tensors: u64) {
        self.passes += *one * unit.count;
        self.forward += unit.forward * unit.count;
        self.backward += unit.backward * unit.count;
        self.parameters.dense += parameters.dense * unit.count;
        self.parameters.experts += parameters.experts * unit.count;
        self.tensors += tensors as f64 * unit.count;
    }
}

/// How sharply the slower of device and host hides the other along a block's kernels: some are short and wait for the host
/// even where most are long.
const LAUNCH_OVERLAP: f64 = 8.0;

/// Kernels of `device` seconds that a host launches in `host` seconds.
fn launched(device: f64, host: f64) -> f64 {
    let (long, short) = if device > host { (device, host) } else { (host, device) };
    if long > 0.0 { long * (1.0 + (short / long).powf(LAUNCH_OVERLAP)).powf(1.0 / LAUNCH_OVERLAP) } else { 0.0 }
}

/// Share of a stage's layers that are computed again whole.
fn repeated_share(layout: &Layout, layers: u64) -> f64 {
    match layout.recompute {
        Recompute::None | Recompute::Selective => 0.0,
        Recompute::Full => 1.0,
        Recompute::Layers(some) => some as f64 / layers.max(1) as f64,
    }
    .min(1.0)
}

/// Times that the state of a layer is kept and restored for a recomputation.
const fn checkpoints(layout: &Layout, repeated: f64) -> f64 {
    match layout.recompute {
        Recompute::Selective => 1.0,
        _ => repeated,
    }
}

/// The passes of a block with what its recomputation adds.
fn recomputed(passes: Passes, layout: &Layout, repeated: f64, is_layer: bool) -> Passes {
    let recompute = match layout.recompute {
        Recompute::Selective if is_layer => passes.recompute,
        _ if is_layer => passes.forward * repeated,
        _ => Work::default(),
    };
    Passes { recompute, ..passes }
}
