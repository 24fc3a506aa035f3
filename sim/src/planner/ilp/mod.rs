//! The ILP planner: a proof for the whole space, configuration by configuration.

mod columns;
mod model;
mod ways;

use std::time::{Duration, Instant};

use cutplane_plan::StopReason;

use super::Planner;
use super::chain::Classes;
use super::chain_dp;
use super::error::PlanError;
use super::estimate::{StageCut, StepCosts};
use super::outcome::{Ending, outcome};
use super::prices::Prices;
use super::problem::{PlanOutcome, Problem, SearchBudget, relative_gap};
use super::search::{Candidate, Found, Incumbents, candidates};
use super::window::Floor;
use crate::cost::CostModel;
use crate::placement::solver::Limits;
use columns::{columns, path};
use model::{Model, Solved};

/// Starts from the chain DP's best plan and proves, with an ILP for every configuration that no cheaper bound excludes,
/// how far from the best it can be at most; better plans found on the way are kept. Exact for several device classes too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ilp;

/// Gaps below this are the solver's own tolerance: such a plan counts as optimal.
const OPTIMAL_GAP: f64 = 1e-6;

/// First stretch of solver time between two looks at the interrupt flag; doubled after each.
const FIRST_SLICE: Duration = Duration::from_secs(1);

impl Planner for Ilp {
    fn name(&self) -> &'static str {
        "ilp"
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
        let run = chain_dp::run(&prices, &candidates, budget, started)?;
        let incumbents = run.incumbents_or_error(&prices, &candidates, started)?.clone();
        let mut proof = Proof { prices: &prices, budget, started, incumbents, bound: u64::MAX, stop: None };
        proof.run(&candidates)?;
        let objective = proof.incumbents.objective().unwrap_or(u64::MAX);
        let bound = proof.bound.min(objective);
        let stop = proof.stop.unwrap_or(if relative_gap(objective, bound) <= OPTIMAL_GAP {
            StopReason::ProvenOptimal
        } else {
            StopReason::GapReached
        });
        let ending = Ending::new(self.name(), Some(bound), stop, candidates.len(), started);
        outcome(&prices, &proof.incumbents, &ending)
    }
}

/// The proof so far.
struct Proof<'p, 'a> {
    prices: &'p Prices<'a>,
    budget: &'p SearchBudget<'p>,
    started: Instant,
    incumbents: Incumbents,
    /// No plan of the configurations dealt with is faster, ns.
    bound: u64,
    stop: Option<StopReason>,
}

impl Proof<'_, '_> {
    /// Configurations with bounds from here on need no closer look.
    fn target(&self) -> u64 {
        let objective = self.incumbents.objective().unwrap_or(u64::MAX);
        objective - (objective as f64 * self.budget.relative_gap.clamp(0.0, 1.0)) as u64
    }

    fn run(&mut self, candidates: &[Candidate]) -> Result<(), PlanError> {
        for (done, candidate) in candidates.iter().enumerate() {
            let objective = self.incumbents.objective();
            // Candidates are sorted: what holds for this one holds for all that follow.
            if objective.is_some_and(|objective| candidate.bound >= objective) {
                break;
            }
            if let Some(stop) = self.budget.must_stop(self.started, self.budget.time_limit) {
                self.stop = (candidate.bound < self.target()).then_some(stop).or(self.stop);
                self.lower(candidate.bound);
                break;
            }
            self.budget.report(done, candidates.len(), objective);
            let bound = self.bound_of(candidate)?;
            self.lower(bound);
        }
        Ok(())
    }

    fn lower(&mut self, bound: u64) {
        self.bound = self.bound.min(bound);
    }

    /// A bound for all splits of a configuration.
    fn bound_of(&mut self, candidate: &Candidate) -> Result<u64, PlanError> {
        let costs = self.prices.step_costs(candidate.configuration)?;
        if costs.stages() == 1 {
            return Ok(self.try_single(&costs));
        }
        let Some(floor) = Floor::new(&costs, Classes::Any) else { return Ok(u64::MAX) };
        let relaxed = floor.step(&costs).max(candidate.bound);
        if relaxed >= self.target() {
            return Ok(relaxed);
        }
        Ok(self.solve(&costs, &floor)?.max(relaxed))
    }

    /// One stage has nothing to cut: the classes are tried.
    fn try_single(&mut self, costs: &StepCosts) -> u64 {
        let cuts = |class| vec![StageCut { end: costs.blocks, class }];
        let found = (0..costs.classes()).filter_map(|class| self.offer(costs, cuts(class)));
        found.min().unwrap_or(u64::MAX)
    }

    /// Keeps a split that is better than the known ones; returns its step time if it fits.
    fn offer(&mut self, costs: &StepCosts, cuts: Vec<StageCut>) -> Option<u64> {
        let estimate = costs.estimate(&cuts)?;
        let total = estimate.total;
        self.incumbents.offer(Found { configuration: costs.configuration, cuts, estimate });
        Some(total)
    }

    fn solve(&mut self, costs: &StepCosts, floor: &Floor) -> Result<u64, PlanError> {
        let target = self.target();
        let mut slice = FIRST_SLICE;
        loop {
            let known = self.incumbents.best().filter(|found| found.configuration == costs.configuration);
            let start: Option<Vec<StageCut>> = known.map(|found| found.cuts.clone());
            let objective = self.incumbents.objective().unwrap_or(u64::MAX);
            let left = self.budget.time_limit.saturating_sub(self.started.elapsed());
            let seconds = if self.budget.interrupt.is_some() { left.min(slice) } else { left }.as_secs_f64();
            let columns = columns(costs, floor, target, start.as_deref());
            let Solved { cuts, bound, timed_out } = if columns.is_empty() {
                Solved { cuts: None, bound: None, timed_out: false }
            } else {
                let start = start.map(|cuts| path(costs, &cuts));
                let SearchBudget { relative_gap, seed, .. } = *self.budget;
                let limits = Limits { seconds, relative_gap, seed };
                Model::new(costs, floor, &columns, objective).solve(costs, start.as_deref(), limits)?
            };
            if let Some(cuts) = cuts {
                self.offer(costs, cuts);
            }
            let bound = bound.unwrap_or(u64::MAX).min(target);
            self.stop = self.budget.must_stop(self.started, self.budget.time_limit);
            if !timed_out || self.stop.is_some() || bound >= self.target() {
                return Ok(bound);
            }
            slice *= 2;
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/planner/support/mod.rs"]
mod planner_support;

#[cfg(test)]
mod tests {
    use super::planner_support::Instance;
    use super::*;
    use crate::planner::exhaustive::all_splits;

    /// The model with every column, no start and no cut-off, against all splits of every configuration.
    #[test]
    fn the_whole_model_equals_all_splits() {
        let (mut solved, mut infeasible) = (0, 0);
        let limits = Limits { seconds: 10.0, relative_gap: 0.0, seed: 0 };
        for seed in 0..100 {
            let instance = Instance::random(seed, 3..8, 3);
            let problem = instance.problem();
            let prices = Prices::new(&problem, &instance.cost).expect("prices");
            for candidate in candidates(&prices).expect("configurations") {
                let costs = prices.step_costs(candidate.configuration).expect("prices");
                let best = all_splits(&costs).map(|split| split.estimate.total).min();
                let Some(floor) = Floor::new(&costs, Classes::Any) else {
                    assert_eq!(best, None, "seed {seed}");
                    infeasible += 1;
                    continue;
                };
                let columns = columns(&costs, &floor, u64::MAX, None);
                let answer = Model::new(&costs, &floor, &columns, floor.step(&costs)).solve(&costs, None, limits);
                let Solved { cuts, bound, .. } = answer.expect("an answer");
                let total = cuts.and_then(|cuts| costs.estimate(&cuts)).map(|estimate| estimate.total);
                match (best, total) {
                    (Some(best), Some(total)) => {
                        let (total, bound) = (total as f64, bound.expect("a bound") as f64);
                        let near = |value: f64| (value - best as f64).abs() <= 2e-6 * best as f64 + 20.0;
                        assert!(near(total) && near(bound), "seed {seed}: {best} {total} {bound}");
                        solved += 1;
                    }
                    other => assert_eq!(other, (None, None), "seed {seed}: {candidate:?}"),
                }
            }
        }
        assert!(solved >= 500 && infeasible >= 10, "{solved} {infeasible}");
    }
}
