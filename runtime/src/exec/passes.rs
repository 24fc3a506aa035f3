//! Passes and messages of a rank.

use std::time::Duration;

use cutplane_graph::ValueId;
use cutplane_plan::{Action, Direction, MessageId, Program, Rank, SegmentId};

use super::options::{Rehearsal, RehearsedFailure};
use super::step::{Fault, RankState, Shared};
use super::transfer::{hand_over, take};
use crate::comm::Communicator;
use crate::data::Portion;
use crate::error::RuntimeError;
use crate::memory;
use crate::segment::Keeping;

impl<C: Communicator> RankState<C> {
    /// Takes what the loader has made; it follows the same list. Its span is what is left of loading: the time for which
    /// the rank could not go on without it.
    pub(super) fn load(&mut self, micro_batch: u64, segment: SegmentId) -> Result<(), Fault> {
        let values = self.loader.next().map_err(RuntimeError::from)?;
        for (_, tensor) in &values {
            memory::adopt(tensor.bytes());
        }
        let loaded = loaded(&self.shared, segment);
        let here = |whole| loaded.iter().find(|(origin, _)| *origin == whole).map(|(_, value)| *value);
        let values = values.into_iter().filter_map(|(whole, tensor)| Some((here(whole)?, tensor))).collect();
        self.store.load(micro_batch, segment, values);
        Ok(())
    }

    pub(super) fn forward(&mut self, micro_batch: u64, segment: SegmentId) -> Result<(), Fault> {
        let inputs = self.store.inputs(micro_batch, segment, &self.shared.program.segment(segment).inputs);
        let position = first_position(&self.shared.program, self.rank, micro_batch);
        let first = self.shared.batches.first_sample(self.step) + position;
        let outputs = if self.trains {
            let keeping = self.keeping.get(&segment).copied().unwrap_or(Keeping::Nothing);
            self.runner.set_samples(micro_batch, self.shared.seed, first);
            self.runner.forward_of(segment, micro_batch, inputs, keeping)?
        } else {
            self.runner.infer_of(segment, micro_batch, inputs)?
        };
        self.store.put(micro_batch, outputs);
        if self.computes_loss(segment) {
            self.losses.extend(self.runner.loss_handle(micro_batch).map(|loss| (micro_batch, loss)));
        }
        Ok(())
    }

    fn computes_loss(&self, segment: SegmentId) -> bool {
        let loss = self.shared.model.loss();
        loss.is_some_and(|loss| self.shared.program.segment(segment).outputs.contains(&loss))
    }

    pub(super) fn backward(&mut self, micro_batch: u64, segment: SegmentId) -> Result<(), Fault> {
        let program = &self.shared.program;
        let scale = (1.0 / (program.accumulated as f64 * program.replicas as f64)) as f32;
        let upstream = self.store.gradients(micro_batch, &program.segment(segment).outputs);
        let gradients = self.runner.backward_of(segment, micro_batch, upstream, scale)?;
        let backend = &self.shared.roads.backends[self.rank.index()];
        self.store.put_gradients(micro_batch, gradients, backend);
        Ok(())
    }

    /// Fails, if this rank is to fail in this step.
    pub(super) fn rehearse(&mut self) -> Result<(), Fault> {
        let mine = |rehearsal: &Rehearsal| rehearsal.rank == self.rank && rehearsal.step == self.step;
        match self.shared.rehearsal.filter(mine).map(|rehearsal| rehearsal.failure) {
            None => {}
            Some(RehearsedFailure::Mute) => self.mute = true,
            Some(RehearsedFailure::Panic) => return Err(Fault::Panic("rehearsed".to_owned())),
            Some(RehearsedFailure::Hang) => {
                std::thread::sleep(self.shared.patience * 4 + Duration::from_secs(10));
                return Err(Fault::Panic("rehearsed, after a pause".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, id: MessageId) -> Result<(), Fault> {
        let message = self.shared.program.message(id);
        let payload = self.store.message(message)?;
        if self.mute {
            return Ok(());
        }
        Ok(hand_over(&self.comm, &self.shared.roads, message.to, u64::from(id.0), payload)?)
    }

    pub(super) fn recv(&mut self, id: MessageId) -> Result<Duration, Fault> {
        let message = self.shared.program.message(id);
        let arrived = take(&self.comm, message.from, u64::from(id.0))?;
        let backend = &self.shared.roads.backends[self.rank.index()];
        let tensors = arrived.value.into_iter().map(|tensor| tensor.arrived(backend));
        let values = message.values.iter().copied().zip(tensors).collect();
        match message.direction {
            Direction::Activation => self.store.put(message.micro_batch, values),
            Direction::Gradient => self.store.put_gradients(message.micro_batch, values, backend),
        }
        Ok(arrived.waited)
    }
}

/// Where a micro-batch of a rank begins in the global batch.
fn first_position(program: &Program, rank: Rank, micro_batch: u64) -> u64 {
    let replica = program.ranks[rank.index()].replica as u64;
    (replica * program.micro_batches + micro_batch) * program.micro_batch_size
}

/// What a rank loads in a step, in the order of its list.
pub(super) fn loads(shared: &Shared, rank: Rank) -> Vec<Portion> {
    let program = &shared.program;
    let portion = |action| match action {
        Action::Load { micro_batch, segment } => Some(Portion {
            first_position: first_position(program, rank, micro_batch),
            count: program.micro_batch_size,
            wanted: loaded(shared, segment).into_iter().map(|(whole, _)| whole).collect(),
        }),
        _ => None,
    };
    program.ranks[rank.index()].instructions.iter().filter_map(|instruction| portion(instruction.action)).collect()
}

/// The inputs of the model that a segment takes, by the ids that the model's own graph has for them and by those of the
/// segment's graph.
fn loaded(shared: &Shared, segment: SegmentId) -> Vec<(ValueId, ValueId)> {
    let origin = |value| shared.local.as_ref().map_or(Some(value), |local| local.input_origin(value));
    let inputs = shared.program.segment(segment).inputs.iter().copied();
    let inputs = inputs.filter(|value| shared.model.value(*value).producer.is_none());
    inputs.filter_map(|value| Some((origin(value)?, value))).collect()
}
