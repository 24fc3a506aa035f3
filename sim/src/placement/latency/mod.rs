//! The ladder of searchers for latency.

mod branch;
mod descent;
mod model;
mod starts;

use cutplane_graph::placement::PlacementProblem;

use super::error::PlaceError;
use super::feasible::too_tight;
use super::groups::Groups;
use super::orders::{Random, ready_order};
use super::watch::Watch;
use super::{Answer, PlaceOptions};
use descent::{Neighbours, Schedule, anneal};
use model::{LatencyModel, Scratch};

/// Random orders that starts are made along.
const RANDOM_ORDERS: usize = 30;

/// Most moves of one descent, and moves for each place that a class may have.
const MOVES: usize = 150_000;
const MOVES_A_PLACE: usize = 300;

/// Rounds of descents without a better assignment after which annealing ends.
const PATIENCE: usize = 8;

/// First temperatures of the rounds, in turn, as fractions of the latency.
const HOT: [f64; 4] = [0.0005, 0.005, 0.03, 0.1];

/// Starts that are improved side by side in the first rounds.
const STARTS: usize = 4;

/// The best assignment for latency.
pub(super) fn search(
    problem: &PlacementProblem,
    options: &PlaceOptions<'_>,
    watch: &Watch<'_>,
) -> Result<Answer, PlaceError> {
    let model = LatencyModel::new(problem);
    let mut starts = starts(&model, options.seed, &watch.part(0.1));
    starts.sort_by(|a, b| a.1.total_cmp(&b.1));
    starts.dedup_by(|a, b| a.1 <= b.1);
    starts.truncate(STARTS);
    let quick = branch::search(&model, known(&starts), options.relative_gap, &watch.part(0.05));
    starts.splice(0..0, quick.better.map(|(device, value)| (device, value, "branch-and-bound")));
    let mut bound = quick.bound;
    if known(&starts) * (1.0 - options.relative_gap) > bound {
        improve(&model, &mut starts, options, &watch.part(0.6));
        let long = branch::search(&model, known(&starts), options.relative_gap, watch);
        starts.splice(0..0, long.better.map(|(device, value)| (device, value, "branch-and-bound")));
        bound = bound.max(long.bound);
    }
    match starts.into_iter().next() {
        Some((device, _, searcher)) => {
            let assignment = model.classes.spread(&device);
            Ok(Answer { assignment, bound, searcher, exhausted: !watch.must_stop() })
        }
        None if bound.is_infinite() => Err(too_tight(&model.classes, "latency", |wider| {
            starts::sequence(wider, &ready_order(wider, true, |_| 0.0)).is_some()
        })),
        None => Err(watch.nothing("give it one CPU core (maxCPUs 1)")),
    }
}

/// Latency of the best.
fn known(starts: &[Start]) -> f64 {
    starts.first().map_or(f64::INFINITY, |best| best.1)
}

/// Anneals on two threads until rounds bring nothing more; the best comes first.
fn improve(model: &LatencyModel<'_>, starts: &mut Vec<Start>, options: &PlaceOptions<'_>, watch: &Watch<'_>) {
    let near = Neighbours::new(model);
    let (mut round, mut idle) = (0, 0);
    let moves = (MOVES_A_PLACE * model.classes.count() * (model.accelerators + 1)).min(MOVES);
    while idle < PATIENCE && !starts.is_empty() && !watch.must_stop() {
        let schedule = Schedule { moves, hot: HOT[round % HOT.len()], cold: 1e-6 };
        let walk = |walker: usize| {
            let number = 2 * round + walker;
            // Every start is tried at every temperature, then the best alone.
            let start = if round < HOT.len() { number % starts.len() } else { 0 };
            let mut random = Random::new(options.seed.wrapping_mul(1_000_003) ^ number as u64);
            anneal(model, &near, &starts[start].0, schedule, &mut random, watch)
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| walk(1));
            (walk(0), other.join())
        });
        (round, idle) = (round + 1, idle + 1);
        for (device, value) in other.into_iter().chain([one]) {
            if value < known(starts) * (1.0 - 1e-9) {
                starts.insert(0, (device, value, "annealing"));
                idle = 0;
            }
        }
    }
}

type Start = (Vec<usize>, f64, &'static str);

/// Assignments that keep all limits, with their latency.
fn starts(model: &LatencyModel<'_>, seed: u64, watch: &Watch<'_>) -> Vec<Start> {
    let mut random = Random::new(seed);
    let groups = Groups::of_order(model.problem);
    let mut scratch = Scratch::default();
    let mut found: Vec<Start> = Vec::new();
    for turn in 0..RANDOM_ORDERS + 2 {
        if turn > 0 && watch.must_stop() {
            break;
        }
        let order = match turn {
            0 => ready_order(&groups, true, |_| 0.0),
            1 => ready_order(&groups, false, |_| 0.0),
            _ => {
                let keys: Vec<f64> = (0..groups.count()).map(|_| random.unit()).collect();
                ready_order(&groups, turn % 2 == 0, |group| if turn % 4 < 2 { keys[group] } else { 0.0 })
            }
        };
        let made =
            [(Some(starts::fill(&groups, &order)), "greedy"), (starts::sequence(&groups, &order), "sequence-dp")];
        for (device, name) in made {
            let Some(device) = device else { continue };
            let device = super::throughput::by_class(&model.classes, &groups, &device);
            let allowed = device.iter().enumerate().all(|(class, device)| model.may_hold(class, *device));
            let value = if allowed { model.latency(&device, &mut scratch) } else { f64::INFINITY };
            if value.is_finite() {
                found.push((device, value, name));
            }
        }
    }
    found
}
