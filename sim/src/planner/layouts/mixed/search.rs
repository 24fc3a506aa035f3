//! The better of pipelines over classes and unlike replicas, under each reservation of devices that the objective weighs.

use std::time::Instant;

use cutplane_plan::StopReason;

use super::super::error::LayoutError;
use super::super::objective::Objective;
use super::super::problem::{LayoutBudget, LayoutProgress};
use super::infeasible::infeasible;
use super::pipelines::{self, Pipeline};
use super::plan::{ClassShare, ClassStage, MIXED_FORMAT, MIXED_VERSION, MixedOutcome, MixedPlan, MixedShape};
use super::problem::{MOST_CLASSES, MixedProblem, nanos};
use super::ranked::{cutoff, insert};
use super::replicas::{self, Shares};
use super::stages::Stages;
use crate::estimate::{PipelineSchedule, ZeroStage};

/// Finds the best plan over the classes of a problem, with a proof, and the next best: of other common layouts, other divisions
/// of the batch or other reserved devices.
///
/// For step time all devices may be used. For money and for the number of devices, whole classes are taken or left, and
/// those taken are halved down to one host; devices that are taken are paid for.
///
/// # Errors
/// [`LayoutError`]; that nothing fits, that nothing was found in time, and that the pins leave nothing are told apart.
pub fn search(problem: &MixedProblem<'_>, budget: &LayoutBudget<'_>) -> Result<MixedOutcome, LayoutError> {
    check(problem)?;
    let stages = Stages::new(problem);
    attempt(&stages, &reservations(problem), budget)?.ok_or_else(|| infeasible(&stages, budget))
}

/// As [`search()`] under given reservations, without a remedy: `None` when nothing fits.
pub(super) fn attempt(
    stages: &Stages<'_>,
    reservations: &[Vec<u64>],
    budget: &LayoutBudget<'_>,
) -> Result<Option<MixedOutcome>, LayoutError> {
    let started = Instant::now();
    let mut found = Found { best: Vec::new(), bound: f64::INFINITY, stop: None, pipelines: 0, class_searches: 0 };
    for caps in reservations {
        if let Some(stop) = pipelines::must_stop(budget, started) {
            (found.stop, found.bound) = (Some(stop), 0.0);
            break;
        }
        found.under(stages, caps, budget, started)?;
        if let Some(progress) = budget.progress {
            let objective = found.best.first().map(|(value, _)| *value);
            progress(&LayoutProgress { priced: found.pipelines + found.class_searches, objective, bound: 0.0 });
        }
    }
    let mut best = found.best.into_iter();
    let Some((objective, plan)) = best.next() else {
        return found.stop.map_or(Ok(None), |_| Err(LayoutError::NoIncumbent { spent: started.elapsed() }));
    };
    let bound = found.bound.min(objective);
    let proven = if bound >= objective { StopReason::ProvenOptimal } else { StopReason::GapReached };
    Ok(Some(MixedOutcome {
        question: None,
        plan,
        objective,
        bound,
        stop_reason: found.stop.unwrap_or(proven),
        runners_up: best.map(|(value, plan)| (plan.lines().join("; "), value)).collect(),
        pipelines: found.pipelines,
        class_searches: found.class_searches,
        search_seconds: started.elapsed().as_secs_f64(),
    }))
}

struct Found {
    /// Best first, with what each is worth.
    best: Vec<(f64, MixedPlan)>,
    bound: f64,
    stop: Option<StopReason>,
    pipelines: u64,
    class_searches: u64,
}

impl Found {
    fn under(
        &mut self,
        stages: &Stages<'_>,
        caps: &[u64],
        budget: &LayoutBudget<'_>,
        started: Instant,
    ) -> Result<(), LayoutError> {
        let problem = stages.problem;
        let replicas = replicas::search(problem, caps, f64::INFINITY, budget, started)?;
        let known = cutoff(&replicas.best, budget.top_k, |(seconds, _)| nanos(*seconds)).unwrap_or(u64::MAX);
        let pipelines = pipelines::search(stages, caps, known, budget, started)?;
        self.pipelines += pipelines.searched;
        self.class_searches += replicas.searches;
        self.stop = self.stop.or(pipelines.stop).or(replicas.stop);
        let seconds = replicas.bound.min(pipelines.bound as f64 / 1e9);
        self.bound = self.bound.min(value(problem, seconds, caps));
        let piped = pipelines.best.iter().map(|pipeline| of_pipeline(problem, pipeline));
        let shared = replicas.best.iter().map(|(seconds, shares)| of_shares(problem, *seconds, shares, caps));
        piped
            .chain(shared)
            .for_each(|plan| self.offer(value(problem, plan.predicted_step_s, caps), plan, budget.top_k));
        Ok(())
    }

    /// Takes a plan in, once: under several reservations the one that is worth least.
    fn offer(&mut self, value: f64, plan: MixedPlan, top_k: usize) {
        if let Some(known) = self.best.iter().position(|(_, known)| known.shape == plan.shape) {
            if self.best[known].0 <= value {
                return;
            }
            self.best.remove(known);
        }
        insert(&mut self.best, (value, plan), top_k, |(value, _)| *value);
    }
}

/// What a step of `seconds` on reserved devices is worth.
pub(super) fn value(problem: &MixedProblem<'_>, seconds: f64, caps: &[u64]) -> f64 {
    match problem.objective {
        Objective::StepTime => seconds,
        Objective::Dollars => seconds * problem.dollars_per_hour(caps).unwrap_or(f64::INFINITY) / 3600.0,
        Objective::Devices => problem.objective.value(seconds, caps.iter().sum::<u64>() as f64, None),
    }
}

pub(super) fn check(problem: &MixedProblem<'_>) -> Result<(), LayoutError> {
    let refuse = |reason: String| Err(LayoutError::EmptySpace { reason });
    let classes = problem.classes.len();
    if !(1..=MOST_CLASSES).contains(&classes) {
        return refuse(format!("{classes} classes of devices: plan over 1 to {MOST_CLASSES} of them"));
    }
    let pins = &problem.pins;
    if pins.schedule.is_some_and(|schedule| schedule != PipelineSchedule::OneForwardOneBackward) || pins.vpp.is_some() {
        return refuse("unlike devices are planned under 1F1B: drop the pins of schedule and vpp".to_owned());
    }
    if pins.devices.is_some() {
        return refuse("devices of several classes are not pinned by number: leave some out of the cluster".to_owned());
    }
    let priced = problem.classes.iter().all(|class| class.dollars_per_device_hour.is_some());
    problem.objective.check(priced.then_some(1.0))
}

/// Devices of each class that may be taken, in turn.
pub(super) fn reservations(problem: &MixedProblem<'_>) -> Vec<Vec<u64>> {
    if problem.objective == Objective::StepTime {
        return vec![problem.classes.iter().map(super::MixedClass::devices).collect()];
    }
    all_reservations(problem)
}

/// Whole classes taken or left, those taken halved down to one host; the fewest devices first.
pub(super) fn all_reservations(problem: &MixedProblem<'_>) -> Vec<Vec<u64>> {
    let mut taken: Vec<Vec<u64>> = vec![Vec::new()];
    for class in &problem.classes {
        let node = class.fabric.node() as u64;
        let halves = std::iter::successors(Some(class.devices()), |count| (*count > node).then(|| count.div_ceil(2)));
        let choices: Vec<u64> = halves.chain([0]).collect();
        taken = taken
            .iter()
            .flat_map(|known| choices.iter().map(|choice| [known.as_slice(), &[*choice]].concat()))
            .collect();
    }
    taken.retain(|caps| caps.iter().any(|count| *count > 0));
    taken.sort_by_key(|caps| caps.iter().sum::<u64>());
    taken
}

fn of_pipeline(problem: &MixedProblem<'_>, pipeline: &Pipeline) -> MixedPlan {
    let ranks = pipeline.layout.dp * pipeline.layout.tp * pipeline.layout.cp;
    let mut devices = vec![0; problem.classes.len()];
    let (mut first, mut stages) = (0, Vec::new());
    for (class, end, priced) in &pipeline.cuts {
        devices[*class] += ranks;
        stages.push(ClassStage {
            class: problem.classes[*class].name.clone(),
            layers: (end - first) as u64,
            recompute: priced.recompute,
            predicted_stage_s: priced.time as f64 / 1e9,
            predicted_memory_bytes: priced.memory,
        });
        first = *end;
    }
    let layout = &pipeline.layout;
    let beyond = layout.tp > 1 || layout.cp > 1 || layout.ep > 1 || layout.zero.stage != ZeroStage::None;
    let note = if beyond {
        "a prediction: the runtime executes data x pipeline plans with whole replicas, also over unlike devices"
    } else {
        "a data x pipeline plan over unlike devices: plan it with --space runnable to get one that runs"
    };
    let shape = MixedShape::Pipeline { layout: layout.clone(), stages };
    finished(problem, shape, &devices, pipeline.step as f64 / 1e9, note)
}

fn of_shares(problem: &MixedProblem<'_>, seconds: f64, found: &Shares, caps: &[u64]) -> MixedPlan {
    let (mut devices, mut taken) = (vec![0; problem.classes.len()], vec![0; problem.classes.len()]);
    let mut shares = Vec::new();
    for (class, samples, best) in found {
        (devices[*class], taken[*class]) = (best.layout.devices(), problem.devices(*class, caps));
        shares.push(ClassShare {
            class: problem.classes[*class].name.clone(),
            samples: *samples,
            layout: best.layout.clone(),
            predicted_step_s: best.seconds(),
            predicted_memory_bytes: best.footprint.device().get(),
        });
    }
    let note = if shares.len() > 1 {
        "a prediction: the runtime gives all replicas equal shares of the batch"
    } else {
        "one class alone: plan on its devices with --space runnable to get a plan that runs"
    };
    let shape = MixedShape::Replicas { shares, predicted_exchange_s: problem.exchange_seconds(&taken) };
    finished(problem, shape, &devices, seconds, note)
}

fn finished(problem: &MixedProblem<'_>, shape: MixedShape, devices: &[u64], seconds: f64, note: &str) -> MixedPlan {
    let named = problem.classes.iter().map(|class| class.name.clone()).zip(devices.iter().copied());
    MixedPlan {
        format: MIXED_FORMAT.to_owned(),
        version: MIXED_VERSION,
        global_batch: problem.global_batch,
        shape,
        devices: named.filter(|(_, devices)| *devices > 0).collect(),
        predicted_step_s: seconds,
        predicted_dollars: problem.dollars_per_hour(devices).map(|hour| hour * seconds / 3600.0),
        execution_note: note.to_owned(),
    }
}
