//! The integer program as a searcher: from the beam's assignment to a proven bound.

mod model;

use std::time::{Duration, Instant};

use cutplane_plan::StopReason;
use good_lp::solvers::highs::HighsProblem;

use self::model::{Aim, Copies, Model};
use super::beam::BeamSharder;
use super::error::{ShardError, whole_bytes};
use super::outcome::{NO_GAP, ShardOutcome, Sharder, gap};
use super::problem::ShardBudget;
use super::table::{Evaluation, ShardTable};
use crate::placement::solver::{Limits, Solved, solve_until};

/// First slice of a solve that the user may interrupt: what the solver finds counts from the end of its slice on.
const FIRST_SLICE: Duration = Duration::from_secs(10);
/// Least time for the search for what would fit.
const LEAST_MEMORY_TIME: Duration = Duration::from_secs(10);
/// Time that the bound over unequal copies may take, over the limit of the search.
const SHARE_OF_UNEQUAL: f64 = 0.5;

/// Integer linear program, with a proven bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IlpSharder {
    /// The searcher that makes the start.
    pub start: BeamSharder,
}

impl Sharder for IlpSharder {
    fn name(&self) -> &'static str {
        "ilp"
    }

    fn shard(&self, table: &ShardTable, budget: &ShardBudget<'_>) -> Result<ShardOutcome, ShardError> {
        let started = Instant::now();
        let known = match self.start.shard(table, budget) {
            Ok(outcome) => Some((outcome.choice, outcome.evaluation)),
            Err(ShardError::NoIncumbent { .. }) => None,
            Err(error) => return Err(error),
        };
        let searcher = if known.is_some() { self.start.name() } else { self.name() };
        let mut run = Run { table, budget, started, known, bound: table.floor(), searcher, variables: 0 };
        run.solve()?;
        run.outcome()
    }
}

/// A search under way.
struct Run<'a> {
    table: &'a ShardTable,
    budget: &'a ShardBudget<'a>,
    started: Instant,
    known: Option<(Vec<usize>, Evaluation)>,
    bound: f64,
    searcher: &'static str,
    variables: usize,
}

impl Run<'_> {
    fn left(&self) -> Duration {
        self.budget.time_limit.saturating_sub(self.started.elapsed())
    }

    fn limits(&self, time: Duration) -> Limits {
        // A limit beyond what the solver counts is none that matters.
        let seconds = time.as_secs_f64().min(1e9);
        Limits { seconds, relative_gap: self.budget.relative_gap, seed: self.budget.seed }
    }

    fn gap(&self) -> f64 {
        self.known.as_ref().map_or(f64::INFINITY, |(_, found)| gap(found.seconds, self.bound))
    }

    fn is_closed(&self) -> bool {
        self.gap() <= self.budget.relative_gap.max(NO_GAP)
    }

    /// Solves in slices, so that the user can interrupt.
    fn solve(&mut self) -> Result<(), ShardError> {
        let mut slice = FIRST_SLICE;
        while !self.is_closed() && !self.left().is_zero() && !self.budget.interrupted() {
            let time = if self.budget.interrupt.is_some() { self.left().min(slice) } else { self.left() };
            let begun = Instant::now();
            self.solve_for(time)?;
            // The solver ended by itself: what is left of the gap is its tolerance.
            if begun.elapsed() < time {
                break;
            }
            slice *= 4;
        }
        Ok(())
    }

    fn solve_for(&mut self, time: Duration) -> Result<(), ShardError> {
        let first = vec![0; self.table.nodes.len()];
        let start = self.known.as_ref().map_or(&first, |(choice, _)| choice);
        let scale = self.known.as_ref().map_or(0.0, |(_, found)| found.seconds);
        let model = Model::new(self.table, start, Aim::Seconds, Copies::Alike, scale);
        self.variables = model.variables();
        let (unit, sizes) = (model.unit, model.sizes());
        let start = self.known.is_some().then_some(&model.start[..]);
        match self.solved(model.problem, start, self.limits(time))? {
            None => Ok(()),
            // A known assignment outweighs a solver that misses it by its tolerance.
            Some(Solved::Infeasible) if self.known.is_some() => Ok(()),
            Some(Solved::Infeasible) => Err(self.infeasible()?),
            Some(Solved::Ended { values, bound, .. }) => {
                // The solver's tolerance comes off.
                self.bound = self.bound.max(bound * unit * (1.0 - 1e-7));
                if let Some(values) = values {
                    self.offer(Model::chosen(&sizes, &values));
                }
                Ok(())
            }
        }
    }

    /// Solves with the bridge that placement uses; `None` when the user interrupts.
    fn solved(
        &self,
        problem: HighsProblem,
        start: Option<&[f64]>,
        limits: Limits,
    ) -> Result<Option<Solved>, ShardError> {
        solve_until(problem, start, limits, self.budget.interrupt)
            .map_err(|error| ShardError::Solver(error.to_string()))
    }

    fn offer(&mut self, choice: Vec<usize>) {
        let Some(found) = self.table.feasible(&choice) else { return };
        if self.known.as_ref().is_none_or(|(_, known)| found.seconds < known.seconds) {
            self.known = Some((choice, found));
            self.searcher = "ilp";
        }
    }

    /// The least memory that any assignment needs.
    fn infeasible(&self) -> Result<ShardError, ShardError> {
        let first = vec![0; self.table.nodes.len()];
        let model = Model::new(self.table, &first, Aim::Memory, Copies::Alike, 0.0);
        let sizes = model.sizes();
        let limits = Limits { relative_gap: 0.0, ..self.limits(self.budget.time_limit.max(LEAST_MEMORY_TIME)) };
        let smallest = match self.solved(model.problem, None, limits)? {
            Some(Solved::Ended { values: Some(values), .. }) => {
                self.table.evaluate(&Model::chosen(&sizes, &values)).memory
            }
            _ => f64::INFINITY,
        };
        if smallest.is_finite() {
            return Ok(ShardError::Infeasible {
                limit: whole_bytes(self.table.memory_limit),
                smallest: whole_bytes(smallest),
            });
        }
        let problem = "no choices of the nodes go together".to_owned();
        Ok(ShardError::Table { problem })
    }

    /// A bound for plans whose copies differ.
    fn bound_of_unequal(&self, choice: &[usize], seconds: f64) -> Result<Option<f64>, ShardError> {
        if self.table.nodes.iter().all(|node| node.copies == 1) {
            return Ok(Some(self.bound));
        }
        let time = self.budget.time_limit.mul_f64(SHARE_OF_UNEQUAL);
        if time.is_zero() || self.budget.interrupted() {
            return Ok(None);
        }
        let model = Model::new(self.table, choice, Aim::Seconds, Copies::Free, seconds);
        let unit = model.unit;
        Ok(match self.solved(model.problem, None, self.limits(time))? {
            Some(Solved::Ended { bound, .. }) => Some((bound * unit * (1.0 - 1e-7)).clamp(0.0, self.bound)),
            Some(Solved::Infeasible) | None => None,
        })
    }

    fn outcome(self) -> Result<ShardOutcome, ShardError> {
        let gap = self.gap();
        let Some((choice, evaluation)) = self.known.clone() else {
            return Err(ShardError::NoIncumbent {
                limit: whole_bytes(self.table.memory_limit),
                spent: self.started.elapsed(),
                remedy: "give it more time, or raise --memory-cap",
            });
        };
        let bound_of_unequal = self.bound_of_unequal(&choice, evaluation.seconds)?;
        let stop = match gap {
            gap if gap <= NO_GAP => StopReason::ProvenOptimal,
            gap if gap <= self.budget.relative_gap => StopReason::GapReached,
            _ if self.budget.interrupted() => StopReason::Interrupted,
            _ => StopReason::TimeLimit,
        };
        Ok(ShardOutcome {
            choice,
            evaluation,
            bound: self.bound.min(evaluation.seconds),
            bound_of_unequal,
            stop,
            searcher: self.searcher,
            variables: self.variables,
            search_seconds: self.started.elapsed().as_secs_f64(),
        })
    }
}
