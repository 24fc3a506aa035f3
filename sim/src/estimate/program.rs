//! A layout as the step engine runs it: the same prices as the closed form's, pass by pass and piece by piece.

use cutplane_units::Nanos;

use super::error::EstimateError;
use super::layout::{Layout, PipelineSchedule};
use super::model::Block;
use super::price::Pricer;
use super::stage::{Stage, checkpoints, recomputed, unit};
use super::step::{Estimator, Priceable};
use super::work::{Passes, Work};
use crate::engine::step::{Activity, ChunkWork, DeviceWork, Gradients, HopTime, Pass, Piece, StepProgram};

impl Estimator<'_> {
    /// The step of a layout for [`crate::engine::step::simulate_step`]: one class of ranks for each pipeline device.
    ///
    /// # Errors
    /// [`EstimateError`] for fields that do not fit together or the model.
    pub fn program(&self, layout: &Layout) -> Result<StepProgram, EstimateError> {
        let priceable = self.priceable(layout)?;
        let mut program = StepProgram {
            micro_batches: layout.micro_batches(),
            chunks: priceable.stages.runs[0].times.len(),
            hop: HopTime { transfer: time(priceable.hop), latency: Nanos::ZERO },
            overlap_slowdown: self.stack.overlap_slowdown,
            tied: time(priceable.tied),
            overhead: time(self.stack.step_ms * 1e-3),
            ranks_in_step: layout.tp * layout.cp,
            replicas: layout.dp,
            ..StepProgram::of(layout.schedule)
        };
        let splits = layout.pp > 1 && layout.schedule == PipelineSchedule::ZeroBubble;
        for stage in &priceable.stages.runs {
            let kinds = self.kinds(&priceable, stage, splits);
            let first = program.kinds.len();
            program.kinds.extend(kinds);
            let device = device(stage, first);
            program.devices.extend(std::iter::repeat_n(device, stage.count as usize));
        }
        if layout.pp == 1 {
            // One device alone has nothing to take turns with.
            program.schedule = PipelineSchedule::OneForwardOneBackward;
        }
        Ok(program)
    }

    /// The passes of each chunk of a stage.
    fn kinds(&self, priceable: &Priceable<'_>, stage: &Stage, splits: bool) -> Vec<ChunkWork> {
        let pricer = &priceable.pricer;
        let share = 1.0 / stage.held.len() as f64;
        let of_chunk = |kind: &usize| {
            let mut lists = [Vec::new(), Vec::new(), Vec::new()];
            for &(index, count) in &priceable.stages.chunks.kinds[*kind] {
                let one = self.block(pricer, &self.model.blocks[index], stage.repeated, splits);
                for (list, pieces) in lists.iter_mut().zip(&one) {
                    (0..count).for_each(|_| list.extend_from_slice(pieces));
                }
            }
            let [mut forward, mut backward, weight_gradient] = lists;
            for (list, sharding) in [(&mut forward, stage.exposed.forward), (&mut backward, stage.exposed.backward)] {
                push(list, Activity::Sharding, sharding * share);
                push(list, Activity::Exchange, stage.exchange);
            }
            ChunkWork {
                forward: Pass::of_pieces(forward),
                backward: Pass::of_pieces(backward),
                weight_gradient: Pass::of_pieces(weight_gradient),
            }
        };
        stage.held.iter().map(of_chunk).collect()
    }

    /// The pieces of one instance of a block: forward, backward, weight gradient (part of the backward pass unless it is
    /// split).
    fn block(&self, pricer: &Pricer<'_>, block: &Block, repeated: f64, splits: bool) -> [Vec<Piece>; 3] {
        let outside = pricer.layout.outside_of_layers();
        let layout = if block.is_layer { pricer.layout } else { &outside };
        let pricer = Pricer { layout, ..*pricer };
        let priced = |operator| recomputed(pricer.operator(operator), layout, repeated, block.is_layer);
        let operators: Vec<Passes> = block.operators.iter().map(priced).collect();
        let all = operators.iter().fold(Passes::default(), |sum, one| sum + *one);
        let kept = if block.is_layer { checkpoints(layout, repeated) } else { 0.0 };
        let launched = unit(&all, kept, 0.0, 1.0, self.stack);
        let mut forward = of_works(operators.iter().map(|one| one.forward), Activity::Forward);
        push(&mut forward, Activity::Host, launched.forward - all.forward.device());
        let mut backward = of_works(operators.iter().map(|one| one.recompute), Activity::Recompute);
        let gradients = |one: &Passes| {
            if splits { one.input_gradient } else { one.input_gradient + one.weight_gradient }
        };
        backward.extend(of_works(operators.iter().rev().map(gradients), Activity::Backward));
        push(&mut backward, Activity::Host, launched.backward - all.backward().device());
        let weights = operators.iter().rev().map(|one| one.weight_gradient).filter(|_| splits);
        [forward, backward, of_works(weights, Activity::WeightGradient)]
    }
}

fn device(stage: &Stage, first: usize) -> DeviceWork {
    let travel = |(seconds, buckets): &(f64, u64)| Gradients { time: time(*seconds), buckets: *buckets };
    let mut gradients: Vec<Gradients> = stage.sync.travel.chunks.iter().map(travel).collect();
    gradients.resize(stage.held.len(), Gradients::default());
    DeviceWork {
        chunks: (first..first + stage.held.len()).collect(),
        gradients,
        sync: time(stage.sync.behind),
        optimizer: time(stage.optimizer),
        gather: time(stage.sync.after_update),
    }
}

/// Kernels between collectives are one piece.
fn of_works(works: impl Iterator<Item = Work>, activity: Activity) -> Vec<Piece> {
    let (mut pieces, mut kernels) = (Vec::new(), 0.0);
    for work in works {
        kernels += work.compute();
        if work.communication() > 0.0 {
            push(&mut pieces, activity, std::mem::take(&mut kernels));
            push(&mut pieces, Activity::TensorParallel, work.tensor_parallel);
            push(&mut pieces, Activity::ContextParallel, work.context_parallel);
            push(&mut pieces, Activity::ExpertParallel, work.expert_parallel);
        }
    }
    push(&mut pieces, activity, kernels);
    pieces
}

fn push(pieces: &mut Vec<Piece>, activity: Activity, seconds: f64) {
    let time = time(seconds);
    if !time.is_zero() {
        pieces.push(Piece { activity, time });
    }
}

fn time(seconds: f64) -> Nanos {
    Nanos::from_nanos_f64((seconds * 1e9).max(0.0).round())
}
