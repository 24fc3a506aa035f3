//! Branch and bound, best bound first.
//!
//! A node is a layout known in part: the arithmetic of a layer, then stages and replicas, then the schedule. Its bound
//! ([`super::bound`]) holds for all of its layouts. The open node with the least bound is taken first, so the least bound of
//! the open nodes is at any moment a bound for everything that was not looked at: the gap covers the whole space.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use cutplane_plan::StopReason;

use super::bound::{self, Waited};
use super::error::LayoutError;
use super::infeasible::remedy;
use super::leaf::{Appraiser, Leaf};
use super::outcome::LayoutOutcome;
use super::pins::RecomputeChoice;
use super::problem::{LayoutBudget, LayoutProblem, LayoutProgress};
use super::space::{Arithmetic, Grid, Space};
use super::tally::Tally;
use super::times::{Clock, Pieces};
use crate::estimate::EstimateError;

/// Finds the best layouts of a problem, with a proof.
///
/// # Errors
/// [`LayoutError`]; that nothing fits, that nothing was found in time, and that the pins leave nothing are told apart.
pub fn search(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Result<LayoutOutcome, LayoutError> {
    match attempt(problem, budget)? {
        Attempt::Found(outcome) => Ok(outcome),
        Attempt::Nothing(tally) => Err(match tally.shortfall() {
            Some(shortfall) => {
                let nearest = tally.nearest_memory().unwrap_or(problem.device_memory);
                LayoutError::Infeasible { shortfall: Box::new(shortfall), remedy: remedy(problem, budget, nearest) }
            }
            None => LayoutError::EmptySpace { reason: nothing_left(problem) },
        }),
    }
}

/// How a search ended.
pub(super) enum Attempt {
    Found(LayoutOutcome),
    /// Nothing fits; the tally knows the nearest miss.
    Nothing(Box<Tally>),
}

/// As [`search()`], without a remedy when nothing fits.
pub(super) fn attempt(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Result<Attempt, LayoutError> {
    problem.objective.check(problem.dollars_per_device_hour)?;
    let started = Instant::now();
    let pieces = Pieces::of(problem.model);
    let appraiser = Appraiser::new(problem, Clock::new(problem, &pieces));
    let mut search = Search {
        arithmetics: appraiser.space.arithmetics(),
        appraiser,
        budget,
        tally: Tally::new(problem, budget.top_k),
        open: BinaryHeap::new(),
        order: 0,
        state_fits: HashMap::new(),
    };
    let (stop, bound) = search.run(started)?;
    let Tally { best, counts, .. } = &mut search.tally;
    if best.is_empty() {
        return match stop {
            StopReason::ProvenOptimal => Ok(Attempt::Nothing(Box::new(search.tally))),
            _ => Err(LayoutError::NoIncumbent { spent: started.elapsed() }),
        };
    }
    let search_seconds = started.elapsed().as_secs_f64();
    Ok(Attempt::Found(LayoutOutcome { best: std::mem::take(best), bound, stop, counts: *counts, search_seconds }))
}

fn nothing_left(problem: &LayoutProblem<'_>) -> String {
    let pins = problem.pins.texts();
    let pins = if pins.is_empty() { "no pins".to_owned() } else { pins.join(", ") };
    format!(
        "a batch of {} samples of {} with {} layers on {} devices leaves no layout ({pins}): degrees must divide heads, \
         sequence and batch and lie regularly on nodes; change the batch or drop a pin",
        problem.global_batch,
        problem.model.name,
        problem.model.layers(),
        problem.devices()
    )
}

/// A layout known in part.
#[derive(Clone, Copy, Debug)]
enum Node {
    Arithmetic(Arithmetic),
    Grid(Arithmetic, Grid),
    Leaf(Leaf),
}

impl Node {
    const fn depth(&self) -> u8 {
        match self {
            Self::Arithmetic(_) => 0,
            Self::Grid(..) => 1,
            Self::Leaf(_) => 2,
        }
    }
}

/// A node that waits, with the bound of all its layouts: of the step time, s, and of the objective.
#[derive(Clone, Copy, Debug)]
struct Open {
    value: f64,
    seconds: f64,
    order: u64,
    node: Node,
}

/// The greatest is the one to take first: the least bound, then the deepest, then the oldest.
impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        let deeper = self.node.depth().cmp(&other.node.depth());
        other.value.total_cmp(&self.value).then(deeper).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}

/// What decides the state that a rank holds: tensor ranks, stages, replicas, expert ranks, whether experts are whole.
type StateKey = (u64, u64, u64, u64, bool);

struct Search<'a> {
    appraiser: Appraiser<'a>,
    arithmetics: Vec<Arithmetic>,
    budget: &'a LayoutBudget<'a>,
    tally: Tally,
    open: BinaryHeap<Open>,
    order: u64,
    state_fits: HashMap<StateKey, bool>,
}

/// Micro-batch sizes, from the smallest, that likely layouts have.
const SEEDED_SIZES: usize = 3;
/// Nodes between two looks at the clock's callers.
const REPORT_EVERY: u64 = 64;

impl Search<'_> {
    /// Why it ended, and the bound.
    fn run(&mut self, started: Instant) -> Result<(StopReason, f64), LayoutError> {
        for arithmetic in self.arithmetics.clone() {
            if let Some(stop) = self.must_stop(started) {
                return Ok((stop, 0.0));
            }
            let times = self.appraiser.times(&arithmetic)?;
            let seconds = bound::of_arithmetic(&times, &arithmetic, &self.appraiser.space);
            let devices =
                self.fewest_devices(&arithmetic, bound::device_seconds(&times, &arithmetic, &self.appraiser.space));
            self.push(seconds, devices, Node::Arithmetic(arithmetic));
        }
        self.seed(started)?;
        let mut taken = 0_u64;
        while let Some(next) = self.open.pop() {
            let best = self.tally.best.first().map(|best| best.value);
            if next.value >= self.tally.cutoff() {
                return Ok((StopReason::ProvenOptimal, best.unwrap_or(next.value)));
            }
            if let Some(best) = best.filter(|best| next.value >= best * (1.0 - self.budget.relative_gap)) {
                let stop = if next.value >= best { StopReason::ProvenOptimal } else { StopReason::GapReached };
                if stop == StopReason::GapReached || self.budget.relative_gap > 0.0 {
                    return Ok((stop, next.value.min(best)));
                }
            }
            if let Some(stop) = self.must_stop(started) {
                return Ok((stop, best.map_or(next.value, |best| best.min(next.value))));
            }
            if taken.is_multiple_of(REPORT_EVERY) {
                self.report(next.value);
            }
            taken += 1;
            self.expand(next)?;
        }
        Ok((StopReason::ProvenOptimal, self.tally.best.first().map_or(f64::INFINITY, |best| best.value)))
    }

    /// Looks at likely layouts first, so that bounds have something to cut against: all devices used, small micro-batches,
    /// nothing or everything recomputed, 1F1B or as many chunks as there may be.
    fn seed(&mut self, started: Instant) -> Result<(), EstimateError> {
        let mut sizes: Vec<u64> = self.arithmetics.iter().map(|arithmetic| arithmetic.micro_batch).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let largest = sizes.get(SEEDED_SIZES - 1).or(sizes.last()).copied().unwrap_or(1);
        let likely = |arithmetic: &&Arithmetic| {
            arithmetic.micro_batch <= largest
                && arithmetic.sequence_parallel == (arithmetic.tp > 1)
                && matches!(arithmetic.recompute, RecomputeChoice::None | RecomputeChoice::Full)
        };
        let likely: Vec<Arithmetic> = self.arithmetics.iter().filter(likely).copied().collect();
        for arithmetic in likely {
            let grids = self.appraiser.space.grids(&arithmetic);
            let most = grids.iter().map(|grid| Space::devices_of(&arithmetic, grid)).max();
            for grid in grids.iter().filter(|grid| Some(Space::devices_of(&arithmetic, grid)) == most) {
                if self.must_stop(started).is_some() {
                    return Ok(());
                }
                if self.state_fits(&arithmetic, grid)? {
                    self.seed_grid(&arithmetic, grid)?;
                }
            }
        }
        Ok(())
    }

    fn seed_grid(&mut self, arithmetic: &Arithmetic, grid: &Grid) -> Result<(), EstimateError> {
        let times = self.appraiser.times(arithmetic)?;
        let m = bound::micro_batches(arithmetic, grid, &self.appraiser.space);
        let busiest = times.least_busiest(grid.pp);
        let timings = self.appraiser.space.timings(arithmetic, grid);
        let ends = [timings.first(), timings.iter().rev().find(|timing| timing.vpp > 1)];
        for timing in ends.into_iter().flatten() {
            let waited = self.appraiser.waited(arithmetic, grid, *timing);
            let seconds = bound::of_timing(&times, waited, grid.pp, m, busiest);
            let devices = Space::devices_of(arithmetic, grid);
            if self.appraiser.value(seconds, devices) < self.tally.cutoff() {
                let leaf = Leaf { arithmetic: *arithmetic, grid: *grid, timing: *timing };
                self.appraiser.appraise(&leaf, &mut self.tally)?;
            }
        }
        Ok(())
    }

    fn must_stop(&self, started: Instant) -> Option<StopReason> {
        if self.budget.interrupted() {
            return Some(StopReason::Interrupted);
        }
        (started.elapsed() >= self.budget.time_limit).then_some(StopReason::TimeLimit)
    }

    fn report(&self, bound: f64) {
        if let Some(progress) = self.budget.progress {
            let objective = self.tally.best.first().map(|best| best.value);
            progress(&LayoutProgress { priced: self.tally.counts.priced, objective, bound });
        }
    }

    /// A bound of what devices may be worth at this arithmetic: for money, the device time is all that counts.
    fn fewest_devices(&self, arithmetic: &Arithmetic, device_seconds: f64) -> f64 {
        let least = (arithmetic.tp * arithmetic.cp) as f64;
        let seconds = device_seconds / self.appraiser.space.devices() as f64;
        match self.appraiser.problem.objective {
            super::Objective::Dollars if seconds > 0.0 => device_seconds / seconds,
            _ => least,
        }
    }

    fn push(&mut self, seconds: f64, devices: f64, node: Node) {
        let problem = self.appraiser.problem;
        let value = problem.objective.value(seconds, devices, problem.dollars_per_device_hour);
        if value >= self.tally.cutoff() {
            self.tally.counts.cut_by_bound += 1;
            return;
        }
        self.order += 1;
        self.open.push(Open { value, seconds, order: self.order, node });
    }

    fn expand(&mut self, open: Open) -> Result<(), EstimateError> {
        match open.node {
            Node::Arithmetic(arithmetic) => self.expand_arithmetic(&arithmetic, open.seconds),
            Node::Grid(arithmetic, grid) => self.expand_grid(&arithmetic, &grid, open.seconds),
            Node::Leaf(leaf) => self.appraiser.appraise(&leaf, &mut self.tally),
        }
    }

    fn expand_arithmetic(&mut self, arithmetic: &Arithmetic, least: f64) -> Result<(), EstimateError> {
        let times = self.appraiser.times(arithmetic)?;
        for grid in self.appraiser.space.grids(arithmetic) {
            if !self.state_fits(arithmetic, &grid)? {
                self.tally.counts.cut_by_memory += 1;
                continue;
            }
            let seconds = bound::of_grid(&times, arithmetic, &grid, &self.appraiser.space).max(least);
            let devices = Space::devices_of(arithmetic, &grid) as f64;
            self.push(seconds, devices, Node::Grid(*arithmetic, grid));
        }
        Ok(())
    }

    fn state_fits(&mut self, arithmetic: &Arithmetic, grid: &Grid) -> Result<bool, EstimateError> {
        let Arithmetic { tp, cp, ep, whole_experts, .. } = *arithmetic;
        let key = (tp, grid.pp, grid.dp * cp, ep, whole_experts);
        if let Some(known) = self.state_fits.get(&key) {
            return Ok(*known);
        }
        let fits = self.appraiser.state_fits(arithmetic, grid, &mut self.tally)?;
        self.state_fits.insert(key, fits);
        Ok(fits)
    }

    fn expand_grid(&mut self, arithmetic: &Arithmetic, grid: &Grid, least: f64) -> Result<(), EstimateError> {
        let times = self.appraiser.times(arithmetic)?;
        let m = bound::micro_batches(arithmetic, grid, &self.appraiser.space);
        let busiest = times.least_busiest(grid.pp);
        let devices = Space::devices_of(arithmetic, grid) as f64;
        let mut known: [Option<f64>; 2] = [None; 2];
        for timing in self.appraiser.space.timings(arithmetic, grid) {
            // Only whether there are several chunks decides the message.
            let message = &mut known[usize::from(timing.vpp > 1)];
            let waited = match *message {
                Some(message) => Waited { timing, message },
                None => self.appraiser.waited(arithmetic, grid, timing),
            };
            *message = Some(waited.message);
            let seconds = bound::of_timing(&times, waited, grid.pp, m, busiest).max(least);
            let leaf = Leaf { arithmetic: *arithmetic, grid: *grid, timing };
            self.push(seconds, devices, Node::Leaf(leaf));
        }
        Ok(())
    }
}
