//! Runs every plan: on cores interleaved, so that all of them see the same machine; on cards one after another, because their
//! memory is that of one pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::{Plan, Program, lower};
use cutplane_record::{Summary, Timeline};
use cutplane_runtime::RuntimeError;
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::{Run, RunOptions, StepReport};
use cutplane_units::Bytes;

use super::plans::Candidate;
use crate::alone::measure_alone;
use crate::{context, progress};

/// What was measured of one plan.
pub(crate) struct Measured {
    /// The lowered plan.
    pub(crate) program: Arc<Program>,
    /// Step times of the timed steps, ns.
    pub(crate) steps_ns: Vec<f64>,
    /// Loss of every step, warm-up included.
    pub(crate) losses: Vec<f64>,
    /// Timeline of every timed step.
    timelines: Vec<Timeline>,
    /// Peak memory of the fullest rank over all steps; on a card over the timed ones, of the whole card.
    pub(crate) peak_memory: Bytes,
    /// How it ran, where that is worth a word.
    pub(crate) notes: Vec<String>,
}

/// A plan's time on cards ends after this.
const TIME_ON_CARDS: Duration = Duration::from_mins(10);

impl Measured {
    fn new(program: Arc<Program>) -> Self {
        let (steps_ns, losses, timelines, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { program, steps_ns, losses, timelines, peak_memory: Bytes::ZERO, notes }
    }

    fn timed(&mut self, report: StepReport) {
        self.peak_memory = self.peak_memory.max(report.timeline.max_peak_memory());
        self.steps_ns.push(report.timeline.makespan().as_f64());
        self.timelines.push(report.timeline);
    }

    /// Order statistics of the step time; `None` before the first timed step.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(&self.steps_ns)
    }

    /// The timeline of the step whose time is nearest to the median.
    pub(crate) fn median_timeline(&self) -> Option<&Timeline> {
        let median = self.summary()?.median_ns;
        let distance = |timeline: &&Timeline| (timeline.makespan().as_f64() - median).abs();
        self.timelines.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

/// How often each plan runs.
pub(crate) struct Rounds {
    /// Steps that are run but not timed.
    pub(crate) warm_up: usize,
    /// Timed steps.
    pub(crate) timed: usize,
}

/// What all plans run with.
pub(crate) struct Bench<'a> {
    pub(crate) model: &'a Arc<ModelGraph>,
    pub(crate) devices: &'a DeviceGraph,
    pub(crate) batches: &'a Arc<Batches>,
    /// Its flag ends the measurement after the step in hand; what was measured until then is returned.
    pub(crate) options: &'a RunOptions,
}

impl Bench<'_> {
    fn start(&self, plan: &Plan) -> Result<(Run, Measured)> {
        let verified = context::verified(plan, self.model, self.devices)?;
        let program = Arc::new(lower(&verified)?);
        let run = Run::start(Arc::clone(self.model), Arc::clone(&program), Arc::clone(self.batches), self.options)
            .with_context(|| format!("starting plan '{}'", plan.name))?;
        Ok((run, Measured::new(program)))
    }
}

/// In a process that does not lead: runs the plans as the leading process says. Where they do not run in turn, all of them
/// wait for their steps at once.
pub(crate) fn follow(plans: &[Plan], bench: &Bench<'_>, in_turn: bool) -> Result<()> {
    let mut serving = Vec::with_capacity(plans.len());
    let ended = |thread: JoinHandle<Result<(), RuntimeError>>| -> Result<()> {
        thread.join().map_err(|_| anyhow!("a thread that serves a run has panicked"))?.map_err(Into::into)
    };
    for plan in plans {
        let (run, _) = bench.start(plan)?;
        let thread = std::thread::spawn(move || run.serve());
        if in_turn {
            ended(thread)?;
        } else {
            serving.push(thread);
        }
    }
    serving.into_iter().try_for_each(ended)
}

/// Runs the candidates one after another, each until two successive steps agree, then timed.
pub(crate) fn measure_in_turn(candidates: &[Candidate], bench: &Bench<'_>, timed: usize) -> Result<Vec<Measured>> {
    let bar = progress::bar(candidates.len() as u64, "running the plans");
    let mut all = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        bar.set_message(candidate.plan.name.clone());
        let (mut run, mut measured) = bench.start(&candidate.plan)?;
        let alone =
            measure_alone(&mut run, timed, TIME_ON_CARDS).with_context(|| format!("plan '{}'", candidate.plan.name))?;
        for report in alone.timed {
            measured.timed(report);
        }
        (measured.losses, measured.notes) = (alone.losses, alone.notes);
        all.push(measured);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Runs all candidates round-robin: in every round each plan takes one step, in rotating order.
pub(crate) fn measure_interleaved(
    candidates: &[Candidate],
    bench: &Bench<'_>,
    rounds: &Rounds,
) -> Result<Vec<Measured>> {
    let mut running = candidates.iter().map(|candidate| bench.start(&candidate.plan)).collect::<Result<Vec<_>>>()?;
    for (run, measured) in &mut running {
        measured.notes = run.notes();
    }
    let interrupt = &bench.options.stop;
    let total = rounds.warm_up + rounds.timed;
    let bar = progress::bar((total * candidates.len()) as u64, "running the plans");
    'rounds: for round in 0..total {
        for turn in 0..running.len() {
            if interrupt.load(Ordering::SeqCst) {
                break 'rounds;
            }
            let index = (turn + round) % candidates.len();
            let (run, measured) = &mut running[index];
            let name = &candidates[index].plan.name;
            bar.set_message(format!("round {} of {total}: {name}", round + 1));
            let report = run.step().with_context(|| format!("plan '{name}'"))?;
            measured.losses.push(report.loss);
            measured.peak_memory = measured.peak_memory.max(report.timeline.max_peak_memory());
            if round >= rounds.warm_up {
                measured.timed(report);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(running.into_iter().map(|(_, measured)| measured).collect())
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{Dtype, Overrides};
    use cutplane_plan::Optimizer;
    use cutplane_runtime::data::TextData;
    use cutplane_runtime::{Backend, OptimizerSettings};
    use cutplane_sim::planner::{Problem, SearchSpace, named_plan};

    use super::*;
    use crate::pricing;
    use crate::verbs::plan::predict;

    #[test]
    fn plans_alone_on_a_card_and_interleaved_on_cores_train_alike() {
        let source = cutplane_zoo::source_from_argument("gpt-nano", Some(32), Overrides::default()).unwrap();
        let model = Arc::new(cutplane_zoo::build(&source).unwrap());
        let devices = DeviceGraph::build(cutplane_zoo::cluster("cpu:2").unwrap()).unwrap();
        let pricing = pricing::datasheet();
        let problem = Problem {
            model: &model,
            model_source: source,
            devices: &devices,
            memory: pricing.memory(),
            global_batch: 4,
            optimizer: Optimizer::AdamW,
            precision: Dtype::F32,
            limits: SearchSpace::default(),
        };
        let candidate = |name: &&str| {
            let plan = named_plan(&problem, pricing.cost(), name).unwrap();
            let predicted = predict(&plan, &model, &devices, &pricing).unwrap();
            Candidate { plan, predicted, chosen: false }
        };
        let candidates: Vec<Candidate> = ["dp2", "pp2-1f1b-m4"].iter().map(candidate).collect();
        let text = TextData::from_text("text", cutplane_zoo::DEFAULT_TEXT).unwrap();
        let batches = Arc::new(Batches::new(Arc::new(text), &model, 4, 1).unwrap());
        let cores = RunOptions::new(OptimizerSettings::new(Optimizer::AdamW, 1e-3));
        let twin = RunOptions { backend: Backend::cpu_as_card(), ..cores.clone() };
        let bench = |options| Bench { model: &model, devices: &devices, batches: &batches, options };
        let rounds = Rounds { warm_up: 1, timed: 2 };
        let interleaved = measure_interleaved(&candidates, &bench(&cores), &rounds).unwrap();
        let alone = measure_in_turn(&candidates, &bench(&twin), 2).unwrap();
        for (one, other) in interleaved.iter().zip(&alone) {
            assert_eq!((one.steps_ns.len(), other.steps_ns.len()), (2, 2));
            assert!(other.notes.iter().any(|note| note.contains("2 ranks on one card")), "{:?}", other.notes);
            let pairs = one.losses.iter().zip(&other.losses);
            assert!(
                pairs.clone().count() == 3 && pairs.clone().all(|(a, b)| (a - b).abs() < 1e-4),
                "{:?}",
                other.losses
            );
        }
    }
}
