//! The chain DP: exact contiguous splits where the class of every position is given.

use std::time::{Duration, Instant};

use cutplane_plan::StopReason;

use super::Planner;
use super::chain::Classes;
use super::error::PlanError;
use super::estimate::StepCosts;
use super::infeasible::infeasible;
use super::outcome::{Ending, outcome};
use super::prices::Prices;
use super::problem::{PlanOutcome, Problem, SearchBudget};
use super::search::{Candidate, Found, Incumbents, candidates, class_runs};
use super::window::{Floor, best_split};
use crate::cost::CostModel;

/// The best contiguous split of every configuration that a bound does not exclude.
///
/// With devices of one class the answer is exact over the whole space, and proven so. With several classes it tries every
/// assignment in which each class is one run of stages, and proves only the bound of the relaxation in
/// which every class has room for all stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainDp;

/// Time that the chain DP gets whatever the budget.
const LEAST_TIME: Duration = Duration::from_secs(1);

impl Planner for ChainDp {
    fn name(&self) -> &'static str {
        "chain-dp"
    }

    fn plan(
        &self,
        problem: &Problem<'_>,
        cost: &dyn CostModel,
        budget: &SearchBudget<'_>,
    ) -> Result<PlanOutcome, PlanError> {
        let started = Instant::now();
        let prices = Prices::new(problem, cost)?;
        let candidates = candidates(&prices)?;
        let run = run(&prices, &candidates, budget, started)?;
        let incumbents = run.incumbents_or_error(&prices, &candidates, started)?;
        let objective = incumbents.objective().unwrap_or(u64::MAX);
        let stop = match run.stop {
            Some(reason) => reason,
            None if run.bound >= objective => StopReason::ProvenOptimal,
            None => StopReason::CandidatesExhausted,
        };
        let bound = Some(run.bound.min(objective));
        outcome(&prices, incumbents, &Ending::new(self.name(), bound, stop, candidates.len(), started))
    }
}

/// What a run of the chain DP leaves.
pub(super) struct Run {
    pub(super) incumbents: Incumbents,
    /// No plan is faster than this, ns.
    pub(super) bound: u64,
    /// What cut the run short, if something did.
    pub(super) stop: Option<StopReason>,
}

impl Run {
    pub(super) fn incumbents_or_error(
        &self,
        prices: &Prices<'_>,
        candidates: &[Candidate],
        started: Instant,
    ) -> Result<&Incumbents, PlanError> {
        match (self.incumbents.best(), self.stop) {
            (Some(_), _) => Ok(&self.incumbents),
            (None, None) => Err(infeasible(prices, candidates)?),
            (None, Some(_)) => Err(PlanError::NoIncumbent { spent: started.elapsed() }),
        }
    }
}

/// Runs the chain DP over candidates in order of their bounds.
pub(super) fn run(
    prices: &Prices<'_>,
    candidates: &[Candidate],
    budget: &SearchBudget<'_>,
    started: Instant,
) -> Result<Run, PlanError> {
    let limit = budget.time_limit.max(LEAST_TIME);
    let mut run = Run { incumbents: Incumbents::default(), bound: u64::MAX, stop: None };
    for (done, candidate) in candidates.iter().enumerate() {
        run.stop = budget.must_stop(started, limit);
        if run.stop.is_some() {
            // Candidates are sorted: this bound holds for all that are left.
            run.bound = run.bound.min(candidate.bound);
            break;
        }
        budget.report(done, candidates.len(), run.incumbents.objective());
        if candidate.bound < run.incumbents.limit(&candidate.configuration) {
            let bound =
                try_candidate(prices, candidate, &mut run.incumbents, &|| budget.must_stop(started, limit).is_some())?;
            run.bound = run.bound.min(bound);
        }
    }
    run.bound = run.bound.min(run.incumbents.objective().unwrap_or(u64::MAX));
    Ok(run)
}

/// Looks for a split of the candidate that is of interest; returns a bound for all its splits.
fn try_candidate(
    prices: &Prices<'_>,
    candidate: &Candidate,
    incumbents: &mut Incumbents,
    stop: &dyn Fn() -> bool,
) -> Result<u64, PlanError> {
    let costs = prices.step_costs(candidate.configuration)?;
    let Some(floor) = Floor::new(&costs, Classes::Any) else { return Ok(u64::MAX) };
    let relaxed = floor.step(&costs).max(candidate.bound);
    if relaxed >= incumbents.limit(&candidate.configuration) {
        return Ok(relaxed);
    }
    let exact = search_runs(&costs, incumbents, stop);
    Ok(if costs.classes() == 1 { exact } else { relaxed })
}

/// Tries every sequence of class runs; returns the least of their bounds.
fn search_runs(costs: &StepCosts, incumbents: &mut Incumbents, stop: &dyn Fn() -> bool) -> u64 {
    let mut bound = u64::MAX;
    for sequence in class_runs(costs) {
        let exact = best_split(costs, &sequence, incumbents.limit(&costs.configuration), stop);
        bound = bound.min(exact.bound);
        if let Some((cuts, estimate)) = exact.split {
            incumbents.offer(Found { configuration: costs.configuration, cuts, estimate });
        }
    }
    bound
}

/// The best split of one configuration.
pub(super) fn best_of_costs(costs: &StepCosts) -> Option<Found> {
    let mut incumbents = Incumbents::default();
    search_runs(costs, &mut incumbents, &|| false);
    incumbents.best().cloned()
}
