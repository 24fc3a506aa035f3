//! The two simplest searchers: equal numbers of blocks, and greedy filling.

use std::time::Instant;

use cutplane_plan::StopReason;

use super::Planner;
use super::error::PlanError;
use super::estimate::{StageCut, StepCosts};
use super::infeasible::infeasible;
use super::outcome::{Ending, outcome};
use super::prices::Prices;
use super::problem::{PlanOutcome, Problem, SearchBudget};
use super::search::{Found, Incumbents, candidates, class_runs};
use crate::cost::CostModel;

/// Every stage gets the same number of blocks (one more for the first ones when it does not divide), in every
/// configuration that could be of interest; the fastest that fits wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvenSplit;

/// Every stage takes blocks until it has its share of the work that is left, a share in proportion to the speed of its
/// class and as large as its memory allows; in every configuration; the fastest that fits wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greedy;

impl Planner for EvenSplit {
    fn name(&self) -> &'static str {
        "even-split"
    }

    fn plan(
        &self,
        problem: &Problem<'_>,
        cost: &dyn CostModel,
        budget: &SearchBudget<'_>,
    ) -> Result<PlanOutcome, PlanError> {
        search(self.name(), problem, cost, budget, even_cuts)
    }
}

impl Planner for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn plan(
        &self,
        problem: &Problem<'_>,
        cost: &dyn CostModel,
        budget: &SearchBudget<'_>,
    ) -> Result<PlanOutcome, PlanError> {
        search(self.name(), problem, cost, budget, greedy_cuts)
    }
}

fn search(
    name: &'static str,
    problem: &Problem<'_>,
    cost: &dyn CostModel,
    budget: &SearchBudget<'_>,
    split: fn(&StepCosts, &[usize]) -> Vec<StageCut>,
) -> Result<PlanOutcome, PlanError> {
    let started = Instant::now();
    let prices = Prices::new(problem, cost)?;
    let candidates = candidates(&prices)?;
    let mut incumbents = Incumbents::default();
    let mut stop = StopReason::CandidatesExhausted;
    for (done, candidate) in candidates.iter().enumerate() {
        if let Some(reason) = budget.must_stop(started, budget.time_limit)
            && (incumbents.best().is_some() || reason == StopReason::Interrupted)
        {
            stop = reason;
            break;
        }
        budget.report(done, candidates.len(), incumbents.objective());
        if candidate.bound < incumbents.limit(&candidate.configuration) {
            offer_splits(&prices.step_costs(candidate.configuration)?, &mut incumbents, split);
        }
    }
    match incumbents.best() {
        Some(_) => outcome(&prices, &incumbents, &Ending::new(name, None, stop, candidates.len(), started)),
        None if stop == StopReason::CandidatesExhausted => Err(infeasible(&prices, &candidates)?),
        None => Err(PlanError::NoIncumbent { spent: started.elapsed() }),
    }
}

fn offer_splits(costs: &StepCosts, incumbents: &mut Incumbents, split: fn(&StepCosts, &[usize]) -> Vec<StageCut>) {
    for sequence in class_runs(costs) {
        let cuts = split(costs, &sequence);
        if let Some(estimate) = costs.estimate(&cuts) {
            incumbents.offer(Found { configuration: costs.configuration, cuts, estimate });
        }
    }
}

/// Equal numbers of blocks.
pub(super) fn even_cuts(costs: &StepCosts, sequence: &[usize]) -> Vec<StageCut> {
    let stages = costs.stages();
    let end = |position: usize| (costs.blocks * (position + 1)).div_ceil(stages);
    sequence.iter().enumerate().map(|(position, class)| StageCut { end: end(position), class: *class }).collect()
}

/// A fair share of what is left for each stage in turn.
fn greedy_cuts(costs: &StepCosts, sequence: &[usize]) -> Vec<StageCut> {
    let (blocks, stages) = (costs.blocks, costs.stages());
    let mut first = 0;
    let mut cuts = Vec::with_capacity(stages);
    for (position, class) in sequence.iter().enumerate() {
        let table = &costs.time[*class];
        let rest = |class: usize| costs.time[class].get(first, blocks).max(1) as f64;
        let speeds: f64 = sequence[position..].iter().map(|other| rest(*class) / rest(*other)).sum();
        let share = rest(*class) / speeds;
        let last = blocks - (stages - position - 1);
        let mut end = first + 1;
        // Takes the next block when that leaves the stage closer to its share.
        while end < last
            && costs.fits(first, end + 1, position, *class)
            && (table.get(first, end) + table.get(first, end + 1)) as f64 <= 2.0 * share
        {
            end += 1;
        }
        let end = if position + 1 == stages { blocks } else { end };
        cuts.push(StageCut { end, class: *class });
        first = end;
    }
    cuts
}
