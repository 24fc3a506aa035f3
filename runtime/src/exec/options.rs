//! How a program is run, and what a step gives.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_plan::{Push, Rank};
use cutplane_record::Timeline;
use cutplane_units::{Bytes, Nanos};

use super::timing::Timing;
use super::transfer::Transfers;
use crate::backend::{Backend, available_cores, cores_of_host};
use crate::checkpoint::Checkpoint;
use crate::comm::{CommOptions, Processes};
use crate::init::InitialWeights;
use crate::optimizer::OptimizerSettings;

/// A failure on purpose, to see what becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The rank that fails.
    pub rank: Rank,
    /// The step in which it does, in the middle of its list.
    pub step: u64,
    /// How.
    pub failure: RehearsedFailure,
}

/// How a rank fails on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RehearsedFailure {
    /// It panics.
    Panic,
    /// It stops answering, for four times the timeout of the communicator and ten seconds.
    Hang,
    /// Its link is cut: what it sends is lost.
    Mute,
}

/// How a program is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Seed of the initial weights.
    pub seed: u64,
    /// Where the initial weights come from, if not from the seed.
    pub weights: InitialWeights,
    /// Goes on from this checkpoint: its weights, optimizer and step count. The samples and the seed are to be those of the
    /// checkpoint too ([`Checkpoint::resume`], [`Checkpoint::manifest`]).
    pub resume: Option<Arc<Checkpoint>>,
    /// Update rule with its numbers.
    pub optimizer: OptimizerSettings,
    /// The core of each rank, counted among the cores of this process; a rank beyond the list runs on
    /// the core of its own number, modulo the number of cores. A rank on a card is not pinned.
    pub cores: Vec<usize>,
    /// How long a rank waits for a peer, and how much of that it spends looking. With more ranks than cores no rank looks.
    pub comm: CommOptions,
    /// Ends a step in which no rank has begun another instruction for so long; `None` waits for ever. Without it a rank that
    /// hangs is noticed only by a rank that waits for it ([`CommOptions::timeout`]). It must be longer than any
    /// instruction, the choice of kernels on a card included.
    pub watchdog: Option<Duration>,
    /// A failure on purpose.
    pub rehearsal: Option<Rehearsal>,
    /// What servers that take gradients as they come took in earlier steps, step by step ([`StepReport::pushes`]): they wait for
    /// the same again, and apply and answer in the same order. Later steps are free.
    pub pushes: Vec<Vec<Push>>,
    /// Set it, from a signal handler for example, and the next step ends with [`RuntimeError::Interrupted`].
    ///
    /// [`RuntimeError::Interrupted`]: crate::RuntimeError::Interrupted
    pub stop: Arc<AtomicBool>,
    /// Where the operators run, of ranks beyond the list of [`RunOptions::backends`].
    pub backend: Backend,
    /// Where the operators of each rank run: ranks may be on cores and on cards, several on one card. The program's
    /// precision is set by [`Run::start`].
    ///
    /// [`Run::start`]: super::Run::start
    pub backends: Vec<Backend>,
    /// How tensors go from rank to rank.
    pub transfers: Transfers,
    /// The processes that execute the ranks together; `None` when all ranks are threads of this process.
    pub processes: Option<Arc<dyn Processes>>,
    /// When the clock waits for a device.
    pub timing: Timing,
}

impl RunOptions {
    /// Seed 0, cores in order, default waiting, the processor.
    pub fn new(optimizer: OptimizerSettings) -> Self {
        Self {
            seed: 0,
            weights: InitialWeights::default(),
            resume: None,
            optimizer,
            cores: Vec::new(),
            comm: CommOptions::default(),
            watchdog: None,
            rehearsal: None,
            pushes: Vec::new(),
            stop: Arc::default(),
            backend: Backend::cpu(),
            backends: Vec::new(),
            transfers: Transfers::default(),
            processes: None,
            timing: Timing::default(),
        }
    }

    pub(super) fn core(&self, rank: usize) -> usize {
        self.cores.get(rank).copied().unwrap_or(rank % available_cores())
    }

    pub(super) fn backend_of(&self, rank: usize) -> &Backend {
        self.backends.get(rank).unwrap_or(&self.backend)
    }

    /// Looking takes the core away from the rank that is waited for, when both share one.
    pub(super) fn waiting(&self, ranks: usize) -> CommOptions {
        let shared = match &self.processes {
            None => {
                let mut cores: Vec<usize> = (0..ranks).map(|rank| self.core(rank)).collect();
                cores.sort_unstable();
                cores.dedup();
                cores.len() < ranks
            }
            // A launcher may have given each process some cores of the host.
            Some(processes) => (processes.share(ranks) * processes.neighbours()).min(ranks) > cores_of_host(),
        };
        CommOptions { spin: if shared { Duration::ZERO } else { self.comm.spin }, ..self.comm }
    }
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from zero.
    pub step: u64,
    /// Mean loss over the global batch, before the update.
    pub loss: f64,
    /// Measured time from the common start to the end of the last rank.
    pub step_time: Nanos,
    /// Every instruction of every rank; what a span means on a card says [`StepReport::timing`]. The peak memory of a rank
    /// on a card is what the pool of the whole card has reserved ([`StepReport::pools`]).
    pub timeline: Timeline,
    /// When the clock waited for a device.
    pub timing: Timing,
    /// By what losses were multiplied before the backward pass, in f16.
    pub loss_scale: Option<f32>,
    /// Whether the update was left out, because a gradient was not finite under the scale.
    pub skipped: bool,
    /// What servers that take gradients as they come were given, by server, in the order of its updates.
    pub pushes: Vec<Push>,
    /// The memory of each device with a pool of its own.
    pub pools: Vec<PoolUse>,
}

/// Memory of a device with a pool, which all ranks on it share: no part of it is one rank's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The ranks on the device.
    pub ranks: Vec<Rank>,
    /// In use at the end of the step.
    pub in_use: Bytes,
    /// Held from the device. The pool grows with need and gives nothing back by itself, so this is the peak since the pool
    /// was trimmed ([`Run::warm_up`](super::Run::warm_up)), its rounding included.
    pub reserved: Bytes,
}
