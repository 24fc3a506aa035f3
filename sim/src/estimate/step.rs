//! From the prices of operators to the time of a step.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::Serialize;

use super::chunks::chunks;
use super::error::EstimateError;
use super::layout::{AttentionKernel, Layout, PipelineSchedule, Precision};
use super::mesh::Mesh;
use super::model::FoldedModel;
use super::pipeline::{Devices, Hop, Pipeline, Travel};
use super::price::Pricer;
use super::sharding::{Exposed, gradient_bytes};
use super::stack::{Stack, Trait};
use super::stage::{Links, Priced, Stage, Stages, checkpoints, recomputed, repeated_share, unit};
use super::sync::Parameters;
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

/// What sharing state at least makes of a step, s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    /// The passes of all stages and of the busiest one over a micro-batch, where shards travel in them.
    pub(crate) stages: Option<(f64, f64)>,
    /// Behind the passes: gradients between replicas, and between the ends of the model.
    pub(crate) gradients: f64,
    /// The slowest update, with what follows it.
    pub(crate) update: f64,
}

/// What decides the price of a block.
type PriceKey = (u64, u64, u64, u64, [bool; 3], Precision, AttentionKernel);

/// Estimates many layouts of one model on one cluster: prices of blocks are kept, for each micro-batch size, each way to cut
/// a layer and each precision once. Pricing a further layout with known ones is deciding what each device holds, adding up
/// blocks, synchronising gradients, updating, and the pipeline's closed form.
#[derive(Debug)]
pub struct Estimator<'a> {
    pub(super) model: &'a FoldedModel,
    gpu: &'a GpuModel,
    fabric: &'a Fabric,
    pub(super) stack: &'a Stack,
    prices: RefCell<HashMap<PriceKey, Rc<[Priced]>>>,
}

/// A layout with the prices of its stages.
pub(super) struct Priceable<'a> {
    pub(super) pricer: Pricer<'a>,
    pub(super) stages: Stages,
    /// Message between stages that travels beside computation, s.
    pub(super) hop: f64,
    /// All-reduce of what the first and the last stage share, s.
    pub(super) tied: f64,
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
        Ok(self.compose(&self.priceable(layout)?))
    }

    /// Part of the backward pass of one repeated layer that only the optimizer waits for, s: the least where layers differ.
    ///
    /// # Errors
    /// As [`Estimator::layer`].
    pub(crate) fn weight_gradient_seconds(&self, layout: &Layout) -> Result<f64, EstimateError> {
        layout.validate()?;
        let prices = self.prices(&self.pricer(layout));
        let layers = self.model.blocks.iter().zip(prices.iter()).filter(|(block, _)| block.is_layer);
        Ok(layers.map(|(_, priced)| priced.passes.weight_gradient.device()).reduce(f64::min).unwrap_or(0.0))
    }

    /// Forward and backward time of one repeated layer over one micro-batch, recomputation with the backward pass: of the
    /// longest layer where they differ.
    ///
    /// # Errors
    /// [`EstimateError`] for fields that do not fit together.
    pub fn layer(&self, layout: &Layout) -> Result<(Predicted, Predicted), EstimateError> {
        layout.validate()?;
        let prices = self.prices(&self.pricer(layout));
        let layers = self.model.blocks.iter().zip(prices.iter()).filter(|(block, _)| block.is_layer);
        let of = |priced: &Priced| {
            let repeated = repeated_share(layout, 1);
            let passes = recomputed(priced.passes, layout, repeated, true);
            unit(&passes, checkpoints(layout, repeated), 0.0, 1.0, self.stack)
        };
        let units = layers.map(|(_, priced)| of(priced));
        let longest = units.max_by(|a, b| (a.forward + a.backward).total_cmp(&(b.forward + b.backward)));
        let within = |seconds: f64| Predicted::within(seconds, self.stack.spread);
        Ok(longest.map_or((Predicted::ZERO, Predicted::ZERO), |unit| (within(unit.forward), within(unit.backward))))
    }

    fn pricer<'l>(&self, layout: &'l Layout) -> Pricer<'l>
    where
        'a: 'l,
    {
        let mesh = Mesh::new(layout, self.fabric, self.stack);
        Pricer { gpu: self.gpu, stack: self.stack, mesh, layout, slowdown: self.stack.sustained_slowdown }
    }

    /// A layout with the prices of its stages.
    pub(super) fn priceable<'l>(&self, layout: &'l Layout) -> Result<Priceable<'l>, EstimateError>
    where
        'a: 'l,
    {
        layout.validate()?;
        let chunks = chunks(self.model, layout)?;
        let pricer = self.pricer(layout);
        let hop = self.hop_seconds(&pricer);
        let exchange = if self.waits_for_messages(layout) { hop } else { 0.0 };
        let prices = self.prices(&pricer);
        let stages =
            Stages::new(self.model, chunks, &pricer, &prices, Links { beside: hop - exchange, waited: exchange });
        let tied = if layout.pp > 1 && self.model.tied_parameters > 0 {
            let bytes = self.model.tied_parameters as f64 / layout.tp as f64 * gradient_bytes(layout, self.stack);
            pricer.mesh.tied(bytes)
        } else {
            0.0
        };
        Ok(Priceable { pricer, stages, hop: hop - exchange, tied })
    }

    /// Whether each pass waits for its message.
    fn waits_for_messages(&self, layout: &Layout) -> bool {
        let interleaved = layout.schedule == PipelineSchedule::Interleaved && layout.vpp > 1;
        let beside = interleaved && self.stack.has(Trait::OverlapsMessages);
        layout.pp > 1 && self.stack.has(Trait::BlockingPipeline) && !beside
    }

    /// The message that each pass of a layout waits for, s.
    pub(crate) fn waited_seconds(&self, layout: &Layout) -> f64 {
        if self.waits_for_messages(layout) { self.hop_seconds(&self.pricer(layout)) } else { 0.0 }
    }

    /// Prices of one instance of each block.
    fn prices(&self, pricer: &Pricer<'_>) -> Rc<[Priced]> {
        let Layout { micro_batch, tp, cp, ep, sequence_parallel, whole_experts, frozen, precision, attention, .. } =
            *pricer.layout;
        let key = (micro_batch, tp, cp, ep, [sequence_parallel, whole_experts, frozen], precision, attention);
        let mut known = self.prices.borrow_mut();
        Rc::clone(known.entry(key).or_insert_with(|| {
            let outside = pricer.layout.outside_of_layers();
            let block = |block: &super::Block| {
                let pricer = Pricer { layout: if block.is_layer { pricer.layout } else { &outside }, ..*pricer };
                let sum = |sum, operator| sum + pricer.operator(operator);
                let (dense, experts) = block.parameters_of_rank(tp, pricer.layout.expert_tp() * ep);
                Priced {
                    passes: block.operators.iter().fold(Passes::default(), sum),
                    parameters: Parameters { dense: dense as f64, experts: experts as f64 },
                    tensors: block.tensors() as f64,
                    is_layer: block.is_layer,
                }
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

    fn pipeline<'d>(&self, priceable: &Priceable<'_>, devices: &'d [Devices]) -> Pipeline<'d> {
        let layout = priceable.pricer.layout;
        Pipeline {
            schedule: layout.schedule,
            devices,
            hop: Hop { transfer: priceable.hop, latency: 0.0 },
            micro_batches: layout.micro_batches(),
            overlap_slowdown: self.stack.overlap_slowdown,
        }
    }

    /// The step without gradients between replicas and without the optimizer, s.
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    pub(crate) fn passes_seconds(&self, layout: &Layout) -> Result<f64, EstimateError> {
        let priceable = self.priceable(layout)?;
        let passes = |stage: &Stage| Devices { travel: Travel::default(), ..stage.devices() };
        let devices: Vec<Devices> = priceable.stages.runs.iter().map(passes).collect();
        Ok(self.pipeline(&priceable, &devices).end(0) + self.stack.step_ms * 1e-3)
    }

    /// What sharing state at least makes of a step: what comes on top of the passes, without gradients that travel beside
    /// earlier ones; and the passes themselves where shards travel in them.
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    pub(crate) fn shared(&self, layout: &Layout) -> Result<Shared, EstimateError> {
        let priceable = self.priceable(layout)?;
        let stages = &priceable.stages.runs;
        let gradients = stages
            .first()
            .map_or(0.0, |first| first.sync.least_behind(&first.times[0], layout, self.stack) + priceable.tied);
        let travels = stages.iter().any(|stage| stage.exposed != Exposed::default());
        let both = || stages.iter().map(|stage| (stage.both() * stage.count as f64, stage.both()));
        let add = |(sum, most): (f64, f64), (all, each): (f64, f64)| (sum + all, each.max(most));
        let shards = travels.then(|| both().fold((0.0, 0.0), add));
        Ok(Shared { stages: shards, gradients, update: stages.iter().map(Stage::update).fold(0.0, f64::max) })
    }

    /// The step: passes, gradients that meet, gradients that the ends share, the slowest update. Every rank waits for the norm
    /// of all gradients before it updates.
    fn compose(&self, priceable: &Priceable<'_>) -> StepEstimate {
        let (layout, stages) = (priceable.pricer.layout, &priceable.stages.runs);
        let m = layout.micro_batches();
        let devices: Vec<Devices> = stages.iter().map(Stage::devices).collect();
        let pipeline = self.pipeline(priceable, &devices);
        let last = stages.len() - 1;
        let (mut slowest, mut end, mut most_behind) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (at, stage) in stages.iter().enumerate() {
            let tied = if at == 0 || at == last { priceable.tied } else { 0.0 };
            // Earlier stages finish later, but for weight gradients that lag behind: a stage matters when it has more to
            // synchronise than all before it.
            let behind = stage.sync.behind + stage.sync.travel.behind + tied;
            if behind <= most_behind && layout.schedule != PipelineSchedule::ZeroBubble {
                continue;
            }
            most_behind = most_behind.max(behind);
            let synchronised = pipeline.end(at) + stage.sync.behind + tied;
            if synchronised > end {
                (slowest, end) = (at, synchronised);
            }
        }
        let updated = stages.iter().max_by(|a, b| a.update().total_cmp(&b.update()));
        let (optimizer, gathered) = updated.map_or((0.0, 0.0), |stage| (stage.optimizer, stage.sync.after_update));
        let overhead = self.stack.step_ms * 1e-3;
        let seconds = end + optimizer + gathered + overhead;
        let stage = &stages[slowest];
        let mut breakdown = stage.breakdown(layout);
        let tied = if slowest == 0 || slowest == last { priceable.tied } else { 0.0 };
        let travel = &stage.sync.travel;
        // What buckets cost by their form; where the recurrence was run, no more than there is.
        let idle = end - tied - stage.sync.behind - m as f64 * stage.both();
        let beside = (travel.slowed + travel.slowed_before + travel.behind).min(idle.max(0.0));
        breakdown.bubble = idle - beside;
        breakdown.gradient_sync = stage.sync.behind + beside + tied + gathered;
        (breakdown.optimizer, breakdown.overhead) = (optimizer, overhead);
        let busy = |stage: &Stage| std::iter::repeat_n(m as f64 * stage.both(), stage.count as usize);
        StepEstimate {
            predicted: Predicted::within(seconds, self.stack.spread),
            breakdown,
            samples: layout.global_batch,
            tokens: layout.global_batch * self.model.sequence_length,
            stage_busy: stages.iter().flat_map(busy).collect(),
            work: (stage.passes.forward + stage.passes.backward()) * m as f64,
        }
    }
}
