//! One rank: its segment, its messages, and the loop over its instructions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cutplane_graph::{LocalGraph, ModelGraph, OpId, Param, ParamId, ValueId};
use cutplane_plan::{Action, GroupId, InstructionId, Program, Push, Rank, SegmentId};
use thiserror::Error;

use super::held::{keeping, runner, scattered};
use super::options::Rehearsal;
use super::passes::loads;
use super::save::{first_step, loss_scale, restore};
use super::served::Server;
use super::store::Store;
use super::sync::GradientSync;
use super::timing::Timing;
use super::transfer::Roads;
use crate::backend::{Backend, Residence};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::Part;
use crate::comm::{CommError, Communicator};
use crate::data::{Batches, Prefetch};
use crate::error::RuntimeError;
use crate::init::InitialWeights;
use crate::memory::RankMemory;
use crate::ops::{Loss, TablePart};
use crate::optimizer::{LossScale, OptimizerSettings};
use crate::segment::{Keeping, SegmentRunner};
use crate::tensor::HostTensor;

/// Tensors of one rank by parameter of the model: weights or gradients.
pub type RankTensors = BTreeMap<ParamId, HostTensor>;

/// What all ranks of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The graph that the program's segments refer to.
    pub(super) model: Arc<ModelGraph>,
    /// The model, whole.
    pub(super) whole: Arc<ModelGraph>,
    /// How the one is made of the other, where operators are split over a tensor axis.
    pub(super) local: Option<LocalGraph>,
    pub(super) program: Arc<Program>,
    pub(super) batches: Arc<Batches>,
    pub(super) roads: Roads,
    pub(super) optimizer: OptimizerSettings,
    pub(super) seed: u64,
    pub(super) weights: InitialWeights,
    pub(super) resume: Option<Arc<Checkpoint>>,
    pub(super) rehearsal: Option<Rehearsal>,
    pub(super) pushes: Vec<Vec<Push>>,
    /// How long a rank waits for another.
    pub(super) patience: Duration,
    /// By rank, the place in its list of the instruction that it executes, plus one; zero between steps.
    pub(super) progress: Vec<AtomicUsize>,
    pub(super) timing: Timing,
}

impl Shared {
    /// The place of a rank on its tensor axis.
    pub(super) fn place(&self, rank: Rank) -> usize {
        rank.index() % self.program.tensor_degree()
    }

    /// The value with which a rank begins of a parameter: of the checkpoint to go on from, or else a new one.
    pub(super) fn initial(&self, param: ParamId, rank: Rank) -> Result<HostTensor, RuntimeError> {
        let whole = self.held_param(param, rank);
        let numbers = match &self.resume {
            None => self.weights.of(whole, self.seed)?.to_f32().unwrap_or_default(),
            // A weight that is not saved whole has been refused before.
            Some(checkpoint) => checkpoint.numbers(whole, Part::Weight)?.unwrap_or_default(),
        };
        let shape: Vec<usize> = self.model.param(param).shape.iter().map(|dim| *dim as usize).collect();
        Ok(HostTensor::f32(shape, self.own(param, rank, numbers)))
    }

    /// The parameter of the model that a rank holds as one of the graph that it computes.
    pub(super) fn held(&self, param: ParamId, rank: Rank) -> ParamId {
        self.local.as_ref().map_or(param, |local| local.held(param, self.place(rank) as u64))
    }

    /// That parameter, whole.
    pub(super) fn held_param(&self, param: ParamId, rank: Rank) -> &Param {
        self.whole.param(self.held(param, rank))
    }

    /// What a rank holds of a parameter's numbers.
    pub(super) fn own(&self, param: ParamId, rank: Rank, whole: Vec<f32>) -> Vec<f32> {
        match &self.local {
            Some(local) => local.slice_param(param, self.place(rank) as u64, &whole),
            None => whole,
        }
    }

    /// The first entry and the whole length of the vocabularies and mixtures of which a rank has a part, by the value that is
    /// computed from them.
    pub(super) fn tables(&self, rank: Rank) -> BTreeMap<ValueId, TablePart> {
        let Some(local) = &self.local else { return BTreeMap::new() };
        let part = |op: OpId| {
            let own = local.own_entries(op)? as usize;
            let part = TablePart { first: own * self.place(rank), whole: own * self.program.tensor_degree() };
            Some((self.model.op(op).output, part))
        };
        self.model.op_ids().filter_map(part).collect()
    }
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
    pub(super) pushes: Vec<Push>,
    /// Synchronised gradients, when they were asked for.
    pub(super) gradients: Option<RankTensors>,
}

/// The state of a rank between instructions.
pub(super) struct RankState<C> {
    pub(super) shared: Arc<Shared>,
    pub(super) rank: Rank,
    pub(super) comm: C,
    memory: Option<RankMemory>,
    pub(super) runner: SegmentRunner,
    pub(super) loader: Prefetch,
    pub(super) syncs: Vec<GradientSync>,
    pub(super) servers: Vec<Server>,
    pub(super) store: Store,
    /// What the forward pass of each segment leaves behind.
    pub(super) keeping: BTreeMap<SegmentId, Keeping>,
    everybody: Vec<Rank>,
    pub(super) step: u64,
    pub(super) losses: Vec<(u64, Loss)>,
    /// Whether the program updates parameters; it is inference otherwise.
    pub(super) trains: bool,
    pub(super) loss_scale: Option<LossScale>,
    skipped: bool,
    /// Whether what this rank sends is lost, on purpose.
    pub(super) mute: bool,
    collected: Option<RankTensors>,
    /// The place in the list of the instruction that is being executed.
    pub(super) at: Option<usize>,
}

impl<C: Communicator> RankState<C> {
    /// Builds the segments of `rank` on the calling thread, so that its memory is that thread's.
    pub(super) fn new(shared: &Arc<Shared>, comm: C) -> Result<Self, Fault> {
        let memory = RankMemory::enter();
        let rank = comm.rank();
        let (model, program) = (&shared.model, &shared.program);
        let runner = runner(shared, rank)?;
        let loader = Prefetch::start(shared.batches.clone(), loads(shared, rank), first_step(shared))
            .map_err(|error| RuntimeError::Thread { rank: rank.index(), problem: error.to_string() })?;
        let groups = program.groups.iter().enumerate();
        let actions = || program.ranks[rank.index()].instructions.iter().map(|instruction| instruction.action);
        let mut state = Self {
            rank,
            memory,
            runner,
            loader,
            syncs: groups.map(|(id, group)| GradientSync::new(model, GroupId(id as u32), group)).collect(),
            servers: Server::of_rank(program, rank),
            store: Store::new(program, rank),
            keeping: keeping(actions()),
            everybody: program.ranks.iter().map(|rank| rank.rank).collect(),
            step: 0,
            losses: Vec::new(),
            trains: actions().any(|action| matches!(action, Action::OptimizerStep | Action::Push { .. })),
            loss_scale: loss_scale(shared),
            skipped: false,
            mute: false,
            collected: None,
            at: None,
            comm,
            shared: shared.clone(),
        };
        state.syncs.iter().for_each(|sync| sync.divide(rank, &mut state.runner));
        for group in scattered(program, rank) {
            state.syncs[group.index()].release(&mut state.runner);
        }
        if let Some(checkpoint) = &shared.resume {
            restore(shared, rank, checkpoint, &mut state.runner)?;
        }
        state.backend().sync()?;
        Ok(state)
    }

    pub(super) fn backend(&self) -> &Backend {
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
        self.begin_serving();
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
            pushes: self.pushes(),
            gradients: self.collected.take(),
        })
    }

    fn pool(&self) -> Option<(u64, u64)> {
        let resident = self.backend().residence() == Residence::Device;
        resident.then(|| self.backend().pool()).flatten()
    }

    /// Executes one instruction and returns how long it was blocked before its peers were ready.
    fn execute(&mut self, action: Action) -> Result<Duration, Fault> {
        if let Action::Exchange { micro_batch, segment, direction, .. } = action {
            return self.exchange(micro_batch, segment, direction);
        }
        if let Some(group) = action.collective() {
            let sync = &self.syncs[group.index()];
            return Ok(sync.run(action, &self.comm, &self.shared.roads, &mut self.runner)?);
        }
        if action.served().is_some() {
            return self.deal(action);
        }
        match action {
            Action::Load { micro_batch, segment } => self.load(micro_batch, segment)?,
            Action::Forward { micro_batch, segment } => self.forward(micro_batch, segment)?,
            Action::Recompute { micro_batch, segment } => self.runner.recompute(segment, micro_batch)?,
            Action::Backward { micro_batch, segment } | Action::BackwardInput { micro_batch, segment } => {
                self.backward(micro_batch, segment)?;
            }
            Action::BackwardWeight { micro_batch, segment } => self.runner.backward_weights(segment, micro_batch)?,
            Action::Send { message } => self.send(message)?,
            Action::Recv { message } => return self.recv(message),
            Action::Release { group } => self.syncs[group.index()].release(&mut self.runner),
            Action::OptimizerStep => self.optimizer_step()?,
            other => return Err(Fault::Program(format!("this runtime does not execute '{}'", other.label()))),
        }
        Ok(Duration::ZERO)
    }

    fn optimizer_step(&mut self) -> Result<(), Fault> {
        if let Some(collected) = &mut self.collected {
            let held = |param: &ParamId| self.shared.held(*param, self.rank);
            let gradient = |param: &ParamId| self.runner.gradient(*param).map(|gradient| (held(param), gradient));
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

    /// The rank's weights, gathered where they lie scattered between passes.
    pub(super) fn parameters(&mut self) -> Result<RankTensors, Fault> {
        let shared = self.shared.clone();
        let groups = scattered(&shared.program, self.rank);
        for group in &groups {
            let action = Action::AllGather { group: *group };
            self.syncs[group.index()].run(action, &self.comm, &shared.roads, &mut self.runner)?;
        }
        let weight = |param: &ParamId| (shared.held(*param, self.rank), self.runner.parameter(*param));
        let weights = self.runner.params().iter().map(weight).collect();
        for group in groups {
            self.syncs[group.index()].release(&mut self.runner);
        }
        Ok(weights)
    }
}
