//! From pieces to stages: who holds which layers, for how many micro-batches, under which state.

use std::borrow::Cow;

use super::keeping::{Keeping, Master};
use super::parts::{Footprint, Moment, Parts, StageFootprint};
use super::pieces::{Pieces, Run};
use super::shape::Numbers;
use super::state::{ModelState, StateBytes, model_state};
use crate::estimate::{EstimateError, Layout, Offload, PipelineSchedule, Recompute, Zero, ZeroStage};

/// Units whose weights are whole at once: the one that computes and the one that is gathered ahead.
const GATHERED_UNITS: f64 = 2.0;

/// Micro-batches (of chunks, when interleaved) whose activations a device of `stage` holds at most.
///
/// Fill-drain: all. 1F1B: `p - stage`. Interleaved: `g (v - 1) + 2 (p - stage) - 1` chunks with groups of `g` micro-batches
/// (Megatron-LM's warm-up plus one); the groups are of `p`, or of all where `p` does not divide them.
///
/// ```
/// use cutplane_sim::estimate::{Layout, PipelineSchedule};
/// use cutplane_sim::footprint::in_flight;
/// let schedule = PipelineSchedule::Interleaved;
/// let layout = Layout { pp: 4, vpp: 3, global_batch: 8, schedule, ..Layout::default() };
/// assert_eq!((in_flight(&layout, 0), in_flight(&layout, 3)), (15, 9));
/// ```
pub fn in_flight(layout: &Layout, stage: u64) -> u64 {
    if chunks(layout) <= 1 {
        return layout.in_flight(stage.min(layout.pp.saturating_sub(1))).max(1);
    }
    let micro_batches = layout.micro_batches();
    let group = if micro_batches.is_multiple_of(layout.pp) { layout.pp } else { micro_batches };
    let last = layout.pp.saturating_sub(1);
    let warm = group.saturating_mul(layout.vpp - 1).saturating_add(2 * (last - stage.min(last)) + 1);
    warm.min(micro_batches.saturating_mul(layout.vpp)).max(1)
}

/// Chunks that the micro-batches of a device are counted in.
const fn chunks(layout: &Layout) -> u64 {
    match layout.schedule {
        PipelineSchedule::Interleaved => layout.vpp,
        _ => 1,
    }
}

/// Degrees that a layout may have, as [`Layout::validate`] wants them; how batch and schedule fit together does not matter
/// for memory.
pub(super) fn check(layout: &Layout) -> Result<(), EstimateError> {
    let probe = Layout {
        global_batch: layout.micro_batch.saturating_mul(layout.dp).clamp(1, 1 << 24),
        schedule: PipelineSchedule::OneForwardOneBackward,
        vpp: 1,
        stage_split: None,
        zero: Zero::stage(layout.zero.stage),
        sequence_parallel: false,
        ep: 1,
        ..layout.clone()
    };
    probe.validate()?;
    if !(1..=1 << 16).contains(&layout.ep) {
        return refuse("ep", format!("{} is not between 1 and 65536", layout.ep), "choose a positive degree");
    }
    if layout.vpp > 0 && layout.pp.saturating_mul(layout.vpp) <= 1 << 16 {
        return Ok(());
    }
    refuse("vpp, pp", format!("{} chunks on {} stages", layout.vpp, layout.pp), "choose 1 to 65536 chunks in all")
}

fn refuse<T>(fields: &str, problem: String, remedy: &str) -> Result<T, EstimateError> {
    Err(EstimateError::Inconsistent { fields: fields.to_owned(), problem, remedy: remedy.to_owned() })
}

/// The footprint of a model in pieces.
pub(super) fn assemble(pieces: &Pieces, layout: &Layout, keeping: &Keeping) -> Result<Footprint, EstimateError> {
    let of = |(stage, runs): (usize, &[(Run, u64)])| {
        Stage { pieces, layout, keeping, number: stage as u64, runs }.footprint()
    };
    let split = split(pieces, layout)?;
    let stages = if let [run] = pieces.layers[..] {
        let alike = |stage: usize| {
            let layers = split.iter().skip(stage).step_by(layout.pp as usize).sum::<u64>();
            of((stage, &[(run, layers)][usize::from(layers == 0)..]))
        };
        (0..layout.pp as usize).map(alike).collect()
    } else {
        held(pieces, layout, &split).iter().map(Vec::as_slice).enumerate().map(of).collect()
    };
    Ok(Footprint {
        stages,
        fragmentation: keeping.fragmentation.max(1.0),
        cached: keeping.cached.max(keeping.fragmentation),
        context: keeping.context_bytes,
    })
}

/// Layers of each chunk: spread evenly, the first chunks taking what is left, unless the layout says otherwise.
fn split<'l>(pieces: &Pieces, layout: &'l Layout) -> Result<Cow<'l, [u64]>, EstimateError> {
    let layers: u64 = pieces.layers.iter().map(|run| run.repeats).sum();
    let chunks = layout.pp * layout.vpp;
    match &layout.stage_split {
        Some(split)
            if split.len() as u64 == chunks
                && split.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)) == layers =>
        {
            Ok(split.into())
        }
        _ if layout.pp > 1 && layers < chunks => {
            let problem = format!("{chunks} chunks for {layers} layers");
            refuse("pp, vpp", problem, "choose at most as many chunks as there are layers")
        }
        _ => Ok((0..chunks).map(|chunk| layers / chunks + u64::from(chunk < layers % chunks)).collect()),
    }
}

/// Layers of each device, `(run, instances)`, over all of its chunks. Chunk `c` lies on device `c mod pp`.
fn held(pieces: &Pieces, layout: &Layout, split: &[u64]) -> Vec<Vec<(Run, u64)>> {
    let mut held = vec![Vec::new(); layout.pp as usize];
    let mut runs = pieces.layers.iter().copied();
    let mut open = runs.next();
    for (chunk, mut room) in split.iter().copied().enumerate() {
        while let Some(run) = open.as_mut().filter(|_| room > 0) {
            let here = run.repeats.min(room);
            held[chunk % layout.pp as usize].push((*run, here));
            (run.repeats, room) = (run.repeats - here, room - here);
            if run.repeats == 0 {
                open = runs.next();
            }
        }
    }
    held
}

struct Stage<'a> {
    pieces: &'a Pieces,
    layout: &'a Layout,
    keeping: &'a Keeping,
    number: u64,
    runs: &'a [(Run, u64)],
}

impl Stage<'_> {
    const fn is_first(&self) -> bool {
        self.number == 0
    }

    const fn is_last(&self) -> bool {
        self.number + 1 == self.layout.pp
    }

    fn footprint(&self) -> StageFootprint {
        let bytes = StateBytes::new(self.layout.precision, self.layout.optimizer, self.keeping);
        let state = self.state(bytes);
        let activations = self.activations();
        let always = Parts {
            weights: state.weights,
            gradients: state.gradients,
            optimizer: state.optimizer,
            workspace: self.keeping.workspace_bytes,
            buckets: self.keeping.bucket_bytes + self.keeping.bucket_share * state.gradients,
            ..Parts::default()
        };
        let (spike, moment) = self.spike();
        let passing = Parts {
            gathered: self.gathered(bytes),
            layers: activations,
            ends: self.ends(),
            spike,
            messages: self.messages(),
            ..always
        };
        let stepping = Parts { spike: state.during_step, ..always };
        let (parts, moment) =
            if stepping.total() > passing.total() { (stepping, Moment::OptimizerStep) } else { (passing, moment) };
        StageFootprint { stage: self.number, parts, moment, activations }
    }

    /// Trainable numbers of the stage.
    fn numbers(&self) -> Numbers {
        let mut sum = Numbers::default();
        let mut add = |numbers: Numbers, times: f64| {
            sum.dense += numbers.dense * times;
            sum.experts += numbers.experts * times;
        };
        for (run, instances) in self.runs {
            add(run.numbers, *instances as f64);
        }
        if self.is_first() {
            add(self.pieces.before.numbers, 1.0);
        }
        if self.is_last() {
            add(self.pieces.behind.numbers, 1.0);
            add(Numbers { dense: self.pieces.tied, experts: 0.0 }, f64::from(u8::from(!self.is_first())));
        }
        sum
    }

    fn state(&self, bytes: StateBytes) -> ModelState {
        let (numbers, trained) = (self.numbers(), self.pieces.trained);
        let stage = self.layout.zero.stage;
        let dense = model_state(numbers.dense, bytes, stage, self.layout.shard_ranks());
        let copies = self.pieces.expert_replicas;
        let group = self.layout.zero.shard_group.map_or(copies, |_| {
            let share = (self.layout.dp * self.layout.cp / self.layout.shard_ranks().max(1)).max(1);
            (copies / share).max(1)
        });
        let experts = model_state(numbers.experts, bytes, stage, group);
        let all = ModelState {
            weights: dense.weights + experts.weights,
            gradients: trained * (dense.gradients + experts.gradients),
            optimizer: trained * (dense.optimizer + experts.optimizer),
            during_step: trained * (dense.during_step + experts.during_step),
        };
        if self.layout.offload == Offload::Optimizer { all.with_host_optimizer(stage) } else { all }
    }

    /// What the layers keep for the micro-batches in flight.
    fn activations(&self) -> f64 {
        if self.layout.offload == Offload::Activations {
            return self.runs.iter().map(|(run, _)| run.bytes.kept).fold(0.0, f64::max);
        }
        let mut full = match self.layout.recompute {
            Recompute::Full => u64::MAX,
            Recompute::Layers(layers) => layers,
            Recompute::None | Recompute::Selective => 0,
        };
        let mut kept = 0.0;
        for (run, instances) in self.runs {
            let dropped = full.min(*instances);
            full -= dropped;
            kept += dropped as f64 * run.bytes.input + (*instances - dropped) as f64 * self.kept(run);
        }
        kept * in_flight(self.layout, self.number) as f64 / chunks(self.layout) as f64
    }

    /// What a layer keeps that is not computed again as a whole.
    fn kept(&self, run: &Run) -> f64 {
        let core = if self.layout.recompute == Recompute::Selective { run.bytes.core } else { 0.0 };
        run.bytes.kept - core
    }

    /// What the ends keep: of the first stage for all micro-batches in flight, of the last stage for those whose loss is
    /// not back yet.
    fn ends(&self) -> f64 {
        let first = in_flight(self.layout, self.number).div_ceil(chunks(self.layout)) as f64;
        let last = if self.layout.schedule == PipelineSchedule::FillDrain { first } else { 1.0 };
        let mut kept = 0.0;
        if self.is_first() {
            kept += self.pieces.before.kept * first;
        }
        if self.is_last() {
            kept += self.pieces.behind.kept * last;
        }
        kept
    }

    /// The largest need of a moment while all activations are there.
    fn spike(&self) -> (f64, Moment) {
        let recomputed = |run: &Run| match self.layout.recompute {
            Recompute::Full | Recompute::Layers(_) => run.bytes.kept - run.bytes.input,
            Recompute::Selective => run.bytes.core,
            Recompute::None => 0.0,
        };
        let backward = self.runs.iter().map(|(run, _)| run.bytes.working + recomputed(run)).fold(0.0, f64::max);
        let loss = if self.is_last() { self.pieces.loss } else { 0.0 };
        if loss >= backward { (loss, Moment::Loss) } else { (backward, Moment::LayerBackward) }
    }

    fn messages(&self) -> f64 {
        if self.layout.pp == 1 { 0.0 } else { self.keeping.pipeline_messages * self.pieces.message }
    }

    /// Weights of whole units where every rank owns a shard, and the gradients of one; a cast copy of all weights where
    /// those are 32-bit and the passes are not.
    fn gathered(&self, bytes: StateBytes) -> f64 {
        let (precision, zero) = (self.layout.precision, self.layout.zero.stage);
        let cast = precision.activation_bytes() as f64;
        let unit = self.runs.iter().map(|(run, _)| run.numbers.dense + run.numbers.experts).fold(0.0, f64::max);
        let copied = precision.is_mixed() && self.keeping.master == Master::InPlace;
        match zero {
            ZeroStage::Three if self.layout.shard_ranks() > 1 => {
                let ends = self.outside();
                let live = (GATHERED_UNITS * unit + ends).min(self.keeping.live_numbers.unwrap_or(f64::INFINITY));
                live * cast + unit.min(live) * bytes.gradient
            }
            _ if copied => (self.numbers().dense + self.numbers().experts) * cast,
            _ => 0.0,
        }
    }

    /// Numbers of the stage outside of its layers: FSDP's root unit, which stays whole over both passes.
    fn outside(&self) -> f64 {
        let layers: f64 = self.runs.iter().map(|(run, instances)| run.numbers.dense * *instances as f64).sum();
        self.numbers().dense - layers
    }
}
