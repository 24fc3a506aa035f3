//! One device of a pipeline: what its chunks cost for one micro-batch, and what follows its passes.

use super::chunks::{Chunks, DeviceRun};
use super::layout::{Layout, Recompute};
use super::model::FoldedModel;
use super::pipeline::{Devices, StageTime};
use super::price::Pricer;
use super::sharding::{Exposed, Unit, exposed};
use super::stack::Stack;
use super::step::Breakdown;
use super::sync::{Parameters, Sync, gradient_sync, optimizer_seconds};
use super::work::{Passes, Work};

/// One instance of a block on one rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Priced {
    pub(super) passes: Passes,
    pub(super) parameters: Parameters,
    /// Parameter tensors.
    pub(super) tensors: f64,
    pub(super) is_layer: bool,
}

/// Messages between stages, s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// What travels beside computation.
    pub(super) beside: f64,
    /// What a pass waits for.
    pub(super) waited: f64,
}

/// The devices of a layout.
pub(super) struct Stages {
    pub(super) chunks: Chunks,
    /// Devices in a row that are alike, first to last.
    pub(super) runs: Vec<Stage>,
}

/// Devices in a row that are alike; times of one micro-batch, s.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) count: u64,
    /// Kinds of its chunks.
    pub(super) held: Vec<usize>,
    /// Its chunks' times.
    pub(super) times: Vec<StageTime>,
    pub(super) passes: Passes,
    pub(super) exposed: Exposed,
    /// Exchange with neighbours that each chunk's pass waits for.
    pub(super) exchange: f64,
    /// Wait for the host.
    host: f64,
    pub(super) sync: Sync,
    pub(super) optimizer: f64,
    /// Share of its layers that are computed again whole.
    pub(super) repeated: f64,
}

impl Stages {
    pub(super) fn new(
        model: &FoldedModel,
        chunks: Chunks,
        pricer: &Pricer<'_>,
        prices: &[Priced],
        links: Links,
    ) -> Self {
        let stage = |run: DeviceRun| Stage::new(model, &chunks, run, pricer, prices, links);
        let runs = chunks.devices(pricer.layout.pp).into_iter().map(stage).collect();
        Self { chunks, runs }
    }
}

/// What a stage's blocks add up to, for one micro-batch.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    passes: Passes,
    /// With the waits for the host, s.
    forward: f64,
    backward: f64,
    parameters: Parameters,
    tensors: f64,
}

impl Sum {
    fn add(&mut self, passes: &Passes, unit: &Unit, priced: &Priced) {
        self.passes += *passes * unit.count;
        self.forward += unit.forward * unit.count;
        self.backward += unit.backward * unit.count;
        self.parameters += priced.parameters * unit.count;
        self.tensors += priced.tensors * unit.count;
    }

    fn include(&mut self, other: &Self) {
        self.passes += other.passes;
        self.forward += other.forward;
        self.backward += other.backward;
        self.parameters += other.parameters;
        self.tensors += other.tensors;
    }
}

impl Stage {
    fn new(
        model: &FoldedModel,
        chunks: &Chunks,
        run: DeviceRun,
        pricer: &Pricer<'_>,
        prices: &[Priced],
        links: Links,
    ) -> Self {
        let (layout, stack) = (pricer.layout, pricer.stack);
        let is_layer = |index: usize| model.blocks[index].is_layer;
        let held = || run.chunks.iter().flat_map(|kind| &chunks.kinds[*kind]);
        let layers: u64 = held().filter(|part| is_layer(part.0)).map(|part| part.1).sum();
        let repeated = repeated_share(layout, layers);
        let (mut all, mut each) = (Sum::default(), Vec::<Sum>::with_capacity(run.chunks.len()));
        let mut units = Vec::with_capacity(run.chunks.len() + 2);
        for (number, kind) in run.chunks.iter().enumerate() {
            let first = units.len();
            let mut sum = Sum::default();
            if number > 0 && run.chunks[number - 1] == *kind {
                let length = chunks.kinds[*kind].len();
                units.extend_from_within(first - length..first);
                sum = each[number - 1];
            } else {
                for &(index, count) in &chunks.kinds[*kind] {
                    let priced = &prices[index];
                    let passes = recomputed(priced.passes, layout, repeated, priced.is_layer);
                    let kept = if priced.is_layer { checkpoints(layout, repeated) } else { 0.0 };
                    let unit = unit(&passes, kept, priced.parameters.total(), count as f64, stack);
                    sum.add(&passes, &unit, priced);
                    units.push(unit);
                }
            }
            all.include(&sum);
            each.push(sum);
        }
        let exposed = exposed(&units, layout, &pricer.mesh, stack);
        Self::timed(pricer, run, &all, &each, exposed, links, repeated)
    }

    fn timed(
        pricer: &Pricer<'_>,
        run: DeviceRun,
        all: &Sum,
        each: &[Sum],
        exposed: Exposed,
        links: Links,
        repeated: f64,
    ) -> Self {
        let layout = pricer.layout;
        // Shards of a device travel beside all of its chunks alike.
        let share = 1.0 / each.len() as f64;
        let time = |sum: &Sum| StageTime {
            forward: sum.forward + exposed.forward * share + links.waited,
            backward: sum.backward + exposed.backward * share + links.waited,
            weight_gradient: sum.passes.weight_gradient.device(),
        };
        let times: Vec<StageTime> = each.iter().map(time).collect();
        let trained = |parameters: Parameters| if layout.frozen { Parameters::default() } else { parameters };
        let parameters: Vec<Parameters> = each.iter().map(|sum| trained(sum.parameters)).collect();
        let sync = gradient_sync(&parameters, &times, links.beside, &pricer.mesh, layout, pricer.stack);
        let tensors = if layout.frozen { 0.0 } else { all.tensors };
        let own = trained(all.parameters);
        let (update, host) = optimizer_seconds(own, tensors, layout, pricer.gpu, pricer.stack);
        Self {
            count: run.count,
            held: run.chunks,
            times,
            passes: all.passes,
            exposed,
            exchange: links.waited,
            host: all.forward + all.backward - (all.passes.forward + all.passes.backward()).device(),
            sync,
            optimizer: update.max(host),
            repeated,
        }
    }

    /// As the pipeline sees them.
    pub(super) fn devices(&self) -> Devices {
        Devices { chunks: self.times.clone(), count: self.count, travel: self.sync.travel.clone() }
    }

    /// All passes of one micro-batch.
    pub(super) fn both(&self) -> f64 {
        self.times.iter().map(StageTime::both).sum()
    }

    /// The update and what follows it, s.
    pub(super) fn update(&self) -> f64 {
        self.optimizer + self.sync.after_update
    }

    /// The parts of a step's breakdown that the passes decide.
    pub(super) fn breakdown(&self, layout: &Layout) -> Breakdown {
        let m = layout.micro_batches() as f64;
        let Self { passes, exposed, host, .. } = self;
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
            pipeline_messages: 2.0 * self.exchange * self.times.len() as f64 * m,
            ..Breakdown::default()
        }
    }
}

/// One block's passes with the host that launches them.
pub(super) fn unit(passes: &Passes, checkpoints: f64, parameters: f64, count: f64, stack: &Stack) -> Unit {
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

/// Kernels of `device` seconds that a host launches in `host` seconds: an 8-norm, since the slower of the two hides the
/// other along a block's kernels, but for short ones, which wait for the host even where most are long.
fn launched(device: f64, host: f64) -> f64 {
    let (long, short) = if device > host { (device, host) } else { (host, device) };
    if long <= 0.0 {
        return 0.0;
    }
    // Three square roots are an eighth root, far cheaper than a power.
    let eighth = (short / long).powi(8);
    long * (1.0 + eighth).sqrt().sqrt().sqrt()
}

/// Share of a stage's layers that are computed again whole.
pub(super) fn repeated_share(layout: &Layout, layers: u64) -> f64 {
    match layout.recompute {
        Recompute::None | Recompute::Selective => 0.0,
        Recompute::Full => 1.0,
        Recompute::Layers(some) => some as f64 / layers.max(1) as f64,
    }
    .min(1.0)
}

/// Times that the state of a layer is kept and restored for a recomputation.
pub(super) const fn checkpoints(layout: &Layout, repeated: f64) -> f64 {
    match layout.recompute {
        Recompute::Selective => 1.0,
        _ => repeated,
    }
}

/// The passes of a block with what its recomputation adds.
pub(super) fn recomputed(passes: Passes, layout: &Layout, repeated: f64, is_layer: bool) -> Passes {
    let recompute = match layout.recompute {
        Recompute::Selective if is_layer => passes.recompute,
        _ if is_layer => passes.forward * repeated,
        _ => Work::default(),
    };
    Passes { recompute, ..passes }
}
