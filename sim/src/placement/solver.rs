//! The bridge to HiGHS: one thread, a fixed seed, and an answer that tells all endings apart.

use std::num::NonZeroU32;

use good_lp::solvers::highs::HighsProblem;
use highs::{HighsModelStatus, HighsSolutionStatus};

use super::error::PlaceError;

/// What HiGHS is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) seconds: f64,
    pub(crate) relative_gap: f64,
    pub(crate) seed: u32,
}

/// How HiGHS ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Solved {
    /// Values of the best solution, if there is one, and the bound on the objective.
    Ended(Option<Vec<f64>>, f64),
    /// Proven: the model has no solution.
    Infeasible,
}

/// Solves, from `start` (a value for every variable) if there is one.
pub(crate) fn solve(problem: HighsProblem, start: Option<&[f64]>, limits: Limits) -> Result<Solved, PlaceError> {
    let failed = |what: String| PlaceError::Solver(what);
    let mut model = problem.try_into_inner().map_err(|error| failed(error.to_string()))?;
    model.make_quiet();
    model.set_threads(NonZeroU32::MIN);
    model.set_option("parallel", "off");
    model.set_option("random_seed", i32::try_from(limits.seed).unwrap_or(i32::MAX));
    model.set_option("mip_rel_gap", limits.relative_gap);
    model.set_option("time_limit", limits.seconds.max(0.0));
    if let Some(start) = start {
        model.set_solution(Some(start), None, None, None);
    }
    let solved = model.try_solve().map_err(|status| failed(format!("HiGHS returned {status:?}")))?;
    match solved.status() {
        HighsModelStatus::Infeasible => return Ok(Solved::Infeasible),
        HighsModelStatus::Optimal
        | HighsModelStatus::ObjectiveBound
        | HighsModelStatus::ReachedTimeLimit
        | HighsModelStatus::ReachedInterrupt
        | HighsModelStatus::ReachedSolutionLimit
        | HighsModelStatus::ReachedIterationLimit => {}
        status => return Err(failed(format!("HiGHS stopped with status {status:?}"))),
    }
    let bound = solved.double_info_value(c"mip_dual_bound").map_err(|_| failed("HiGHS gave no bound".to_owned()))?;
    let feasible = solved.primal_solution_status() == HighsSolutionStatus::Feasible;
    Ok(Solved::Ended(feasible.then(|| solved.get_solution().columns().to_vec()), bound))
}
