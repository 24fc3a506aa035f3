//! One rank: its segment, its messages, and the loop over its instructions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_graph::{ModelGraph, ParamId, ValueId};
use cutplane_plan::{Action, Direction, InstructionId, MessageId, Program, Rank, RankProgram, SegmentId};
use thiserror::Error;

use super::outbox::{Inbox, Outbox};
use super::sync::GradientSync;
use super::transfer::{hand_over, take};
use crate::backend::Backend;
use crate::comm::{CommError, Communicator};
use crate::data::Batches;
use crate::error::RuntimeError;
use crate::init::initial_weight;
use crate::memory::RankMemory;
use crate::optimizer::OptimizerSettings;
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
    pub(super) backend: Backend,
    pub(super) optimizer: OptimizerSettings,
    pub(super) seed: u64,
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
    loaded: Vec<ValueId>,
    syncs: Vec<GradientSync>,
    inbox: Inbox,
    outbox: Outbox,
    everybody: Vec<Rank>,
    step: u64,
    losses: Vec<(u64, f32)>,
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
        let segment = only_segment(&program.ranks[rank.index()])?;
        let facts = program.segment(segment).clone();
        let loaded = facts.inputs.iter().copied().filter(|value| model.value(*value).producer.is_none()).collect();
        let weights = |param| initial_weight(model.param(param), shared.seed);
        let runner = SegmentRunner::new(model.clone(), facts, &shared.backend, &weights, shared.optimizer)?;
        Ok(Self {
            rank,
            memory,
            runner,
            loaded,
            syncs: program.groups.iter().map(|group| GradientSync::new(model, group)).collect(),
            inbox: Inbox::default(),
            outbox: Outbox::new(program, rank),
            everybody: program.ranks.iter().map(|rank| rank.rank).collect(),
            step: 0,
            losses: Vec::new(),
            collected: None,
            at: None,
            comm,
            shared,
        })
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
        (self.step, self.at) = (step, None);
        self.collected = collect_gradients.then(RankTensors::new);
        if let Some(memory) = &self.memory {
            memory.reset_peak();
        }
        self.comm.barrier(&self.everybody)?;
        let began = Instant::now();
        let mut start = Duration::ZERO;
        for (index, instruction) in instructions.iter().enumerate() {
            self.at = Some(index);
            let waited = self.execute(instruction.action)?;
            let end = began.elapsed();
            executed.push(Executed { instruction: instruction.id, start, end, waited });
            start = end;
        }
        self.at = None;
        Ok(RankStep {
            began,
            executed,
            losses: std::mem::take(&mut self.losses),
            peak_memory: self.memory.as_ref().map_or(0, RankMemory::peak),
            gradients: self.collected.take(),
        })
    }

    /// Executes one instruction and returns how long it was blocked before its peers were ready.
    fn execute(&mut self, action: Action) -> Result<Duration, Fault> {
        match action {
            Action::Load { micro_batch, .. } => self.load(micro_batch),
            Action::Forward { micro_batch, .. } => self.forward(micro_batch)?,
            Action::Backward { micro_batch, .. } => self.backward(micro_batch)?,
            Action::Send { message } => self.send(message)?,
            Action::Recv { message } => return self.recv(message),
            Action::AllReduce { group } => {
                return Ok(self.syncs[group.index()].run(&self.comm, &mut self.runner)?);
            }
            Action::OptimizerStep => self.optimizer_step(),
            other => return Err(Fault::Program(format!("this runtime does not execute '{}'", other.label()))),
        }
        Ok(Duration::ZERO)
    }

    fn load(&mut self, micro_batch: u64) {
        let program = &self.shared.program;
        let replica = program.ranks[self.rank.index()].replica as u64;
        let first = (replica * program.micro_batches + micro_batch) * program.micro_batch_size;
        let values = self.shared.batches.inputs(self.step, first, program.micro_batch_size, &self.loaded);
        self.inbox.put(Direction::Activation, micro_batch, values);
    }

    fn forward(&mut self, micro_batch: u64) -> Result<(), Fault> {
        let inputs = self.inbox.take(Direction::Activation, micro_batch);
        let outputs = self.runner.forward(micro_batch, inputs)?;
        self.outbox.put(Direction::Activation, micro_batch, outputs);
        if let Some(loss) = self.runner.loss(micro_batch) {
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

    fn send(&mut self, id: MessageId) -> Result<(), Fault> {
        let message = self.shared.program.message(id);
        let payload = self.outbox.take(message)?;
        Ok(hand_over(&self.comm, message.to, u64::from(id.0), payload)?)
    }

    fn recv(&mut self, id: MessageId) -> Result<Duration, Fault> {
        let message = self.shared.program.message(id);
        let arrived = take(&self.comm, message.from, u64::from(id.0))?;
        let values = message.values.iter().copied().zip(arrived.value).collect();
        self.inbox.put(message.direction, message.micro_batch, values);
        Ok(arrived.waited)
    }

    fn optimizer_step(&mut self) {
        if let Some(collected) = &mut self.collected {
            let gradient = |param: &ParamId| self.runner.gradient(*param).map(|gradient| (*param, gradient));
            collected.extend(self.runner.params().iter().filter_map(gradient));
        }
        self.runner.optimizer_step();
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
