//! A run: the threads of all ranks, and the steps that they take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cutplane_graph::ModelGraph;
use cutplane_plan::{Program, Rank};
use cutplane_record::{Source, Span, Timeline};
use cutplane_units::{Bytes, Nanos};

use super::options::{PoolUse, RunOptions, StepReport};
use super::others::Others;
use super::rank::{Answer, Command, Reply, rank_thread};
use super::step::{RankStep, RankTensors, Shared};
use super::timing::{Timing, WarmUp, WarmedUp};
use super::transfer::{Roads, Transfers, world};
use crate::comm::{CommError, Processes, Talk};
use crate::data::Batches;
use crate::error::RuntimeError;

/// A program being run: one thread a rank, asleep between steps.
#[derive(Debug)]
pub struct Run {
    program: Arc<Program>,
    shared: Arc<Shared>,
    commands: Vec<Sender<Command>>,
    processes: Option<Arc<dyn Processes>>,
    /// The other processes, where this one leads several.
    others: Option<Others>,
    /// What the leading process is listened to with, where this one does not lead.
    leader: Option<Box<dyn Talk>>,
    replies: Receiver<Reply>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    watchdog: Option<Duration>,
    next_step: u64,
    over: bool,
    lost: Option<Rank>,
}

impl Run {
    /// Starts the threads and builds every rank's segment.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`] when a rank cannot build its segment, [`RuntimeError::Thread`] when it cannot be started,
    /// [`RuntimeError::Precision`] when its device does not compute in the program's precision,
    /// [`RuntimeError::Checkpoint`] when the checkpoint to go on from is of another model or not whole.
    pub fn start(
        model: Arc<ModelGraph>,
        program: Arc<Program>,
        batches: Arc<Batches>,
        options: &RunOptions,
    ) -> Result<Self, RuntimeError> {
        let ranks = program.ranks.len();
        let backend = |rank| options.backend_of(rank).in_precision(program.precision);
        let backends = (0..ranks).map(backend).collect::<Result<Vec<_>, _>>()?;
        // Handles mean nothing to another process.
        let transfers = if options.processes.is_some() { Transfers::Staged } else { options.transfers };
        let share = options.processes.as_ref().map_or(ranks, |processes| processes.share(ranks));
        let (world, between_cards) = world(&backends, options)?;
        let roads = Roads { backends, transfers, share, between_cards };
        let (seed, optimizer, timing) = (options.seed, options.optimizer, options.timing);
        let (weights, resume) = (options.weights.clone(), options.resume.clone());
        let next_step = match &resume {
            None => 0,
            Some(checkpoint) => {
                checkpoint.check(&model, optimizer.rule)?;
                checkpoint.manifest().step
            }
        };
        let local = program.local(&model)?;
        let (whole, model) = (model.clone(), local.as_ref().map_or(model, |local| Arc::new(local.graph().clone())));
        let shared = Arc::new(Shared {
            model,
            whole,
            local,
            program: program.clone(),
            batches,
            roads,
            optimizer,
            seed,
            weights,
            resume,
            rehearsal: options.rehearsal,
            pushes: options.pushes.clone(),
            patience: options.comm.timeout,
            progress: (0..ranks).map(|_| AtomicUsize::new(0)).collect(),
            timing,
        });
        let (answers, replies) = channel();
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for comm in world {
            let (command, orders) = channel();
            let rank = comm.rank().index();
            let (core, shared, answers) = (options.core(rank), shared.clone(), answers.clone());
            let body = move || rank_thread(core, &shared, comm, orders, &answers);
            let thread = std::thread::Builder::new().name(format!("rank-{rank}")).spawn(body);
            threads.push(thread.map_err(|error| RuntimeError::Thread { rank, problem: error.to_string() })?);
            commands.push(command);
        }
        let (stop, watchdog) = (options.stop.clone(), options.watchdog);
        let processes = options.processes.clone();
        let (others, leader) = match &processes {
            None => (None, None),
            Some(processes) if processes.index() == 0 => {
                (Some(Others::lead(processes.clone(), shared.clone(), answers)?), None)
            }
            Some(processes) => (None, Some(processes.talk().map_err(|error| unreachable_processes(&error))?)),
        };
        let (over, lost) = (false, None);
        let mut run = Self {
            program,
            shared,
            commands,
            processes,
            others,
            leader,
            replies,
            threads,
            stop,
            watchdog,
            next_step,
            over,
            lost,
        };
        // What the ranks of another process answer is for the one that leads.
        if run.leads() {
            run.answers()?;
        }
        Ok(run)
    }

    /// The number of the next step, from zero; a resumed run goes on where the checkpoint stands.
    pub fn next_step(&self) -> u64 {
        self.next_step
    }

    /// After a step has failed: the rank that the run would have to go on without, because it has panicked, does not answer,
    /// or cannot be reached. `None` when the failure would come again without it: bad data, a bad program.
    pub fn lost(&self) -> Option<Rank> {
        self.lost
    }

    /// Seed of the initial weights and of dropout.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub(super) fn processes(&self) -> Option<&Arc<dyn Processes>> {
        self.processes.as_ref()
    }

    pub(super) fn take_leader(&mut self) -> Option<Box<dyn Talk>> {
        self.leader.take()
    }

    pub(super) fn others(&self) -> Option<&Others> {
        self.others.as_ref()
    }

    pub(super) fn patience(&self) -> Duration {
        self.shared.patience
    }

    pub(super) fn replies(&self) -> &Receiver<Reply> {
        &self.replies
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The answers of all ranks to a command, in rank order.
    pub(super) fn ask(&mut self, command: &Command) -> Result<Vec<Answer>, RuntimeError> {
        self.order(command)?;
        self.answers()
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Repeats the step until two successive ones agree, then lets every device's pool give back what the choice of
    /// kernels has left in it, and takes one more step, so that the peak of the steps to come is their own.
    ///
    /// # Errors
    /// As [`Run::step`].
    pub fn warm_up(&mut self, until: WarmUp) -> Result<WarmedUp, RuntimeError> {
        let started = Instant::now();
        let (mut steps, mut losses) = (Vec::new(), Vec::new());
        while !until.is_over(&steps) && steps.len() < until.at_most && started.elapsed() < until.time {
            let report = self.step()?;
            steps.push(report.step_time);
            losses.push(report.loss);
        }
        let agreed = until.is_over(&steps);
        self.ask(&Command::TrimPool)?;
        losses.push(self.step()?.loss);
        Ok(WarmedUp { steps, losses, agreed })
    }

    /// What a record of this run should say of how it ran.
    pub fn notes(&self) -> Vec<String> {
        let roads = &self.shared.roads;
        let mut notes = Vec::new();
        for ranks in roads.sharers() {
            if ranks.len() > 1 {
                let how = match roads.transfers {
                    Transfers::OnDevice => "handed over on the card",
                    Transfers::Staged => "staged through the host",
                };
                notes.push(format!("{} ranks on one card, each in a stream of its own; tensors {how}", ranks.len()));
            }
            notes.push("peak memory is what the pool of the whole card has reserved".to_owned());
        }
        if !notes.is_empty() && self.shared.timing == Timing::Instruction {
            notes
                .push("the device was waited for after every instruction: spans are exact, the step is not".to_owned());
        }
        notes.extend(roads.between_cards.clone());
        notes.dedup();
        notes.extend(self.processes.as_ref().map(|processes| {
            let (count, here) = (processes.count(), processes.neighbours());
            let what = if roads.between_cards.is_some() { "messages" } else { "tensors" };
            format!("ranks in {count} processes, {here} of them on this host; {what} go through the host")
        }));
        notes
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
    /// time of the optimizer. There are none of parameters whose server takes gradients as they come.
    ///
    /// # Errors
    /// As [`Run::step`].
    pub fn step_with_gradients(&mut self) -> Result<(StepReport, Vec<RankTensors>), RuntimeError> {
        let (report, gradients) = self.execute(true)?;
        Ok((report, gradients.into_iter().map(Option::unwrap_or_default).collect()))
    }

    /// The weights of each rank, in the shapes that it holds them in; [`cutplane_graph::LocalGraph::slice_param`] says which
    /// part of a parameter a rank of a tensor axis has.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`] when the run is over.
    pub fn parameters(&mut self) -> Result<Vec<RankTensors>, RuntimeError> {
        let tensors = |answer| match answer {
            Answer::Parameters(tensors) => tensors,
            _ => RankTensors::new(),
        };
        Ok(self.ask(&Command::Parameters)?.into_iter().map(tensors).collect())
    }

    /// Ends the threads and waits for them.
    pub fn finish(self) {}

    fn execute(&mut self, collect_gradients: bool) -> Result<(StepReport, Vec<Option<RankTensors>>), RuntimeError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(RuntimeError::Interrupted);
        }
        let number = self.next_step;
        self.next_step += 1;
        let steps =
            self.ask(&Command::Step { number, collect_gradients })?.into_iter().filter_map(|answer| match answer {
                Answer::Step(step) => Some(step),
                _ => None,
            });
        let mut steps: Vec<RankStep> = steps.collect();
        let gradients = steps.iter_mut().map(|step| step.gradients.take()).collect();
        Ok((self.report(number, &steps), gradients))
    }

    fn order(&mut self, command: &Command) -> Result<(), RuntimeError> {
        if self.over {
            let problem = "the run is over, because a rank failed in an earlier step".to_owned();
            return Err(RuntimeError::Rank { rank: 0, problem });
        }
        self.order_local(command);
        self.others.iter().for_each(|others| others.order(command));
        Ok(())
    }

    /// Has the ranks of this process do something.
    pub(super) fn order_local(&self, command: &Command) {
        for commands in &self.commands {
            // A thread that has ended has answered with its failure, or its silence is noticed.
            let _ = commands.send(command.clone());
        }
    }

    /// Ends the run, without a rank that is to blame.
    pub(super) fn end(&mut self, lost: Option<Rank>, error: RuntimeError) -> RuntimeError {
        (self.over, self.lost) = (true, lost);
        error
    }

    fn report(&self, step: u64, ranks: &[RankStep]) -> StepReport {
        let timeline = timeline(&self.program, ranks);
        let losses = || ranks.iter().flat_map(|rank| rank.losses.iter().map(|(_, loss)| f64::from(*loss)));
        let loss = losses().sum::<f64>() / losses().count().max(1) as f64;
        StepReport {
            step,
            loss,
            step_time: timeline.makespan(),
            timeline,
            timing: self.shared.timing,
            loss_scale: ranks.iter().find_map(|rank| rank.loss_scale),
            skipped: ranks.iter().any(|rank| rank.skipped),
            pushes: ranks.iter().flat_map(|rank| rank.pushes.iter().copied()).collect(),
            pools: pools(&self.shared.roads, ranks),
        }
    }
}

/// Before there are ranks, the leading process's first one stands for all.
pub(super) fn unreachable_processes(error: &CommError) -> RuntimeError {
    RuntimeError::Rank { rank: 0, problem: error.to_string() }
}

fn pools(roads: &Roads, steps: &[RankStep]) -> Vec<PoolUse> {
    let pool = |ranks: Vec<Rank>| {
        // Ranks end their steps at different moments; each has looked at the whole pool.
        let looks = || ranks.iter().filter_map(|rank| steps[rank.index()].pool);
        let (in_use, reserved) = (looks().map(|pool| pool.0).max()?, looks().map(|pool| pool.1).max()?);
        Some(PoolUse { ranks, in_use: Bytes::new(in_use), reserved: Bytes::new(reserved) })
    };
    roads.sharers().into_iter().filter_map(pool).collect()
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
