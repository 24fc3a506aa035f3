//! Pipelines over classes, best bound first.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Instant;

use cutplane_plan::StopReason;

use super::super::facts::divisors;
use super::super::pins::{Pins, RecomputeChoice};
use super::super::problem::{LayoutBudget, LayoutProblem};
use super::super::space::{Arithmetic, Grid, Sharing, Space, Timing};
use super::super::times::{Clock, Pieces};
use super::bound::floor;
use super::chain::{Chain, Counts, Cut};
use super::problem::{MOST_STAGES, MixedProblem, nanos};
use super::ranked::{cutoff, insert};
use super::stages::Stages;
use crate::estimate::{EstimateError, Layout, PipelineSchedule};
use crate::planner::windows::{Minimum, minimise};

/// Most states of one dynamic program; layouts that need more keep their bound and are not searched.
const MOST_STATES: usize = 4 << 20;

/// A layout whose stages are open, ns.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) bound: u64,
    traverse: u64,
    period: u64,
    pub(super) layout: Layout,
    /// Stages that each class has room for.
    pub(super) capacities: Vec<usize>,
}

/// A pipeline with its step time, ns.
pub(super) struct Pipeline {
    pub(super) step: u64,
    pub(super) layout: Layout,
    pub(super) cuts: Vec<Cut>,
}

/// What a search of pipelines leaves.
pub(super) struct Pipelines {
    /// The best one of each of the best common layouts, best first; at most as many as were asked for.
    pub(super) best: Vec<Pipeline>,
    /// No pipeline is faster, ns.
    pub(super) bound: u64,
    pub(super) searched: u64,
    pub(super) stop: Option<StopReason>,
}

/// Everything common to all stages, most promising first.
///
/// # Errors
/// [`EstimateError`] when the model cannot be priced.
pub(super) fn candidates(problem: &MixedProblem<'_>, caps: &[u64]) -> Result<Vec<Candidate>, EstimateError> {
    let pieces = Pieces::of(problem.model);
    // Stages recompute what each of them must, and their number and schedule are not the space's.
    let pins = Pins { recompute: Some(RecomputeChoice::None), pp: None, schedule: None, ..problem.pins.clone() };
    let classes = 0..problem.classes.len();
    let problems: Vec<LayoutProblem<'_>> = classes
        .map(|class| LayoutProblem { pins: pins.clone(), ..problem.class(class, problem.global_batch) })
        .collect();
    let spaces: Vec<Space> = problems.iter().map(Space::new).collect();
    let clocks: Vec<Clock<'_>> = problems.iter().map(|class| Clock::new(class, &pieces)).collect();
    let arithmetics: BTreeSet<Arithmetic> = spaces.iter().flat_map(Space::arithmetics).collect();
    let mut all = Vec::new();
    for arithmetic in &arithmetics {
        for dp in divisors(problem.global_batch / arithmetic.micro_batch) {
            let rooms: Vec<u64> = spaces
                .iter()
                .enumerate()
                .map(|(class, space)| rooms(space, arithmetic, dp, problem.devices(class, caps)))
                .collect();
            let mut times = Vec::new();
            for (class, room) in rooms.iter().enumerate().filter(|(_, room)| **room > 0) {
                times.push((clocks[class].times(arithmetic, &spaces[class])?, *room));
            }
            let Some(class) = rooms.iter().position(|room| *room > 0) else { continue };
            let least = floor(&times.iter().map(|(times, room)| (&**times, *room)).collect::<Vec<_>>());
            let micro_batches = problem.global_batch / (arithmetic.micro_batch * dp);
            let step = least.traverse + (micro_batches - 1) as f64 * least.period + problem.overhead_seconds();
            let grid = Grid { pp: 1, dp };
            all.extend(spaces[class].sharings(arithmetic, &grid).into_iter().map(|sharing| Candidate {
                // A hair off against rounding.
                bound: (step * 1e9 * (1.0 - 1e-9)) as u64,
                traverse: (least.traverse * 1e9 * (1.0 - 1e-9)) as u64,
                period: (least.period * 1e9 * (1.0 - 1e-9)) as u64,
                layout: common(&spaces[class], arithmetic, &grid, &sharing),
                capacities: rooms.iter().map(|room| *room as usize).collect(),
            }));
        }
    }
    all.sort_by_key(|candidate| candidate.bound);
    Ok(all)
}

/// Stages that a class has room for.
fn rooms(space: &Space, arithmetic: &Arithmetic, dp: u64, devices: u64) -> u64 {
    if !space.lies(arithmetic, dp) {
        return 0;
    }
    (devices / (arithmetic.tp * arithmetic.cp * dp)).min(MOST_STAGES).min(space.layers())
}

fn common(space: &Space, arithmetic: &Arithmetic, grid: &Grid, sharing: &Sharing) -> Layout {
    let timing = Timing { schedule: PipelineSchedule::OneForwardOneBackward, vpp: 1 };
    space.layout(arithmetic, grid, &timing, sharing)
}

/// Searches pipelines that take less than `limit`, ns.
///
/// # Errors
/// [`EstimateError`] when the model cannot be priced.
pub(super) fn search(
    stages: &Stages<'_>,
    caps: &[u64],
    limit: u64,
    budget: &LayoutBudget<'_>,
    started: Instant,
) -> Result<Pipelines, EstimateError> {
    let mut found = Pipelines { best: Vec::new(), bound: u64::MAX, searched: 0, stop: None };
    for candidate in candidates(stages.problem, caps)? {
        let best = cutoff(&found.best, budget.top_k, |pipeline| pipeline.step).unwrap_or(limit);
        // Without anything to compare with, whatever fits is wanted.
        let tolerated = if best == u64::MAX { 0.0 } else { best as f64 * budget.relative_gap.clamp(0.0, 1.0) };
        let target = best - tolerated as u64;
        found.stop = must_stop(budget, started);
        if candidate.bound >= target || found.stop.is_some() {
            // Candidates are sorted: this bound holds for all that are left.
            found.bound = found.bound.min(candidate.bound);
            found.stop = found.stop.filter(|_| candidate.bound < target);
            break;
        }
        found.searched += 1;
        let (pipeline, bound) = best_of(stages, &candidate, best, &|| must_stop(budget, started).is_some())?;
        found.bound = found.bound.min(bound);
        if let Some(pipeline) = pipeline {
            insert(&mut found.best, pipeline, budget.top_k, |pipeline| pipeline.step);
        }
    }
    Ok(found)
}

/// Why a search must end now, if it must.
pub(super) fn must_stop(budget: &LayoutBudget<'_>, started: Instant) -> Option<StopReason> {
    if budget.interrupted() {
        return Some(StopReason::Interrupted);
    }
    (started.elapsed() >= budget.time_limit).then_some(StopReason::TimeLimit)
}

/// The best pipeline of one layout that takes less than `limit`, and a bound of all, ns.
fn best_of(
    stages: &Stages<'_>,
    candidate: &Candidate,
    limit: u64,
    stop: &dyn Fn() -> bool,
) -> Result<(Option<Pipeline>, u64), EstimateError> {
    let problem = stages.problem;
    let most = stages.layers.min(MOST_STAGES as usize);
    let states = candidate.capacities.iter().fold(1_usize, |states, room| states.saturating_mul(room + 1));
    if states.saturating_mul(stages.layers * problem.classes.len()) > MOST_STATES {
        return Ok((None, candidate.bound));
    }
    let prices = stages.of(&candidate.layout);
    let counts = Counts::new(candidate.capacities.clone(), most);
    let hops = prices.hops()?;
    let tied = nanos(problem.tied_seconds(&candidate.layout));
    let stage_count = problem.pins.pp.map(|pin| pin as usize);
    let chain = Chain { counts: &counts, stages: &prices, layers: stages.layers, hops: &hops, tied, stage_count };
    let steady = candidate.layout.micro_batches() - 1;
    let overhead = nanos(problem.overhead_seconds());
    let total = |traverse: u64, period: u64, tail: u64| {
        traverse.saturating_add(steady.saturating_mul(period)).saturating_add(tail).saturating_add(overhead)
    };
    // No better split has a longer period or tail.
    let spare = limit.saturating_sub(candidate.traverse.saturating_add(overhead));
    let most_period = spare.checked_div(steady).unwrap_or(u64::MAX);
    let failed: Cell<Option<EstimateError>> = Cell::new(None);
    let mut solve = |(period, tail): (u64, u64)| {
        chain.least((period.min(most_period), tail.min(spare))).unwrap_or_else(|error| {
            failed.set(Some(error));
            None
        })
    };
    let Minimum { split, bound } = minimise((candidate.period, 0), limit, &total, &mut solve, stop);
    if let Some(error) = failed.take() {
        return Err(error);
    }
    let pipeline = split.map(|cuts| {
        let step = step_of(&cuts, &hops, tied, &total);
        Pipeline { step, layout: with_stages(&candidate.layout, &cuts), cuts }
    });
    Ok((pipeline, bound.max(candidate.bound)))
}

fn step_of(cuts: &[Cut], hops: &[Vec<u64>], tied: u64, total: &dyn Fn(u64, u64, u64) -> u64) -> u64 {
    let messages = cuts.windows(2).map(|pair| hops[pair[0].0][pair[1].0]);
    let times = cuts.iter().map(|(_, _, priced)| priced.time);
    let tied = if cuts.len() > 1 { tied } else { 0 };
    let traverse = times.clone().sum::<u64>() + 2 * messages.clone().sum::<u64>() + tied;
    let period = times.chain(messages).max().unwrap_or(0);
    total(traverse, period, cuts.iter().map(|(_, _, priced)| priced.tail).max().unwrap_or(0))
}

fn with_stages(layout: &Layout, cuts: &[Cut]) -> Layout {
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.1));
    let split: Vec<u64> = starts.zip(cuts).map(|(first, cut)| (cut.1 - first) as u64).collect();
    let pp = split.len() as u64;
    Layout { pp, stage_split: (pp > 1).then_some(split), ..layout.clone() }
}
