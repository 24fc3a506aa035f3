//! A run: the threads of all ranks, and the steps that they take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cutplane_graph::ModelGraph;
use cutplane_plan::{Program, Rank};
use cutplane_record::{Source, Span, Timeline};
use cutplane_units::{Bytes, Nanos};

use super::rank::{Answer, Command, Failure, Reply, rank_thread};
use super::step::{RankStep, RankTensors, Shared};
use crate::backend::{Backend, available_cores};
use crate::comm::{CommOptions, InProcess};
use crate::data::Batches;
use crate::error::RuntimeError;
use crate::optimizer::OptimizerSettings;

/// How a program is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Seed of the initial weights.
    pub seed: u64,
    /// Update rule with its numbers.
    pub optimizer: OptimizerSettings,
    /// The core of each rank, counted among the cores of this process; a rank beyond the list runs on
    /// the core of its own number, modulo the number of cores.
    pub cores: Vec<usize>,
    /// How long a rank waits for a peer, and how much of that it spends looking. With more ranks than cores no rank looks.
    pub comm: CommOptions,
    /// Set it, from a signal handler for example, and the next step ends with [`RuntimeError::Interrupted`].
    pub stop: Arc<AtomicBool>,
    /// Where the operators run.
    pub backend: Backend,
}

impl RunOptions {
    /// Seed 0, cores in order, default waiting, the processor.
    pub fn new(optimizer: OptimizerSettings) -> Self {
        Self {
            seed: 0,
            optimizer,
            cores: Vec::new(),
            comm: CommOptions::default(),
            stop: Arc::default(),
            backend: Backend::cpu(),
        }
    }

    fn core(&self, rank: usize) -> usize {
        self.cores.get(rank).copied().unwrap_or(rank % available_cores())
    }

    /// Looking takes the core away from the rank that is waited for, when both share one.
    fn waiting(&self, ranks: usize) -> CommOptions {
        let mut cores: Vec<usize> = (0..ranks).map(|rank| self.core(rank)).collect();
        cores.sort_unstable();
        cores.dedup();
        let shared = cores.len() < ranks;
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
    /// Every instruction of every rank.
    pub timeline: Timeline,
}

/// A program being run: one thread a rank, asleep between steps.
#[derive(Debug)]
pub struct Run {
    program: Arc<Program>,
    commands: Vec<Sender<Command>>,
    replies: Receiver<Reply>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    patience: Duration,
    next_step: u64,
    over: bool,
}

impl Run {
    /// Starts the threads and builds every rank's segment.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`] when a rank cannot build its segment, [`RuntimeError::Thread`] when it cannot be started.
    pub fn start(
        model: Arc<ModelGraph>,
        program: Arc<Program>,
        batches: Arc<Batches>,
        options: &RunOptions,
    ) -> Result<Self, RuntimeError> {
        let ranks = program.ranks.len();
        let world = InProcess::world(ranks, options.waiting(ranks));
        let (seed, optimizer, backend) = (options.seed, options.optimizer, options.backend.clone());
        let shared = Arc::new(Shared { model, program: program.clone(), batches, backend, optimizer, seed });
        let (answers, replies) = channel();
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for (rank, comm) in world.into_iter().enumerate() {
            let (command, orders) = channel();
            let (core, shared, answers) = (options.core(rank), shared.clone(), answers.clone());
            let body = move || rank_thread(core, shared, comm, orders, &answers);
            let thread = std::thread::Builder::new().name(format!("rank-{rank}")).spawn(body);
            threads.push(thread.map_err(|error| RuntimeError::Thread { rank, problem: error.to_string() })?);
            commands.push(command);
        }
        let (stop, patience) = (options.stop.clone(), options.comm.timeout);
        let mut run = Self { program, commands, replies, threads, stop, patience, next_step: 0, over: false };
        run.answers()?;
        Ok(run)
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Executes the program once.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`], naming the rank and the instruction that failed first; the run is over then.
    /// [`RuntimeError::Interrupted`] when [`RunOptions::stop`] is set.
    pub fn step(&mut self) -> Result<StepReport, RuntimeError> {
        Ok(self.execute(false)?.0)
    }

    /// Executes the program once and also returns, for each rank, the gradients that its optimizer step used: summed over
    /// micro-batches and groups, so those of the mean loss of the global batch. Collecting them is part of the measured
    /// time of the optimizer.
    ///
    /// # Errors
    /// As [`Run::step`].
    pub fn step_with_gradients(&mut self) -> Result<(StepReport, Vec<RankTensors>), RuntimeError> {
        let (report, gradients) = self.execute(true)?;
        Ok((report, gradients.into_iter().map(Option::unwrap_or_default).collect()))
    }

    /// The weights of each rank.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`] when the run is over.
    pub fn parameters(&mut self) -> Result<Vec<RankTensors>, RuntimeError> {
        self.order(Command::Parameters)?;
        let tensors = |answer| match answer {
            Answer::Parameters(tensors) => tensors,
            _ => RankTensors::new(),
        };
        Ok(self.answers()?.into_iter().map(tensors).collect())
    }

    /// Ends the threads and waits for them.
    pub fn finish(self) {}

    fn execute(&mut self, collect_gradients: bool) -> Result<(StepReport, Vec<Option<RankTensors>>), RuntimeError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(RuntimeError::Interrupted);
        }
        let number = self.next_step;
        self.next_step += 1;
        self.order(Command::Step { number, collect_gradients })?;
        let steps = self.answers()?.into_iter().filter_map(|answer| match answer {
            Answer::Step(step) => Some(step),
            _ => None,
        });
        let mut steps: Vec<RankStep> = steps.collect();
        let gradients = steps.iter_mut().map(|step| step.gradients.take()).collect();
        Ok((self.report(number, &steps), gradients))
    }

    fn order(&mut self, command: Command) -> Result<(), RuntimeError> {
        if self.over {
            let problem = "the run is over, because a rank failed in an earlier step".to_owned();
            return Err(RuntimeError::Rank { rank: 0, problem });
        }
        for commands in &self.commands {
            // A thread that has ended has answered with its failure, or its silence is noticed below.
            let _ = commands.send(command);
        }
        Ok(())
    }

    /// One answer of each rank, in rank order; or the failure that came first.
    fn answers(&mut self) -> Result<Vec<Answer>, RuntimeError> {
        let ranks = self.commands.len();
        let mut answers: Vec<Option<Answer>> = (0..ranks).map(|_| None).collect();
        let mut failure: Option<Failure> = None;
        // Once a rank has failed, the others stop within their timeout; a rank that does not is left behind.
        let mut deadline: Option<Instant> = None;
        for _ in 0..ranks {
            match self.next_reply(deadline) {
                Some((rank, Ok(answer))) => answers[rank.index()] = Some(answer),
                Some((_, Err(next))) => {
                    deadline.get_or_insert_with(|| Instant::now() + self.patience + Duration::from_secs(1));
                    let better = failure.as_ref().is_none_or(|known| known.follows && !next.follows);
                    failure = if better { Some(next) } else { failure };
                }
                None => break,
            }
        }
        if let Some(failure) = failure {
            self.over = true;
            return Err(failure.error);
        }
        let silent = answers.iter().position(Option::is_none);
        match silent {
            None => Ok(answers.into_iter().flatten().collect()),
            Some(rank) => {
                self.over = true;
                Err(RuntimeError::Rank { rank: rank as u32, problem: "its thread has ended without an answer".into() })
            }
        }
    }

    fn next_reply(&self, deadline: Option<Instant>) -> Option<Reply> {
        let Some(deadline) = deadline else { return self.replies.recv().ok() };
        self.replies.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    fn report(&self, step: u64, ranks: &[RankStep]) -> StepReport {
        let timeline = timeline(&self.program, ranks);
        let losses = || ranks.iter().flat_map(|rank| rank.losses.iter().map(|(_, loss)| f64::from(*loss)));
        let loss = losses().sum::<f64>() / losses().count().max(1) as f64;
        StepReport { step, loss, step_time: timeline.makespan(), timeline }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.commands.clear();
        // After a failure a rank may be stuck in a computation; its thread ends with it.
        if !self.over {
            for thread in self.threads.drain(..) {
                // A thread's panic has been reported as an answer.
                let _ = thread.join();
            }
        }
    }
}

/// Joins what the ranks have measured on one clock, which starts when the first rank has left the common start.
fn timeline(program: &Program, ranks: &[RankStep]) -> Timeline {
    let origin = ranks.iter().map(|rank| rank.began).min();
    let mut spans = Vec::with_capacity(program.instruction_count());
    for (index, rank) in ranks.iter().enumerate() {
        let offset = origin.map_or(Duration::ZERO, |origin| rank.began - origin);
        spans.extend(rank.executed.iter().map(|executed| Span {
            instruction: executed.instruction,
            rank: Rank(index as u32),
            start: Nanos::from(offset + executed.start),
            end: Nanos::from(offset + executed.end),
            waited: Nanos::from(executed.waited.min(executed.end.saturating_sub(executed.start))),
        }));
    }
    let peak_memory = ranks.iter().map(|rank| Bytes::new(rank.peak_memory)).collect();
    Timeline { source: Source::Measured, plan_digest: program.plan_digest.clone(), spans, peak_memory }
}
