//! Exhaustive search: every split of every configuration. For tests and for small problems.

use std::time::Instant;

use cutplane_plan::StopReason;

use super::Planner;
use super::error::PlanError;
use super::estimate::{StageCut, StepCosts};
use super::infeasible::infeasible;
use super::outcome::{Ending, outcome};
use super::prices::Prices;
use super::problem::{PlanOutcome, Problem, SearchBudget};
use super::search::{Candidate, Found, Incumbents, candidates};
use crate::cost::CostModel;

/// Evaluates every contiguous split of every configuration, with every class at every position, one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exhaustive;

/// Splits beyond which the search is refused.
pub const MOST_SPLITS: f64 = 2e6;

impl Planner for Exhaustive {
    fn name(&self) -> &'static str {
        "exhaustive"
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
        let splits: f64 = candidates.iter().map(|candidate| split_count(&prices, candidate)).sum();
        if splits > MOST_SPLITS {
            return Err(PlanError::TooLarge { splits });
        }
        let mut incumbents = Incumbents::default();
        for (done, candidate) in candidates.iter().enumerate() {
            budget.report(done, candidates.len(), incumbents.objective());
            let costs = prices.step_costs(candidate.configuration)?;
            all_splits(&costs).for_each(|found| incumbents.offer(found));
        }
        let Some(bound) = incumbents.objective() else { return Err(infeasible(&prices, &candidates)?) };
        let ending = Ending::new(self.name(), Some(bound), StopReason::ProvenOptimal, candidates.len(), started);
        outcome(&prices, &incumbents, &ending)
    }
}

/// `classes^stages` times the number of ways to choose the inner cuts.
fn split_count(prices: &Prices<'_>, candidate: &Candidate) -> f64 {
    let stages = candidate.configuration.stages;
    let places = prices.blocks.len() - 1;
    let ways = (0..stages - 1).map(|k| (places - k) as f64 / (k + 1) as f64).product::<f64>();
    ways * (prices.fleet.classes().len() as f64).powi(stages as i32)
}

/// Every split of a configuration that fits.
pub(super) fn all_splits(costs: &StepCosts) -> impl Iterator<Item = Found> {
    let mut found = Vec::new();
    collect(costs, &mut Vec::new(), &mut found);
    found.into_iter()
}

fn collect(costs: &StepCosts, cuts: &mut Vec<StageCut>, found: &mut Vec<Found>) {
    let first = cuts.last().map_or(0, |cut| cut.end);
    let left = costs.stages() - cuts.len();
    if left == 0 {
        if let Some(estimate) = costs.estimate(cuts) {
            found.push(Found { configuration: costs.configuration, cuts: cuts.clone(), estimate });
        }
        return;
    }
    let ends = if left == 1 { costs.blocks..=costs.blocks } else { first + 1..=costs.blocks - (left - 1) };
    for end in ends {
        for class in 0..costs.classes() {
            cuts.push(StageCut { end, class });
            collect(costs, cuts, found);
            cuts.pop();
        }
    }
}
