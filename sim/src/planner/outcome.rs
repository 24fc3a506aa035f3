//! From a split to a plan with its search record.

use std::time::Instant;

use cutplane_graph::DeviceId;
use cutplane_plan::{
    ClusterRef, Execution, ModelRef, OpSet, PLAN_FORMAT, PLAN_VERSION, Plan, SearchRecord, Stage, StopReason, Workload,
};
use cutplane_units::{Bytes, Nanos};

use super::error::PlanError;
use super::estimate::Binding;
use super::prices::Prices;
use super::problem::{PlanOutcome, relative_gap};
use super::search::{Found, Incumbents};
use super::window::best_split;

/// Most alternatives that an outcome lists.
const MOST_ALTERNATIVES: usize = 8;

/// How a search ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    planner: &'static str,
    bound: Option<u64>,
    stop: StopReason,
    configurations: usize,
    started: Instant,
}

impl Ending {
    pub(super) fn new(
        planner: &'static str,
        bound: Option<u64>,
        stop: StopReason,
        configurations: usize,
        started: Instant,
    ) -> Self {
        Self { planner, bound, stop, configurations, started }
    }
}

/// The outcome for the fastest of the incumbents.
pub(super) fn outcome(prices: &Prices<'_>, incumbents: &Incumbents, ending: &Ending) -> Result<PlanOutcome, PlanError> {
    let ranking = incumbents.ranking();
    let found = *ranking.first().ok_or(PlanError::NoIncumbent { spent: ending.started.elapsed() })?;
    let objective = found.estimate.step();
    let why = why(prices, &ranking)?;
    let search_seconds = ending.started.elapsed().as_secs_f64();
    let mut plan = plan(prices, found, &prices.problem.limits.name.clone().unwrap_or(found.configuration.name()));
    plan.search = Some(SearchRecord {
        planner: ending.planner.to_owned(),
        objective_ns: objective,
        lower_bound_ns: ending.bound.map(Nanos::new),
        gap: ending.bound.map(|bound| relative_gap(objective.get(), bound)),
        stop_reason: ending.stop,
        configurations: ending.configurations as u64,
        search_seconds,
        peak_memory_bytes: fullest(prices, found)?.needed,
        why,
    });
    let others = ranking.iter().skip(1).take(MOST_ALTERNATIVES);
    Ok(PlanOutcome {
        plan,
        objective,
        lower_bound: ending.bound.map(Nanos::new),
        stop: ending.stop,
        search_seconds,
        alternatives: others.map(|found| (found.configuration.name(), found.estimate.step())).collect(),
    })
}

/// The plan of a split, without a search record.
pub(super) fn plan(prices: &Prices<'_>, found: &Found, name: &str) -> Plan {
    let problem = prices.problem;
    let device_name = |id: &DeviceId| prices.fleet.device(*id).name.clone();
    let mut stages = Vec::with_capacity(found.cuts.len());
    let mut first = 0;
    for (cut, devices) in found.cuts.iter().zip(stage_devices(prices, found)) {
        let ops = prices.blocks.ops(first, cut.end);
        let devices = devices.iter().map(device_name).collect();
        stages.push(Stage { ops: OpSet::range(ops.start, ops.end), devices });
        first = cut.end;
    }
    Plan {
        format: PLAN_FORMAT.to_owned(),
        version: PLAN_VERSION,
        name: name.to_owned(),
        model: ModelRef { source: problem.model_source.clone(), digest: problem.model.digest() },
        cluster: ClusterRef { spec: problem.devices.spec().clone(), digest: problem.devices.digest() },
        workload: Workload {
            global_batch: problem.global_batch,
            optimizer: problem.optimizer,
            precision: problem.precision,
        },
        stages,
        micro_batches: found.configuration.micro_batches,
        schedule: found.configuration.schedule.into(),
        execution: Execution::default(),
        search: None,
    }
}

/// The devices of every stage.
fn stage_devices(prices: &Prices<'_>, found: &Found) -> Vec<Vec<DeviceId>> {
    let mut taken = vec![0; prices.fleet.classes().len()];
    let group = |cut: &super::estimate::StageCut| {
        let ordinal = taken[cut.class];
        taken[cut.class] += 1;
        prices.fleet.group(cut.class, &found.configuration, ordinal)
    };
    found.cuts.iter().map(group).collect()
}

/// Memory of one stage.
struct Use {
    stage: usize,
    needed: Bytes,
    available: Bytes,
}

impl Use {
    fn share(&self) -> f64 {
        self.needed.as_f64() / self.available.as_f64().max(1.0)
    }
}

/// The stage that takes the largest share of its device's memory.
fn fullest(prices: &Prices<'_>, found: &Found) -> Result<Use, PlanError> {
    let mut fullest = Use { stage: 0, needed: Bytes::ZERO, available: Bytes::MAX };
    let mut first = 0;
    for (stage, cut) in found.cuts.iter().enumerate() {
        let needed = prices.needed(&found.configuration, first, cut.end, stage, cut.class)?;
        let candidate = Use { stage, needed, available: prices.fleet.memory(cut.class) };
        if candidate.share() > fullest.share() {
            fullest = candidate;
        }
        first = cut.end;
    }
    Ok(fullest)
}

fn why(prices: &Prices<'_>, ranking: &[&Found]) -> Result<Vec<String>, PlanError> {
    let found = ranking[0];
    let mut lines = vec![pace(prices, found), memory(prices, found)?];
    if let Some(runner_up) = ranking.get(1) {
        let slower = 100.0 * (runner_up.estimate.total as f64 / found.estimate.total.max(1) as f64 - 1.0);
        lines.push(format!("runner-up {} is {slower:.1}% slower", runner_up.configuration.name()));
    }
    Ok(lines)
}

/// What sets the pace of the pipeline.
fn pace(prices: &Prices<'_>, found: &Found) -> String {
    let estimate = &found.estimate;
    let stages = found.cuts.len();
    let tail = Nanos::new(estimate.tail);
    if stages == 1 {
        let work = Nanos::new(estimate.total - estimate.tail);
        return format!("one stage: {work} of work, then {tail} of gradient sums and optimizer");
    }
    let period = Nanos::new(estimate.period);
    match estimate.binding {
        Binding::Stage(stage) => {
            let mean = estimate.stage_times.iter().sum::<u64>() as f64 / stages as f64;
            let above = 100.0 * (estimate.period as f64 / mean.max(1.0) - 1.0);
            let device = &prices.fleet.device(stage_devices(prices, found)[stage][0]).name;
            format!(
                "stage {stage} of {stages} on {device} sets the pace: {period} a micro-batch, {above:.1}% above the mean"
            )
        }
        Binding::Link(stage) => {
            format!("the link from stage {} to stage {stage} sets the pace: {period} a micro-batch", stage - 1)
        }
        Binding::RoundTrip(stage) => format!(
            "waiting for gradients sets the pace: {period} a micro-batch, the way from stage {stage} to the end and back \
             shared by the {} micro-batches under way",
            stages - stage
        ),
    }
}

/// How full the fullest device is, and what a limit that binds costs.
fn memory(prices: &Prices<'_>, found: &Found) -> Result<String, PlanError> {
    let fullest = fullest(prices, found)?;
    let device = &prices.fleet.device(stage_devices(prices, found)[fullest.stage][0]).name;
    let share = 100.0 * fullest.share();
    let line = format!("memory: {device} is fullest with {} of {} ({share:.0}%)", fullest.needed, fullest.available);
    let unlimited = prices.step_costs(found.configuration)?.without_memory_limits();
    let sequence: Vec<usize> = found.cuts.iter().map(|cut| cut.class).collect();
    // A thousandth is not worth a line.
    let limit = found.estimate.total - found.estimate.total / 1000;
    Ok(match best_split(&unlimited, &sequence, limit, &|| false).split {
        None => line,
        Some((_, estimate)) => {
            let saved = 100.0 * (1.0 - estimate.total as f64 / found.estimate.total as f64);
            format!("{line} and binds: with more memory the same configuration would take {saved:.1}% less")
        }
    })
}
