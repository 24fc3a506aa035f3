//! Placement of operator graphs with given costs on accelerators and CPU cores.
//!
//! The problem is that of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators", NeurIPS 2020;
//! [`evaluate()`] states its model. [`place`] climbs a ladder of searchers and proves a lower bound as far as time allows:
//!
//! | searcher | splits | proves |
//! |---|---|---|
//! | `chain-dp` | contiguous along one topological order | nothing |
//! | `ideal-dp` | all contiguous ones whose devices can be put in an order | optimality |
//! | `annealing` | all | nothing |
//! | `milp` (feature `ilp`) | all | a bound |
//! | `blocks` | all with one block a device and pass, for latency | a bound |
//!
//! [`stages`] cuts graphs whose layers have variants into replicated, tensor-parallel stages.

mod annealing;
mod bottleneck;
mod error;
mod evaluate;
mod feasible;
mod groups;
mod ideal_dp;
mod latency;
mod lattice;
mod loads;
#[cfg(feature = "ilp")]
mod milp;
mod orders;
mod race;
mod relax;
#[cfg(feature = "ilp")]
pub(crate) mod solver;
pub mod stages;
mod throughput;
mod watch;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_graph::placement::PlacementProblem;
use cutplane_plan::StopReason;

pub use error::{PlaceError, PlacementViolation};
pub use evaluate::{DeviceUse, Evaluation, evaluate};
use watch::Watch;

/// What is minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacementObjective {
    /// The largest load of a device: time between samples of a full pipeline.
    #[default]
    Throughput,
    /// The completion of one sample.
    Latency,
}

/// What to look for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOptions<'a> {
    /// What is minimised.
    pub objective: PlacementObjective,
    /// Whether each pass on each device must be a convex set, the devices in an order (always so for latency).
    pub contiguous: bool,
    /// Ends the search with the best so far.
    pub time_limit: Duration,
    /// Ends the search when `(objective - bound) / objective` is at most this.
    pub relative_gap: f64,
    /// Seed of everything random. Equal seeds give equal placements where no limit of time cuts a search off; of the two runs
    /// of the mixed-integer program, which race each other, the first to prove its answer counts, and only the gap is sure.
    pub seed: u64,
    /// When raised, the search ends with the best so far.
    pub interrupt: Option<&'a AtomicBool>,
}

impl Default for PlaceOptions<'_> {
    fn default() -> Self {
        Self {
            objective: PlacementObjective::Throughput,
            contiguous: false,
            time_limit: Duration::from_mins(1),
            relative_gap: 1e-3,
            seed: 0,
            interrupt: None,
        }
    }
}

/// A placement, and what is known of its optimality.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Device of each node, by position: accelerators `0..k`, CPU cores from `k`.
    pub assignment: Vec<usize>,
    /// What the evaluator makes of it.
    pub evaluation: Evaluation,
    /// Value of the objective asked for.
    pub objective: f64,
    /// No placement of the kind asked for is better; 0 when nothing was proven.
    pub bound: f64,
    /// Why the search ended.
    pub stop: StopReason,
    /// The searcher that found the placement.
    pub searcher: &'static str,
    /// Time of the whole search, s.
    pub seconds: f64,
}

impl Placed {
    /// `(objective - bound) / objective`, 0 where the objective is.
    pub fn gap(&self) -> f64 {
        if self.objective > 0.0 { ((self.objective - self.bound) / self.objective).max(0.0) } else { 0.0 }
    }
}

/// Looks for the best placement.
///
/// # Errors
/// [`PlaceError`]: that none exists, that none was found in time, and that the search was interrupted are told apart.
pub fn place(problem: &PlacementProblem, options: &PlaceOptions<'_>) -> Result<Placed, PlaceError> {
    feasible::check(problem)?;
    let watch = Watch::new(options.time_limit, options.interrupt);
    let answer = if options.objective == PlacementObjective::Latency {
        latency::search(problem, options, &watch)?
    } else if options.contiguous {
        throughput::contiguous(problem, options, &watch)?
    } else {
        throughput::free(problem, options, &watch)?
    };
    finish(problem, options, &watch, answer)
}

/// A searcher's answer.
struct Answer {
    assignment: Vec<usize>,
    bound: f64,
    searcher: &'static str,
    /// Whether all that the searchers look at was looked at.
    exhausted: bool,
}

fn finish(
    problem: &PlacementProblem,
    options: &PlaceOptions<'_>,
    watch: &Watch<'_>,
    answer: Answer,
) -> Result<Placed, PlaceError> {
    let Answer { assignment, bound, searcher, exhausted } = answer;
    let evaluation = evaluate(problem, &assignment)
        .map_err(|violation| PlaceError::Wrong { searcher: searcher.to_owned(), violation })?;
    let objective = match options.objective {
        PlacementObjective::Throughput => evaluation.max_load,
        PlacementObjective::Latency => evaluation.latency.unwrap_or(f64::INFINITY),
    };
    let bound = bound.min(objective);
    let mut placed = Placed {
        assignment,
        evaluation,
        objective,
        bound,
        stop: StopReason::TimeLimit,
        searcher,
        seconds: watch.started.elapsed().as_secs_f64(),
    };
    placed.stop = if placed.gap() <= OPTIMAL_GAP {
        StopReason::ProvenOptimal
    } else if placed.gap() <= options.relative_gap * (1.0 + 1e-6) {
        StopReason::GapReached
    } else if watch.interrupted() {
        StopReason::Interrupted
    } else if exhausted {
        StopReason::CandidatesExhausted
    } else {
        StopReason::TimeLimit
    };
    Ok(placed)
}

/// Gaps below this are rounding: such a placement counts as optimal.
const OPTIMAL_GAP: f64 = 1e-6;
