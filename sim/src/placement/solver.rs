//! The bridge to HiGHS: one thread, a fixed seed, and an answer that tells all endings apart.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use good_lp::solvers::highs::HighsProblem;
use highs::{HighsModelStatus, HighsSolutionStatus, Model, SolvedModel};

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
    /// Values of the best solution, if there is one, the bound on the objective, and whether a limit ended it.
    Ended { values: Option<Vec<f64>>, bound: f64, limited: bool },
    /// Proven: the model has no solution.
    Infeasible,
}

/// Solves, from `start` (a value for every variable) if there is one.
pub(crate) fn solve(problem: HighsProblem, start: Option<&[f64]>, limits: Limits) -> Result<Solved, PlaceError> {
    let mut model = problem.try_into_inner().map_err(|error| failed(&error.to_string()))?;
    model.make_quiet();
    model.set_threads(NonZeroU32::MIN);
    model.set_option("parallel", "off");
    model.set_option("random_seed", i32::try_from(limits.seed).unwrap_or(i32::MAX));
    model.set_option("mip_rel_gap", limits.relative_gap);
    model.set_option("time_limit", limits.seconds.max(0.0));
    let solved = run(model, start)?;
    match answer(&solved) {
        Err(_) => {
            // HiGHS now and then refuses its own answer over a row off by a little more than the tolerance.
            let mut again = Model::from(solved);
            again.set_option("presolve", "off");
            answer(&run(again, start)?)
        }
        answered => answered,
    }
}

/// As [`solve`], and leaves the solver to itself when the user interrupts: `None`. It ends by its limit of time.
pub(crate) fn solve_until(
    problem: HighsProblem,
    start: Option<&[f64]>,
    limits: Limits,
    interrupt: Option<&AtomicBool>,
) -> Result<Option<Solved>, PlaceError> {
    let Some(interrupt) = interrupt else { return solve(problem, start, limits).map(Some) };
    let start = start.map(<[f64]>::to_vec);
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        // The receiver may have left.
        let _ = sender.send(solve(problem, start.as_deref(), limits));
    });
    loop {
        match answers.recv_timeout(Duration::from_millis(20)) {
            Ok(solved) => return solved.map(Some),
            Err(RecvTimeoutError::Timeout) if interrupt.load(Ordering::Relaxed) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(failed("the thread that ran HiGHS ended")),
        }
    }
}

fn run(mut model: Model, start: Option<&[f64]>) -> Result<SolvedModel, PlaceError> {
    if let Some(start) = start {
        model.set_solution(Some(start), None, None, None);
    }
    model.try_solve().map_err(|status| failed(&format!("HiGHS returned {status:?}")))
}

fn answer(solved: &SolvedModel) -> Result<Solved, PlaceError> {
    let limited = match solved.status() {
        HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible => return Ok(Solved::Infeasible),
        HighsModelStatus::Optimal | HighsModelStatus::ObjectiveBound => false,
        HighsModelStatus::ReachedTimeLimit
        | HighsModelStatus::ReachedInterrupt
        | HighsModelStatus::ReachedSolutionLimit
        | HighsModelStatus::ReachedIterationLimit => true,
        status => return Err(failed(&format!("HiGHS stopped with status {status:?}"))),
    };
    let bound = solved.double_info_value(c"mip_dual_bound").map_err(|_| failed("HiGHS gave no bound"))?;
    let feasible = solved.primal_solution_status() == HighsSolutionStatus::Feasible;
    Ok(Solved::Ended { values: feasible.then(|| solved.get_solution().columns().to_vec()), bound, limited })
}

fn failed(what: &str) -> PlaceError {
    PlaceError::Solver(what.to_owned())
}
