//! One rank: its segment, its messages, and the loop over its instructions.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_plan::{Action, Direction, GroupId, InstructionId, MessageId, Program, Rank, RankProgram, SegmentId};
use thiserror::Error;

use super::loading::{first_position, loads};
use super::options::{Rehearsal, RehearsedFailure};
use super::outbox::{Inbox, Outbox, Values};
use super::save::{first_step, first_weight, loss_scale, restore};
use super::sync::GradientSync;
use super::timing::Timing;
use super::transfer::{Roads, hand_over, take};
use crate::backend::{Backend, Residence};
use crate::checkpoint::Checkpoint;
use crate::comm::{CommError, Communicator};
use crate::data::{Batches, Prefetch};
use crate::error::RuntimeError;
use crate::init::InitialWeights;
use crate::memory::{self, RankMemory};
use crate::ops::Loss;
use crate::optimizer::{LossScale, OptimizerSettings};
use crate::segment::SegmentRunner;
use crate::tensor::HostTensor;

/// Tensors of one rank by parameter: weights or gradients.
pub type RankTensors = BTreeMap<ParamId, HostTensor>;

/// What all ranks of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) model: Arc<ModelGraph>,
    pub(super) program: Arc<Program>,
    pub(super) batches: Arc<Batches>,
    pub(super) roads: Roads,
    pub(super) optimizer: OptimizerSettings,
    pub(super) seed: u64,
    pub(super) weights: InitialWeights,
    pub(super) resume: Option<Arc<Checkpoint>>,
    pub(super) rehearsal: Option<Rehearsal>,
    /// How long a rank waits for another.
    pub(super) patience: Duration,
    /// By rank, the place in its list of the instruction that it executes, plus one; zero between steps.
    pub(super) progress: Vec<AtomicUsize>,
    pub(super) timing: Timing,
}

/// Why an instruction failed.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Comm(#[from] CommError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Program(String),
    #[error("panicked: {0}")]
    Panic(String),
}

/// An executed instruction, in time since the rank's own start of the step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Executed {
    pub(super) instruction: InstructionId,
    pub(super) start: Duration,
    pub(super) end: Duration,
    pub(super) waited: Duration,
}

/// What a rank reports of a step.
#[derive(Debug)]
pub(super) struct RankStep {
    pub(super) began: Instant,
    pub(super) executed: Vec<Executed>,
    pub(super) losses: Vec<(u64, f32)>,
    pub(super) peak_memory: u64,
    /// Bytes in use and reserved in the pool of the device, where it has one.
    pub(super) pool: Option<(u64, u64)>,
    /// By what losses were multiplied, and whether the update was left out because of an overflow.
    pub(super) loss_scale: Option<f32>,
    pub(super) skipped: bool,
    /// Synchronised gradients, when they were asked for.
    pub(super) gradients: Option<RankTensors>,
}

/// The state of a rank between instructions.
pub(super) struct RankState<C> {
    shared: Arc<Shared>,
    rank: Rank,
    comm: C,
    memory: Option<RankMemory>,
    runner: SegmentRunner,
    loader: Prefetch,
    syncs: Vec<GradientSync>,
    inbox: Inbox,
    outbox: Outbox,
    everybody: Vec<Rank>,
    step: u64,
    losses: Vec<(u64, Loss)>,
    /// Whether the rank runs forward only: nothing is kept for a backward pass.
    infers: bool,
    loss_scale: Option<LossScale>,
    skipped: bool,
    /// Whether what this rank sends is lost, on purpose.
    mute: bool,
    collected: Option<RankTensors>,
    /// The place in the list of the instruction that is being executed.
    pub(super) at: Option<usize>,
}

impl<C: Communicator> RankState<C> {
    /// Builds the segment of `rank` on the calling thread, so that its memory is that thread's.
    pub(super) fn new(shared: Arc<Shared>, comm: C) -> Result<Self, Fault> {
        let memory = RankMemory::enter();
        let rank = comm.rank();
        let (model, program) = (&shared.model, &shared.program);
        let list = &program.ranks[rank.index()];
        let segment = only_segment(list)?;
        let facts = program.segment(segment).clone();
        let failed = Cell::new(None);
        let weights = |param| {
            first_weight(&shared, param).unwrap_or_else(|error| {
                failed.set(Some(error));
                HostTensor::f32(Vec::new(), Vec::new())
            })
        };
        let backend = &shared.roads.backends[rank.index()];
        let runner = SegmentRunner::new(model.clone(), facts, backend, &weights, shared.optimizer);
        // A weight that cannot be loaded is the cause of whatever the runner says about its stand-in.
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        let mut runner = runner?;
        if let Some(checkpoint) = &shared.resume {
            restore(&shared, checkpoint, &mut runner)?;
        }
        backend.sync()?;
        let loader = Prefetch::start(shared.batches.clone(), loads(&shared, list), first_step(&shared))
            .map_err(|error| RuntimeError::Thread { rank: rank.index(), problem: error.to_string() })?;
        let groups = program.groups.iter().enumerate();
        Ok(Self {
            rank,
            memory,
            runner,
            loader,
            syncs: groups.map(|(id, group)| GradientSync::new(model, GroupId(id as u32), group)).collect(),
            inbox: Inbox::default(),
            outbox: Outbox::new(program, rank),
            everybody: program.ranks.iter().map(|rank| rank.rank).collect(),
            step: 0,
            losses: Vec::new(),
            infers: !list.instructions.iter().any(|instruction| matches!(instruction.action, Action::Backward { .. })),
            loss_scale: loss_scale(&shared),
            skipped: false,
            mute: false,
            collected: None,
            at: None,
            comm,
            shared,
        })
    }

    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    pub(super) fn runner(&self) -> &SegmentRunner {
        &self.runner
    }

    pub(super) fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    fn backend(&self) -> &Backend {
        &self.shared.roads.backends[self.rank.index()]
    }

    /// Gives back what the device's pool holds and nobody uses, once the device is done.
    pub(super) fn trim_pool(&self) -> Result<(), Fault> {
        self.backend().sync()?;
        self.backend().trim_pool();
        Ok(())
    }

    /// Reports to all other ranks that this one has failed.
    pub(super) fn abort(&self, reason: &str) {
        self.comm.abort(reason);
    }

    /// Executes the rank's list once, for the samples of `step`.
    pub(super) fn run_step(&mut self, step: u64, collect_gradients: bool) -> Result<RankStep, Fault> {
        let shared = self.shared.clone();
        let instructions = &shared.program.ranks[self.rank.index()].instructions;
        let mut executed = Vec::with_capacity(instructions.len());
        (self.step, self.at, self.skipped) = (step, None, false);
        self.collected = collect_gradients.then(RankTensors::new);
        let loss_scale = self.loss_scale.map(LossScale::get);
        self.runner.set_loss_scale(loss_scale);
        if let Some(memory) = &self.memory {
            memory.reset_peak();
        }
        self.comm.barrier(&self.everybody)?;
        let began = Instant::now();
        let mut start = Duration::ZERO;
        for (index, instruction) in instructions.iter().enumerate() {
            self.at = Some(index);
            self.shared.progress[self.rank.index()].store(index + 1, Ordering::Relaxed);
            if index == instructions.len() / 2 {
                self.rehearse()?;
            }
            let waited = self.execute(instruction.action)?;
            // What the device still does counts for the step, and for the instruction where spans are asked for.
            if shared.timing == Timing::Instruction || index + 1 == instructions.len() {
                self.backend().sync()?;
            }
            let end = began.elapsed();
            executed.push(Executed { instruction: instruction.id, start, end, waited });
            start = end;
        }
        self.at = None;
        self.shared.progress[self.rank.index()].store(0, Ordering::Relaxed);
        let losses = std::mem::take(&mut self.losses);
        let pool = self.pool();
        Ok(RankStep {
            began,
            executed,
            losses: losses.into_iter().map(|(micro_batch, loss)| (micro_batch, loss.number())).collect(),
            peak_memory: pool.map_or(self.memory.as_ref().map_or(0, RankMemory::peak), |(_, reserved)| reserved),
            pool,
            loss_scale,
            skipped: self.skipped,
            gradients: self.collected.take(),
        })
    }

    fn pool(&self) -> Option<(u64, u64)> {
        let resident = self.backend().residence() == Residence::Device;
        resident.then(|| self.backend().pool()).flatten()
    }

    /// Executes one instruction and returns how long it was blocked before its peers were ready.
    fn execute(&mut self, action: Action) -> Result<Duration, Fault> {
        match action {
            Action::Load { micro_batch, .. } => self.load(micro_batch)?,
            Action::Forward { micro_batch, .. } => self.forward(micro_batch)?,
            Action::Backward { micro_batch, .. } => self.backward(micro_batch)?,
            Action::Send { message } => self.send(message)?,
            Action::Recv { message } => return self.recv(message),
            Action::AllReduce { group } => {
                let sync = &self.syncs[group.index()];
                return Ok(sync.run(&self.comm, &self.shared.roads, &mut self.runner)?);
            }
            Action::OptimizerStep => self.optimizer_step()?,
            other => return Err(Fault::Program(format!("this runtime does not execute '{}'", other.label()))),
        }
        Ok(Duration::ZERO)
    }

    /// Takes what the loader has made; it follows the same list. Its span is what is left of loading: the time for which
    /// the rank could not go on without it.
    fn load(&mut self, micro_batch: u64) -> Result<(), Fault> {
        let values = self.loader.next().map_err(RuntimeError::from)?;
        for (_, tensor) in &values {
            memory::adopt(tensor.bytes());
        }
        self.put(Direction::Activation, micro_batch, values);
        Ok(())
    }

    fn put(&mut self, direction: Direction, micro_batch: u64, values: Values) {
        let backend = &self.shared.roads.backends[self.rank.index()];
        self.inbox.put(direction, micro_batch, values, backend);
    }

    fn forward(&mut self, micro_batch: u64) -> Result<(), Fault> {
        let inputs = self.inbox.take(Direction::Activation, micro_batch);
        let position = first_position(&self.shared.program, self.rank, micro_batch);
        let first = self.shared.batches.first_sample(self.step) + position;
        self.runner.set_samples(micro_batch, self.shared.seed, first);
        let outputs = if self.infers {
            self.runner.infer(micro_batch, inputs)?
        } else {
            self.runner.forward(micro_batch, inputs)?
        };
        self.outbox.put(Direction::Activation, micro_batch, outputs);
        if let Some(loss) = self.runner.loss_handle(micro_batch) {
            self.losses.push((micro_batch, loss));
        }
        Ok(())
    }

    fn backward(&mut self, micro_batch: u64) -> Result<(), Fault> {
        let program = &self.shared.program;
        let scale = (1.0 / (program.micro_batches as f64 * program.replicas as f64)) as f32;
        let upstream = self.inbox.take(Direction::Gradient, micro_batch);
        let gradients = self.runner.backward(micro_batch, upstream, scale)?;
        self.outbox.put(Direction::Gradient, micro_batch, gradients);
        Ok(())
    }

    /// Fails, if this rank is to fail in this step.
    fn rehearse(&mut self) -> Result<(), Fault> {
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

    fn send(&mut self, id: MessageId) -> Result<(), Fault> {
        let message = self.shared.program.message(id);
        let payload = self.outbox.take(message)?;
        if self.mute {
            return Ok(());
        }
        Ok(hand_over(&self.comm, &self.shared.roads, message.to, u64::from(id.0), payload)?)
    }

    fn recv(&mut self, id: MessageId) -> Result<Duration, Fault> {
        let message = self.shared.program.message(id);
        let arrived = take(&self.comm, message.from, u64::from(id.0))?;
        let tensors = arrived.value.into_iter().map(|tensor| tensor.arrived(self.backend()));
        let values = message.values.iter().copied().zip(tensors).collect();
        let (direction, micro_batch) = (message.direction, message.micro_batch);
        self.put(direction, micro_batch, values);
        Ok(arrived.waited)
    }

    fn optimizer_step(&mut self) -> Result<(), Fault> {
        if let Some(collected) = &mut self.collected {
            let gradient = |param: &ParamId| self.runner.gradient(*param).map(|gradient| (*param, gradient));
            collected.extend(self.runner.params().iter().filter_map(gradient));
        }
        if self.overflows()? {
            self.skipped = true;
            self.runner.skip_step();
        } else {
            self.runner.optimizer_step();
        }
        Ok(())
    }

    /// Under loss scaling: whether any rank's gradients are not finite. All ranks ask at once and learn the same.
    fn overflows(&mut self) -> Result<bool, Fault> {
        let Some(scale) = &mut self.loss_scale else { return Ok(false) };
        let mut votes = [if self.runner.gradients_are_finite() { 0.0 } else { 1.0 }];
        self.comm.all_reduce(&self.everybody, &mut votes)?;
        let overflow = votes[0] > 0.5;
        scale.learn(overflow);
        Ok(overflow)
    }

    /// The rank's weights.
    pub(super) fn parameters(&self) -> RankTensors {
        self.runner.params().iter().map(|param| (*param, self.runner.parameter(*param))).collect()
    }
}

/// The segment that a rank executes; a rank holds one.
fn only_segment(rank: &RankProgram) -> Result<SegmentId, Fault> {
    let mut segments = rank.instructions.iter().filter_map(|instruction| match instruction.action {
        Action::Forward { segment, .. } | Action::Backward { segment, .. } => Some(segment),
        _ => None,
    });
    let first = segments.next().ok_or_else(|| Fault::Program(format!("{} has nothing to compute", rank.rank)))?;
    match segments.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => Err(Fault::Program(format!("{} has two segments, {first} and {other}", rank.rank))),
    }
}
